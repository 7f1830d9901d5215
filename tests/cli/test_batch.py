"""`orchestrator batch`: shown first, done with --yes, once, with an exit code for what was refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from orchestrator.core import commands as c
from orchestrator.core.ids import MAX_COMMAND_ID, MAX_WORKFLOW_ID
from tests.cli.conftest import Ran
from tests.client.fake_engine import FakeEngine, payload

Run = Callable[..., Ran]


def three(run: Run) -> None:
    for number in range(3):
        assert run("workflow", "start", "order", "--id", f"order-{number}").code == 0


def test_a_dry_run_shows_and_does_nothing(engine: FakeEngine, run: Run) -> None:
    three(run)
    ran = run("batch", "terminate", "-o", "json")
    assert ran.code == 0
    assert [row["workflow_id"] for row in sorted(ran.json, key=lambda row: row["workflow_id"])] == [
        "order-0", "order-1", "order-2",
    ]  # fmt: skip
    assert "3 runs would be asked; --yes does it" in ran.err
    assert {one.status for one in engine.runs_of_all()} == {"running"}


def test_a_batch_is_done_once_under_its_id(engine: FakeEngine, run: Run) -> None:
    three(run)
    first = run("batch", "signal", "go", "7", "--yes", "--batch", "b1", "--reason", "Monday", "-o", "json")
    assert (first.code, first.json) == (0, {"batch_id": "b1", "done": 3, "refused": 0, "unknown": 0, "others": []})
    assert run("batch", "signal", "go", "7", "--yes", "--batch", "b1").code == 0
    assert [len(one.signals) for one in engine.runs_of_all()] == [1, 1, 1]
    assert engine.handled[-1].reason == "Monday"


def test_another_thing_under_the_same_id_is_done_too(engine: FakeEngine, run: Run) -> None:
    three(run)
    for words in (["signal", "go", "7"], ["signal", "go", "8"], ["signal", "stop", "7"], ["fork", "a"], ["fork", "b"]):
        assert run("batch", *words, "--yes", "--batch", "b1").code == 0
    assert [[name for name, _ in one.signals] for one in engine.runs_of_all()] == [["go", "go", "stop"]] * 3
    assert [command.body.step for command in engine.handled if isinstance(command.body, c.ForkWorkflow)] == [
        *["a"] * 3,
        *["b"] * 3,
    ]
    assert run("batch", "cancel", "--yes", "--batch", "b1").code == 0
    assert {one.status for one in engine.runs_of_all()} == {"cancelled"}


def test_a_workflow_id_of_any_length_is_asked(engine: FakeEngine, run: Run) -> None:
    assert run("workflow", "start", "order", "--id", "o" * MAX_WORKFLOW_ID).code == 0
    assert run("batch", "signal", "go", "7", "--yes").code == 0
    assert len(engine.handled[-1].id) <= MAX_COMMAND_ID


def test_what_is_refused_is_listed_and_the_exit_code_says_so(engine: FakeEngine, run: Run) -> None:
    three(run)
    # It ends after it was chosen: this engine's lists take no notice of a status.
    engine.runs["order-1"][-1].status = "completed"
    ran = run("batch", "terminate", "--yes", "--status", "running", "--limit", "3")
    assert ran.code == 1
    assert "order-1" in ran.out
    assert "2 done, 1 refused" in ran.err


def test_a_bad_filter_is_named(engine: FakeEngine, run: Run) -> None:
    assert run("batch", "cancel", "--limit", "0").code == 2


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["reset", "--status", "failed"], c.ForkWorkflow(signals=True)),
        (["reset", "--event", "7"], c.ForkWorkflow(event=7, signals=True)),
        (["reset", "--event", "7", "--drop-signals"], c.ForkWorkflow(event=7)),
        (["fork", "charge"], c.ForkWorkflow(step="charge")),
        (["fork", "0:3", "--type", "order", "--input", '{"cents": 9}'],
         c.ForkWorkflow(step="0:3", arguments=payload({"cents": 9}))),
    ],
)  # fmt: skip
def test_runs_go_on_once_a_workflow_as_the_options_say(
    engine: FakeEngine, run: Run, words: list[str], body: c.ForkWorkflow
) -> None:
    three(run)
    before = len(engine.handled)
    assert run("batch", *words).code == 0
    assert len(engine.handled) == before, "a dry run"
    assert run("batch", *words, "--yes", "--batch", "b1").code == 0
    sent = engine.handled[before:]
    assert {command.workflow_id: command.body for command in sent} == {
        f"order-{number}": body._replace(run_id=f"run-order-{number}-0") for number in range(3)
    }
    assert {command.id.split("/")[0] for command in sent} == {"b1"}
    assert run("batch", *words, "--yes", "--batch", "b1").code == 0
    assert len(engine.handled) == before + 3, "the same again"
    lists = [json.loads(one.body.arguments.data) for _, _, one in engine.received if _is_list(one.body)]
    assert {asked["newest"] for asked in lists} == {True}


def _is_list(body: object) -> bool:
    return isinstance(body, c.QueryWorkflow) and body.kind == "list"


def test_a_signal_has_a_text_as_its_value_where_it_is_no_json(engine: FakeEngine, run: Run) -> None:
    three(run)
    assert run("batch", "signal", "go", "on", "--yes").code == 0
    assert {signal for one in engine.runs_of_all() for signal in one.signals} == {("go", payload("on"))}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cancel", "--event", "3"], "No such option"),
        (["fork", "charge", "--event", "3"], "No such option"),
        (["fork", "charge", "--drop-signals"], "No such option"),
        (["reset", "--input", "{}"], "No such option"),
        (["reset", "--event", "0"], "0 is not in the range x>=1"),
        (["reset", "--status", "completed"], "reset is for runs that are failed, not completed; behind an event"),
        (["fork", "charge", "--status", "continued_as_new"], "not continued_as_new"),
        (["fork"], "Missing argument 'STEP'"),
        (["fork", ""], "it is empty"),
        (["fork", "charge", "--input", "{}"], "--input needs --type: arguments are those of one workflow"),
        (["fork", "charge", "--type", "order", "--input", "[1]"], "--input must be a JSON object"),
        (["fork", "charge", "--type", "order", "--input", "{"], "--input is not JSON"),
        (["signal", ""], "it is empty"),
        (["cancel", "--where", "amount about 3"], "is not NAME OPERATOR VALUE"),
    ],
)
@pytest.mark.parametrize("carried_out", [False, True])
def test_what_cannot_be_is_a_sentence_and_sends_nothing(
    engine: FakeEngine, run: Run, words: list[str], said: str, carried_out: bool
) -> None:
    ran = run("batch", *words, *(["--yes"] if carried_out else []))
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert engine.handled == []


def test_other_arguments_are_compared_with_the_code_of_each_version(
    engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCHESTRATOR_APP_NAME")
    shop = ("--app", "tests.client.shop:app")
    assert run(*shop, "workflow", "start", "order", "--id", "order-1", "order_id=a", 'items=["pen"]').code == 0
    words = ("batch", "fork", "charge", "--type", "order", "--input")
    ran = run(*shop, *words, '{"order_id": "a", "itemz": []}')
    assert (ran.code, "itemz" in ran.err) == (2, True)
    assert run(*shop, *words, '{"order_id": "b", "items": []}').code == 0
    assert run("--app-name", "shop", *words, '{"itemz": []}').code == 0, "the engine decides"
    assert len(engine.handled) == 1
