"""`orchestrator workflow` and `orchestrator step`: what goes to the engine, what is printed, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable

import click
import pytest

from orchestrator.cli.output import PAGE
from orchestrator.core import commands as c
from orchestrator.core.values import Failure
from tests.cli.conftest import Ran
from tests.client.fake_engine import FakeEngine, FakeRun, payload

Run = Callable[..., Ran]

EVENTS = [
    {"seq": 1, "type": "RunStarted", "at_ms": 1_700_000_000_000, "body": {"workflow_type": "order", "seed": "s"}},
    {
        "seq": 2,
        "type": "StepScheduled",
        "at_ms": 1_700_000_001_000,
        "body": {"path": "0", "n": 1, "name": "charge", "call_site": "shop.py:3", "arguments": {"cents": 9}},
    },
    {
        "seq": 3,
        "type": "StepAttemptFailed",
        "at_ms": 1_700_000_002_000,
        "body": {"step": "0:1", "attempt": 1, "failure": {"type": "OSError", "message": "no route"}},
    },
]


def start(engine: FakeEngine, run: Run, workflow_id: str = "order-7") -> FakeRun:
    """Start a run from the command line."""
    assert run("workflow", "start", "order", "--id", workflow_id).code == 0
    return engine.runs[workflow_id][-1]


def last(engine: FakeEngine) -> c.Command:
    """The command decided last."""
    return engine.handled[-1]


def test_start_sends_what_was_given(engine: FakeEngine, run: Run) -> None:
    ran = run(
        "workflow", "start", "order", "order_id=7x", "cents=9", 'items=["pen"]', "--id", "order-7", "--reuse", "reject",
        "--delay", "1.5", "--version", "2", "--memo", '{"who": "eva"}', "--reason", "Monday", "--command-id", "k1",
        "-o", "json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json == {
        "workflow_id": "order-7",
        "run_id": "run-order-7-0",
        "outcome": "RunStarted",
        "command_id": "k1",
    }
    command = last(engine)
    assert (command.id, command.reason, command.actor.kind, command.actor.via) == ("k1", "Monday", "person", "cli")
    assert isinstance(command.body, c.StartWorkflow)
    assert json.loads(command.body.arguments.data) == {"order_id": "7x", "cents": 9, "items": ["pen"]}
    assert (command.body.reuse, command.body.start_delay_ms, command.body.version) == ("reject", 1500, 2)
    assert json.loads(command.body.memo.data) == {"who": "eva"}


def test_start_makes_up_an_id(engine: FakeEngine, run: Run) -> None:
    assert run("workflow", "start", "order").code == 0
    assert last(engine).workflow_id.startswith("order-")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cents"], "'cents' is not an argument: write name=value"),
        (["--input", "[1]"], "--input must be a JSON object"),
        (["--input", "{"], "--input is not JSON"),
        (["--input", "@/nowhere/at/all"], "No such file"),
    ],
)
def test_bad_arguments_are_usage_errors(engine: FakeEngine, run: Run, words: list[str], sentence: str) -> None:
    ran = run("workflow", "start", "order", *words)
    assert ran.code == 2
    assert sentence in ran.err
    assert engine.received == []


def test_a_second_start_is_rejected_with_code_5(engine: FakeEngine, run: Run) -> None:
    start(engine, run)
    ran = run("workflow", "start", "order", "--id", "order-7")
    assert (ran.code, ran.out) == (5, "")
    assert ran.err == "error: order-7 is running\n"


def test_execute_prints_the_result_alone(engine: FakeEngine, run: Run) -> None:
    def end(fake: FakeEngine, command: c.Command) -> None:
        if isinstance(command.body, c.StartWorkflow):
            fake.runs["order-7"][0].status, fake.runs["order-7"][0].result = "completed", payload("paid: 3 g")

    engine.script = end
    ran = run("workflow", "execute", "order", "--id", "order-7")
    assert (ran.code, ran.out) == (0, "paid: 3 g\n")


def test_wait_tells_a_failure_with_code_1(engine: FakeEngine, run: Run) -> None:
    ended = start(engine, run)
    ended.status, ended.failure = "failed", Failure("CardDeclined", "no money")
    ran = run("workflow", "wait", "order-7")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: order-7/run-order-7-0 failed: CardDeclined: no money\n"
    ran = run("workflow", "wait", "order-7", "-o", "json")
    assert ran.code == 1
    assert ran.json["failure"] == {"type": "CardDeclined", "message": "no money"}


def test_wait_gives_up_with_code_4_and_shows_what_it_waits_for(engine: FakeEngine, run: Run) -> None:
    start(engine, run)
    ran = run("workflow", "wait", "order-7", "--timeout", "1.3")
    assert ran.code == 4
    assert "order-7 running, 1 steps done: waits for step charge (parked, attempt 1)" in ran.err
    assert "has not ended within 1.3 s" in ran.err


def test_show_says_why_it_waits(engine: FakeEngine, run: Run) -> None:
    start(engine, run)
    ran = run("workflow", "show", "order-7")
    assert ran.code == 0
    assert ran.out.startswith("order-7 is running: waits for step charge (parked, attempt 1)\n")
    assert "0:1" in ran.out
    assert "2023-11-14 22:13:20Z" in ran.out
    assert run("workflow", "show", "order-7", "-o", "jsonl").json["pending_steps"][0]["name"] == "charge"


def test_an_unknown_workflow_is_code_3(engine: FakeEngine, run: Run) -> None:
    ran = run("workflow", "show", "order-8")
    assert (ran.code, ran.err) == (3, "error: order-8: no such workflow\n")


def test_history_in_all_formats(engine: FakeEngine, run: Run) -> None:
    start(engine, run).events = EVENTS
    table = run("workflow", "history", "order-7").out.splitlines()
    assert [line.split()[0] for line in table] == ["seq", "1", "2", "3"]
    assert table[2].endswith('StepScheduled      0:1 charge arguments={"cents": 9}')
    assert table[3].endswith("step=0:1 attempt=1 OSError: no route")
    assert [event["seq"] for event in run("workflow", "history", "order-7", "-o", "json").json] == [1, 2, 3]
    lines = run("workflow", "history", "order-7", "--from", "2", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [2, 3]


def test_a_large_value_is_a_name_and_a_size_in_a_line_of_history(engine: FakeEngine, run: Run) -> None:
    ref = {"store": "directory", "name": "ab" * 32, "size": 1_200_000}
    held = {"$codec": "json", "key_id": "", "base64": "", "blob": ref}
    body = {"path": "0", "n": 1, "name": "charge", "arguments": held}
    start(engine, run).events = [{**EVENTS[1], "seq": 1, "body": body}]
    table = run("workflow", "history", "order-7").out.splitlines()
    assert table[1].endswith("0:1 charge arguments=(blob abababababab, 1,200,000 bytes)")
    assert run("workflow", "history", "order-7", "-o", "json").json[0]["body"]["arguments"] == held


def test_history_is_printed_as_it_comes(engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next page is asked for when the one before it was printed, and no more is held."""
    start(engine, run).events = [{"seq": n, "type": "Ticked", "at_ms": 0, "body": {}} for n in range(1, 1_202)]
    printed: list[str] = []
    monkeypatch.setattr(click, "echo", lambda text="", nl=True, err=False: printed.append(f"{text}\n" if nl else text))
    behind: list[int] = []

    def asked(fake: FakeEngine, command: c.Command) -> None:
        body = command.body
        if isinstance(body, c.QueryWorkflow) and body.kind == "history":
            behind.append(json.loads(body.arguments.data)["from_seq"] - 1 - len(printed))

    engine.script = asked
    for output, most in (("jsonl", 0), ("json", 0), ("table", PAGE)):
        assert run("workflow", "history", "order-7", "-o", output).code == 0
        assert max(behind) <= most, output
        text = "".join(printed)
        found = json.loads(text) if output == "json" else text.splitlines()
        assert len(found) == 1_201 + (output == "table")
        printed.clear()
        behind.clear()


