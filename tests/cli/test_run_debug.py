"""`workflow debug`: exported histories replayed without Kafka, up to a step, with divergence found."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.client.histories import event_of, read_history, turns
from orchestrator.core import events as e
from orchestrator.core.commands import CompleteRun, ScheduleStep
from orchestrator.core.values import Actor, BlobRef, Failure, Payload, RetryPolicy, StepOptions
from orchestrator.engine.views import event_view
from orchestrator.errors import UndecodableRecord
from orchestrator.sdk.turn import LiveRun
from tests.cli import debugged
from tests.cli.conftest import Ran
from tests.client.fake_engine import FakeEngine, FakeRun, payload
from tests.codec.test_compiled import value_of

Run = Callable[..., Ran]
APP = ["--app", "tests.cli.debugged:app"]


def recorded(items: list[str]) -> list[e.Event]:
    """A whole run of `order`, as an engine would record it."""
    code = debugged.app.registry.workflow("order")
    assert code is not None
    started = e.RunStarted("order", 1, payload({"items": items}), "seed", actor=Actor("person", "eva"))
    history = [e.Event("order-7", "r1", 1, started, recorded_at_ms=1_000)]
    live = LiveRun(code, "order-7", "r1", started)
    while not live.closed:
        delivery = history[-1]
        for command in live.deliver(delivery).commands:
            body: e.Body
            if isinstance(command, ScheduleStep):
                body = e.StepScheduled(delivery.seq, *command)
            else:
                assert isinstance(command, CompleteRun)
                body = e.RunCompleted(delivery.seq, command.result)
            history.append(e.Event("order-7", "r1", len(history) + 1, body, recorded_at_ms=1_000))
        last = history[-1].body
        if isinstance(last, e.StepScheduled):
            done = e.StepCompleted(f"{last.path}:{last.n}", 1, payload(3))
            history.append(e.Event("order-7", "r1", len(history) + 1, done, recorded_at_ms=1_000))
    return history


def export(path: Path, history: list[e.Event]) -> str:
    """Write a history as `workflow history -o jsonl` prints it."""
    path.write_text("".join(json.dumps(event_view(event)) + "\n" for event in history), encoding="utf-8")
    return str(path)


def test_a_whole_history_replays(run: Run, tmp_path: Path) -> None:
    file = export(tmp_path / "h.jsonl", recorded(["pen", "ink"]))
    ran = run(*APP, "workflow", "debug", "order-7", "--history", file)
    assert (ran.code, ran.out) == (0, "3 deliveries replayed as recorded; the code has ended\n")


@pytest.mark.parametrize("step", ["2", "0:2"])
def test_it_stops_where_the_step_is_called(run: Run, tmp_path: Path, step: str) -> None:
    history = recorded(["pen", "ink", "cap"])
    scheduled = [event.body for event in history if isinstance(event.body, e.StepScheduled)]
    wanted = scheduled[1] if step == "2" else next(body for body in scheduled if f"{body.path}:{body.n}" == step)
    file = export(tmp_path / "h.jsonl", history)
    ran = run(*APP, "workflow", "debug", "order-7", "--history", file, "--step", step, "--no-pdb")
    assert ran.code == 0, ran.err
    assert f"step {wanted.path}:{wanted.n} pack is called at {wanted.call_site}" in ran.out


def test_pdb_stops_at_the_call(tmp_path: Path) -> None:
    file = export(tmp_path / "h.jsonl", recorded(["pen", "ink"]))
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", *APP, "workflow", "debug", "order-7", "--history", file,
         "--step", "2", "--pdb"],
        input="p 'item is ' + item\ncontinue\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "item is ink" in done.stdout
    assert "grams += await pack(item)" in done.stdout


def test_a_divergence_is_told_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    history = [
        event._replace(body=event.body._replace(arguments=payload({"item": "axe"})))
        if isinstance(event.body, e.StepScheduled)
        else event
        for event in recorded(["pen"])
    ]
    file = export(tmp_path / "h.jsonl", history)
    ran = run(*APP, "workflow", "debug", "order-7", "--history", file)
    assert ran.code == 1
    assert "diverged at event 1" in ran.err
    assert "pack" in ran.err


def test_the_history_comes_from_an_engine_otherwise(engine: FakeEngine, run: Run) -> None:
    history = recorded(["pen"])
    started = history[0].body
    assert isinstance(started, e.RunStarted)
    run("workflow", "start", "order", "--id", "order-7")
    fake: FakeRun = engine.runs["order-7"][0]
    fake.events = [event_view(event) for event in history]
    ran = run(*APP, "workflow", "debug", "order-7")
    assert (ran.code, ran.out) == (0, "2 deliveries replayed as recorded; the code has ended\n"), ran.err


def test_a_step_that_is_not_there(run: Run, tmp_path: Path) -> None:
    file = export(tmp_path / "h.jsonl", recorded(["pen"]))
    ran = run(*APP, "workflow", "debug", "order-7", "--history", file, "--step", "9")
    assert ran.code == 2
    assert "the history has 1 steps, and no step '9'" in ran.err


OPTIONS = StepOptions("gpu", "park", RetryPolicy(5, 1.5, 9, 2, ("KeyError",)), 1, 2, 3, 4, "wait")


@pytest.mark.parametrize(
    "body",
    [
        e.StepScheduled(1, "0.1", 2, "pack", "shop.py:3", payload({"item": "pen"}), OPTIONS),
        e.StepAttemptFailed("0:1", 1, Failure("KeyError", "'x'", payload({"args": []}), "trace", False), 99),
        e.StepAttemptFailed("0:1", 1, Failure("RateLimitError", "429", retry_after_ms=2_000), 99),
        e.SignalReceived("go", Payload("msgpack", "key-1", b"\x00\x01"), Actor("person", "eva")),
        e.StepCompleted("0:1", 2, Payload("json", "", b"", BlobRef("s3", "abc", 70_000))),
        e.StepCompleted("0:1", 2, payload({"$codec": "mine"})),
        e.RunTerminated(Actor(), "enough"),
        e.RunContinuedAsNew(4, payload([1, "e"]), "r2"),
    ],
)
def test_what_is_exported_comes_back(body: e.Body) -> None:
    event = e.Event("w", "r", 7, body, recorded_at_ms=12)
    assert event_of(json.loads(json.dumps(event_view(event))), "w", "r") == event


@pytest.mark.parametrize("body", typing.get_args(e.RunBody))
def test_every_event_comes_back_whatever_it_holds(body: type, rng: random.Random) -> None:
    for _ in range(20):
        event = e.Event("w", "r", 7, value_of(body, rng), recorded_at_ms=12)
        assert event_of(json.loads(json.dumps(event_view(event))), "w", "r") == event


def test_turns_pair_deliveries_with_what_they_recorded() -> None:
    pairs = [(event.seq, [one.seq for one in issued]) for event, issued in turns(recorded(["pen", "ink"]))]
    assert pairs == [(1, [2]), (3, [4]), (5, [6])]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "holds no events"), ("[1]", "holds no events"), ("{", "neither JSON nor JSON lines")],
)
def test_files_that_are_no_history(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "h.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UndecodableRecord, match=sentence):
        read_history(file)


def test_an_event_of_an_unknown_type_is_named() -> None:
    with pytest.raises(UndecodableRecord, match=r"event 3 \(RunFlown\) of w"):
        event_of({"seq": 3, "type": "RunFlown", "body": {}, "at_ms": 1}, "w", "r")
