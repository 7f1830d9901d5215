"""An executor under test: calls made short, reports gathered and waited for by condition."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.core.commands import HeartbeatStep, ReportStep
from orchestrator.core.values import Payload
from orchestrator.sdk.execution import StepCall, StepExecutor, StepReport

APPS = Path(__file__).parent / "apps"
APP = f"{APPS / 'steps_app.py'}:app"
LONG_S = 60.0
"""How long a test waits before it calls a condition unmet; nothing is measured."""


def payload(value: Any) -> Payload:
    """The value as the log holds it."""
    return Payload(data=json.dumps(value).encode())


class Rig:
    """Makes calls with distinct tokens and keeps what the executor reports."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.reports: list[StepReport] = []
        self.executor: StepExecutor
        self._count = 0

    def __call__(self, report: StepReport) -> None:
        with self.changed:
            self.reports.append(report)
            self.changed.notify_all()

    def call(self, name: str, on_crash: str = "retry", heartbeat_ms: int = 0, **arguments: Any) -> StepCall:
        """A first attempt of a new step."""
        self._count += 1
        step = f"0:{self._count}"
        return StepCall(
            "flow",
            "run",
            step,
            1,
            f"run/{step}/1",
            name,
            payload(arguments),
            f"flow/run/{step}",
            heartbeat_ms=heartbeat_ms,
            on_crash=on_crash,
        )

    def start(self, name: str, on_crash: str = "retry", heartbeat_ms: int = 0, **arguments: Any) -> StepCall:
        """Start a new step; it must be taken."""
        call = self.call(name, on_crash, heartbeat_ms, **arguments)
        assert self.executor.start(call), "refused"
        return call

    def outcome(self, call: StepCall) -> ReportStep:
        """Wait for the one outcome of a call."""
        with self.changed:
            found = self.changed.wait_for(lambda: self.outcomes(call), LONG_S)
            assert found, f"{call.where()} never reported; reports: {self.reports}"
            assert len(found) == 1, found
            return found[0]

    def outcomes(self, call: StepCall) -> list[ReportStep]:
        """The outcomes that a call has had so far."""
        bodies = [report.body for report in self.reports if report.body.token == call.token]
        return [body for body in bodies if isinstance(body, ReportStep)]

    def beats(self, call: StepCall) -> list[Any]:
        """The details of a call's heartbeats so far."""
        bodies = [report.body for report in self.reports if report.body.token == call.token]
        return [json.loads(body.details.data) for body in bodies if isinstance(body, HeartbeatStep)]

    def result(self, call: StepCall) -> Any:
        """Wait for a call to complete; its value."""
        outcome = self.outcome(call)
        assert outcome.failure is None, outcome.failure
        return json.loads(outcome.result.data)

    def reserve(self, token: str) -> None:
        """Wait until a slot could be held for the token."""
        until(lambda: self.executor.reserve(token), f"a slot for {token}")


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something outside of Python's own conditions: a file, a process."""
    deadline = time.monotonic() + LONG_S
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def lines(file: Path) -> list[str]:
    """The lines written so far; none when there is no file."""
    return file.read_text(encoding="utf-8").split() if file.exists() else []