def test_a_page_of_a_history_says_where_the_next_one_begins(engine: FakeEngine, run: Run) -> None:
    start(engine, run).events = EVENTS
    ran = run("workflow", "history", "order-7", "--limit", "2", "-o", "json")
    assert [event["seq"] for event in ran.json] == [1, 2]
    assert ran.err == "there is more: --from 3\n"
    rest = run("workflow", "history", "order-7", "--from", "3", "--limit", "2", "-o", "jsonl")
    assert (rest.json["seq"], rest.err) == (3, "")
    assert run("workflow", "history", "order-7", "--from", "4", "-o", "json").json == []


def test_show_names_the_relatives_of_a_run(engine: FakeEngine, run: Run) -> None:
    start(engine, run).relatives = {
        "parent": {"workflow_id": "trip-1", "run_id": "run-t", "step": "0:2"},
        "previous_run_id": "run-before",
        "next_run_id": "run-after",
        "forked_upto": 9,
        "forks": [{"run_id": "run-fork", "upto": 4}],
        "children": [
            {"step": "0:3", "workflow_type": "pack", "workflow_id": "pack-1", "run_id": "run-p", "status": "failed"}
        ],
        "untaken_signals": [{"seq": 5, "name": "hurry", "at_ms": 1_700_000_000_000, "id": "c-1"}],
    }
    said = [" ".join(line.split()) for line in run("workflow", "show", "order-7").out.splitlines()]
    for line in (
        "parent trip-1 run run-t, its step 0:2",
        "previous run run-before, forked behind its event 9",
        "next run run-after",
        "forks run-fork behind event 4",
        "untaken 1 signals that its code has not taken",
        "0:3 pack pack-1 failed run-p",
        "5 hurry 2023-11-14 22:13:20Z c-1",
    ):
        assert line in said
    shown = run("workflow", "show", "order-7", "-o", "json").json
    assert shown["parent"]["workflow_id"] == "trip-1"
    assert [one["name"] for one in shown["untaken_signals"]] == ["hurry"]


