"""What goes into an executor and what comes out of it.

Every executor of this package has the interface `StepExecutor`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from orchestrator.core.commands import HeartbeatStep, ReportStep
from orchestrator.core.values import NOTHING, Failure, Payload

CRASHED = "StepCrashed"
"""Failure type of an attempt that killed, froze or held its step process."""

CANCELLED = "CancelledError"
"""Failure type of an attempt that ended because `cancel` was asked for it (the name that `core` knows)."""

UNKNOWN = "UnknownStep"
"""Failure type of an attempt whose step is not in the application that the step process loaded."""


class StepCall(NamedTuple):
    """One attempt of a step, to be carried out.

    `on_crash` is retry, fail or park. `begin_before` is a reading of `time.monotonic()` in seconds after which the
    attempt must not begin any more (design.md §5, `start_within`); 0 is no limit. Other times in milliseconds; the
    time-outs are enforced by whoever calls, with `cancel`. `trace` is the W3C traceparent that the step came with.
    """

    workflow_id: str
    run_id: str
    step: str
    attempt: int
    token: str
    name: str
    arguments: Payload
    idempotency_key: str = ""
    start_to_close_ms: int = 0
    heartbeat_ms: int = 0
    details: Payload = NOTHING
    on_crash: str = "retry"
    begin_before: float = 0.0
    trace: str = ""

    @property
    def guarded(self) -> bool:
        """Whether the attempt must never begin twice (`fail`, `park`)."""
        return self.on_crash != "retry"

    def where(self) -> str:
        """The attempt as messages name it."""
        return f"step {self.name!r} ({self.step}) of workflow {self.workflow_id!r}, attempt {self.attempt}"


class StepReport(NamedTuple):
    """What a running attempt says: its one outcome, or that it is alive."""

    workflow_id: str
    body: ReportStep | HeartbeatStep


Report = Callable[[StepReport], None]


@dataclass(frozen=True)
class ExecutorOptions:
    """Bounds of an executor. Durations in seconds.

    `slots` sync `retry` steps run at once, each in a process of its own, and besides them `guarded_slots` `fail` and
    `park` steps. `shared_limit` async `retry` steps share one process. `backlog` attempts may wait for a slot before
    `start` refuses. `warm` processes stay ready without work; others end after `idle_s`. A shared process that
    answers nothing for `silence_s` is replaced (0: never). A cancelled attempt that has a process to itself loses it
    after `cancel_grace_s`. `path` is put before `sys.path` of the step processes. `freed` is called, from the
    executor's thread, when a slot became free after one was refused: it must return at once.
    """

    slots: int = 8
    guarded_slots: int = 8
    shared_limit: int = 10_000
    backlog: int = 10_000
    warm: int = 1
    silence_s: float = 10.0
    cancel_grace_s: float = 5.0
    boot_timeout_s: float = 60.0
    idle_s: float = 60.0
    python: str = sys.executable
    path: tuple[str, ...] = ()
    freed: Callable[[], None] | None = None


class StepExecutor(Protocol):
    """Carries attempts out. Thread-safe; outcomes and heartbeats come by the `report` given at construction."""

    def start(self, call: StepCall) -> bool:
        """Begin an attempt, or line it up.

        False: no slot, nothing happened. A token already known is not begun again.
        """

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        """`start` for several with one write; returns those that were refused."""

    def cancel(self, token: str) -> None:
        """Ask an attempt to end; its report still comes. An unknown token is ignored."""

    def withdraw(self, token: str) -> bool:
        """Take back an attempt that waits for a slot: nothing of it happened, it has no outcome. False: too late."""

    def slot_free(self) -> bool:
        """Whether a `fail` or `park` attempt could begin now. Advice: only `reserve` holds the slot."""

    def reserve(self, token: str) -> bool:
        """Hold a slot for the `fail` or `park` attempt of this token, until `start` or `unreserve`."""

    def unreserve(self, token: str) -> None:
        """Give a held slot back. An unknown token is ignored."""

    def running(self) -> Set[str]:
        """Tokens of all attempts that were taken and have not reported, waiting ones included."""

    def waiting(self, token: str) -> bool:
        """Whether a taken attempt still waits for a slot (its start-to-close time has not begun)."""

    def stop(self, grace_s: float) -> Set[str]:
        """Take nothing new, wait up to `grace_s` for what runs, end everything.

        Returns the tokens that were cut off.
        """


def outcome(call: StepCall, result: Payload, failure: Failure | None, crashed: bool = False) -> StepReport:
    """The report that ends an attempt."""
    return StepReport(
        call.workflow_id, ReportStep(call.run_id, call.step, call.attempt, call.token, result, failure, crashed)
    )


def alive(call: StepCall, details: Payload) -> StepReport:
    """The report of a heartbeat."""
    return StepReport(call.workflow_id, HeartbeatStep(call.run_id, call.step, call.attempt, call.token, details))


def cancelled(call: StepCall, how: str) -> Failure:
    """The failure of an attempt that ended as asked."""
    return Failure(CANCELLED, f"{call.where()} was cancelled {how}", retryable=False)
