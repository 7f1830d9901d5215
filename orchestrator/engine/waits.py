"""Why an open run does not go on, in a sentence: from its rows, its history, and what its code waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ..core import ids
from ..core.decide.decision import CLOSED, View
from ..core.decide.step import nobody_runs
from ..core.events import StepAttemptFailed, StepParked
from ..core.rows import (
    APPROVALS,
    HISTORY,
    STEPS,
    TIMERS,
    UPDATES,
    ChildRow,
    RunRow,
    StepRow,
    WaitRow,
    history_key,
    run_key,
    timer_due_key,
)
from ..core.values import NOTHING, Failure, LimitNeed, Payload
from ..sdk.turn import LiveRun
from .entities import why_queued
from .turns import RunKey, Turns

SHOWN = 3
"""Reasons named one by one; the others are counted."""
MAX_MESSAGE = 300
REPLAYED = 2_000
"""Events of a history that is replayed for somebody who only looks."""
UNKNOWN = "waits for a signal that changes what its code looks at, or its turn has just come"
FIRST = {"parked": 0, "interrupted": 0, "backoff": 1}
"""What needs a look comes before what merely takes its time."""


def why(view: View, turns: Turns, key: RunKey, run: RunRow) -> str:
    """The sentence."""
    if run.status in CLOSED:
        return f"it is {run.status}"
    if run.status == "parked":
        message = run.parked_message.rstrip(".")
        return f"parked ({run.parked_kind}): {message}; after a fix: orchestrator workflow retry {key[0]}"
    if run.status == "paused":
        return f"paused {run.parked_message}; to go on: orchestrator workflow resume {key[0]}"
    if run.status == "queued":
        return why_queued(view, key[0], run)
    if run.status == "limited":
        return f"waits for a slot of {named(run.limits)}"
    if run.status == "delayed":
        return f"its start delay ends at {moment(_timer(view, key, 'start|'))}"
    if key in turns.lacking:
        return f"waits for code: {turns.lacking[key]}; it goes on where that is deployed"
    if not turns.has_code(key, run):
        version = f" version {run.version}" if run.version else ""
        return f"waits for code: this engine has no {run.workflow_type}{version}; it goes on where that is deployed"
    rows, sleeps = [*_rows(view, key), *_approvals(view, key, run), *_updates(view, key, run)], _sleeps(view, key)
    reasons = [*rows, *([] if rows else _signals(view, turns, key, run)), *sleeps] or [UNKNOWN]
    more = [f"{len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
    said = ", ".join([*reasons[:SHOWN], *more])
    return f"it was asked to cancel and has not ended yet: {said}" if run.cancel_requested else said


def named(limits: tuple[LimitNeed, ...]) -> str:
    """Limits for people, with their keys."""
    return " and ".join(f"limit {one.name}" + (f" [{one.key}]" if one.key else "") for one in limits)


def moment(milliseconds: int) -> str:
    """A time of the log's clock for people, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _rows(view: View, key: RunKey) -> list[str]:
    steps: list[tuple[int, str, StepRow]] = []
    children: list[str] = []
    for row_key, row in view.scan(STEPS, run_key(*key)):
        if isinstance(row, StepRow):
            steps.append((FIRST.get(row.state, 2), str(row_key[2]), row))
        elif isinstance(row, ChildRow):
            children.append(f"waits for child workflow {row.workflow_type} ({row.child_workflow_id})")
        elif isinstance(row, WaitRow):
            fields = "" if row.match == NOTHING else f" with {row.match.data.decode(errors='replace')}"
            children.append(f"waits for event {row.topic}{fields}")
    steps.sort(key=lambda found: found[0])
    # Only what is shown is looked up in the history.
    said = [_step(view, key, step, row) if at < SHOWN else row.name for at, (_, step, row) in enumerate(steps)]
    return [*said, *children]


def _approvals(view: View, key: RunKey, run: RunRow) -> list[str]:
    if not run.pending_approvals:
        return []
    found = []
    for at, row in view.scan(APPROVALS, run_key(*key)):
        who = f" by {', '.join(row.to)}" if row.to else ""
        until = f" until {moment(row.expires_at_ms)}" if row.expires_at_ms else ""
        shown = f"orchestrator approval show {ids.idempotency_key(*map(str, at))}"
        found.append(f"waits for approval {row.name}{who}{until}: {shown}")
    return found