def test_watch_prints_events_until_the_end_and_follows_continue_as_new(engine: FakeEngine, run: Run) -> None:
    first = start(engine, run)
    first.events = EVENTS[:1]

    def go_on(fake: FakeEngine, command: c.Command) -> None:
        # The second look finds more events and the end.
        if isinstance(command.body, c.QueryWorkflow) and command.body.kind == "describe":
            first.events, first.status = EVENTS, "completed"

    engine.script = go_on
    ran = run("workflow", "watch", "order-7")
    assert ran.code == 0
    assert [line.split()[3] for line in ran.out.splitlines()] == ["RunStarted", "StepScheduled", "StepAttemptFailed"]
    assert len(run("workflow", "watch", "order-7", "-o", "json").json) == 3


def test_list_filters_and_sorts(engine: FakeEngine, run: Run) -> None:
    for number in range(5):
        start(engine, run, f"order-{number}")
    rows = run("workflow", "list", "-o", "jsonl").out.splitlines()
    assert sorted(json.loads(row)["workflow_id"] for row in rows) == [f"order-{number}" for number in range(5)]
    assert run("workflow", "list").out.splitlines()[0].split() == ["workflow", "id", "workflow", "type", "status",
                                                                   "started", "at", "run", "id"]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["signal", "order-7", "approved", "true"], c.SignalWorkflow("approved", payload(True))),
        (["signal", "order-7", "note", "hello you"], c.SignalWorkflow("note", payload("hello you"))),
        (["cancel", "order-7", "--run", "run-order-7-0"], c.CancelWorkflow("run-order-7-0")),
        (["terminate", "order-7"], c.TerminateWorkflow()),
        (["retry", "order-7"], c.RetryWorkflow()),
    ],
)
def test_steering(engine: FakeEngine, run: Run, words: list[str], body: object) -> None:
    start(engine, run)
    ran = run("workflow", *words, "--reason", "because")
    assert ran.code == 0, ran.err
    assert (last(engine).body, last(engine).reason) == (body, "because")


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["complete", "order-7", "0:1", '"p1"'], c.ResolveStep("", "0:1", "complete", payload("p1"))),
        (["retry", "order-7", "0:1"], c.ResolveStep("", "0:1", "retry")),
        (["heartbeat", "order-7", "0:1", "half"], c.ResolveStep("", "0:1", "heartbeat", payload("half"))),
        (
            ["fail", "order-7", "0:1", "bank said no", "--type", "CardDeclined"],
            c.ResolveStep("", "0:1", "fail", failure=Failure("CardDeclined", "bank said no", retryable=False)),
        ),
    ],
)
def test_steps_are_ended_from_outside(engine: FakeEngine, run: Run, words: list[str], body: object) -> None:
    start(engine, run)
    ran = run("step", *words, "-o", "json")
    assert ran.code == 0, ran.err
    assert last(engine).body == body
    assert ran.json["step"] == "0:1"


def test_query_prints_the_answer(engine: FakeEngine, run: Run) -> None:
    start(engine, run)
    ran = run("workflow", "query", "order-7", "progress", "of=all", "-o", "json")
    assert ran.json == {"asked": "progress", "with": {"of": "all"}}
    assert run("workflow", "query", "order-7", "bad").code == 5


def test_no_engine_is_code_4(engine: FakeEngine, run: Run) -> None:
    engine.deaf = True
    ran = run("workflow", "cancel", "order-7", "--timeout", "0.2")
    assert ran.code == 4
    assert "orchestrator doctor" in ran.err


APP = ("--app", "tests.client.shop:app")


def test_a_start_is_compared_with_the_code_at_hand(
    engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORCHESTRATOR_APP_NAME")
    for arguments, sentence in (
        (("nobody",), "shop has no workflow 'nobody'; it has: "),
        (("nobody",), "give --app-name shop in place of --app"),
        (("order", "--version", "9"), "shop has no version 9 of workflow 'order'; it has: 1"),
        (("order", "orderid=7"), "has no parameter 'orderid'"),
        (("order", "order_id=7"), "order: argument order_id: 7 is no str"),
        (("order", "order_id=7"), "name='\"7\"'"),
        (("order", "order_id=seven"), "its arguments do not fit: missing"),
    ):
        for verb in ("start", "execute"):
            ran = run(*APP, "workflow", verb, *arguments)
            assert (ran.code, ran.out) == (2, "")
            assert sentence in ran.err
    assert engine.handled == []
    assert run("--app-name", "shop", "workflow", "start", "nobody").code == 0


def test_a_closed_run_is_not_said_to_be_closed_twice(engine: FakeEngine, run: Run) -> None:
    engine.runs["order-7"] = [FakeRun("run-1", c.StartWorkflow("order"), status="completed")]
    assert run("workflow", "show", "order-7").out.startswith("order-7 is completed: it ended at ")
