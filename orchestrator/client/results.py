"""What a run ended with, as a value or an error of the caller's."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from orchestrator.codec.payloads import decode_failure
from orchestrator.core.values import Failure
from orchestrator.errors import RunCancelled, RunFailed, RunTerminated

from .code import Code
from .views import Outcome

R = TypeVar("R")


def seconds(time: timedelta | float | None) -> float | None:
    """A duration in seconds, None for none."""
    return time.total_seconds() if isinstance(time, timedelta) else time


def value_or_error(outcome: Outcome, code: Code[R]) -> R:
    """The decoded result of a completed run. Raises what the run ended with otherwise."""
    reply = outcome.reply
    if outcome.status == "completed":
        return code.decode_result(reply.result)
    which = f"{reply.workflow_id}/{reply.run_id}"
    where = {"workflow_id": reply.workflow_id, "run_id": reply.run_id}
    if outcome.status == "failed":
        failure = reply.failure or Failure("WorkflowFailed", "it left no message")
        failed = run_failed(failure, which, where)
        if failure.type in code.declared:
            raise decode_failure(failure, code.declared) from failed
        raise failed
    _, _, reason = (reply.failure.message if reply.failure else "").partition(": ")
    because = f": {reply.message or reason}" if reply.message or reason else ""
    if outcome.status == "cancelled":
        raise RunCancelled(f"{which} was cancelled{because}", **where)
    raise RunTerminated(f"{which} was {outcome.status}{because}", **where)


def run_failed(failure: Failure, which: str, where: dict[str, str]) -> RunFailed:
    """The error of a run that failed."""
    return RunFailed(
        f"{which} failed with {failure.type}: {failure.message}",
        type=failure.type,
        details=failure.details.data.decode(errors="replace"),
        traceback=failure.traceback,
        **where,
    )