def _updates(view: View, key: RunKey, run: RunRow) -> list[str]:
    if not run.pending_updates:
        return []
    rows = view.scan(UPDATES, run_key(*key))
    return [f"carries out update {row.name} ({at[2]})" for at, row in rows if row.state == "accepted"]


def _step(view: View, key: RunKey, step: str, row: StepRow) -> str:
    what = f"step {row.name} ({step})"
    attempt = f"attempt {row.attempt}, since {moment(row.since_ms)}"
    if row.state == "backoff":
        return f"{what} failed{_failure(view, key, step, row)}; attempt {row.attempt + 1} begins at " + moment(
            row.since_ms + row.window_ms
        )
    if row.state == "parked":
        return f"{what} is parked{_failure(view, key, step, row)}; {by_hand(key[0], step)}"
    if row.state == "limited":
        return f"{what} waits for a slot of {named(row.options.limits)} ({attempt})"
    if row.cancelled:
        return f"{what} was asked to end and has not yet ({attempt})"
    if row.state == "scheduled" and row.options.queue:
        return f"{what} waits for a worker of queue {row.options.queue} ({attempt})"
    if row.state == "scheduled" and nobody_runs(row):
        return f"{what} waits for a free slot ({attempt})"
    if row.state == "leased":
        return f"{what} runs at worker {row.worker} ({attempt})"
    if row.state == "handed_over":
        return f"{what} runs to its end in the engine that is being stopped ({attempt})"
    if row.state == "interrupted":
        return f"{what} was interrupted ({attempt})"
    return f"{what} runs ({attempt})"


def _failure(view: View, key: RunKey, step: str, row: StepRow) -> str:
    """`: type: message` of the newest failed attempt."""
    failure: Failure | None = None
    for _, record in view.scan(HISTORY, key, after=history_key(*key, row.scheduled_seq)):
        body = record.event.body
        if isinstance(body, StepAttemptFailed | StepParked) and body.step == step:
            failure = body.failure
    if failure is None:
        return ""
    return f" ({on_one_line(f'{failure.type}: {failure.message}')})"


def on_one_line(text: str) -> str:
    """A message as a sentence may quote it."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def by_hand(workflow_id: str, step: str) -> str:
    """What a person does about a step that is parked."""
    return f"end it or let it go on: orchestrator step complete|fail|retry {workflow_id} {step}"


def _sleeps(view: View, key: RunKey) -> list[str]:
    due = sorted(_due(view, key, "sleep|"))
    return [f"waits for a timer until {moment(at)}" for at in due]


def _timer(view: View, key: RunKey, prefix: str) -> int:
    return min(_due(view, key, prefix), default=0)


def _due(view: View, key: RunKey, prefix: str) -> Iterator[int]:
    for row_key, row in view.scan(TIMERS, timer_due_key(*key, "")[:3]):
        if str(row_key[3]).startswith(prefix):
            yield row.due_at_ms


def maps(view: View, turns: Turns, key: RunKey, run: RunRow) -> list[dict[str, Any]]:
    """How far each `step.map` of an open run is: its code knows. One that left memory is replayed if that is quick."""
    if run.status != "running" or not run.pending_steps:
        return []
    if run.seq > REPLAYED and not turns.remembers(key):
        return []
    answer = turns.ask(view, key, run, LiveRun.maps)
    found: list[dict[str, Any]] = json.loads(answer.data) if answer is not None else []
    return found


def _signals(view: View, turns: Turns, key: RunKey, run: RunRow) -> list[str]:
    """What the code waits for when nothing of it is in the rows: it is asked, replayed if that is quick.

    A long history that was replayed for a look stood in everybody's way: half a minute for 200,000 events.
    """
    if run.seq > REPLAYED and not turns.remembers(key):
        return [f"waits for what only its code knows, which left memory: {run.seq} events are not replayed for a look"]

    def names(live: LiveRun) -> Payload:
        return Payload(data=json.dumps(live.mailbox.waited_for()).encode())

    answer = turns.ask(view, key, run, names)
    found = json.loads(answer.data) if answer is not None else []
    return [f"waits for signal {name}" for name in found]
