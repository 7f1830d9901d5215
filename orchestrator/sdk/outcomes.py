"""Errors on their way into workflow code, and what one that leaves it means for the run."""

from __future__ import annotations

from collections.abc import Mapping

from ..codec.payloads import decode_failure, encode_failure
from ..core import events as e
from ..core.values import Failure
from ..errors import ChildCancelled, ChildFailed, StepFailed, StepTimeout, WorkflowFailed

Declared = Mapping[str, type[BaseException]]
"""The application's declared errors by name."""


def step_error(body: e.StepFailed, declared: Declared) -> BaseException:
    """What the code that awaits the step gets."""
    if body.timeout or body.failure.type in ("StepTimeout", "StepLeaseExpired"):
        return StepTimeout(body.failure.message, "StepTimeout")
    return decode_failure(body.failure, declared)


def child_error(body: e.ChildFailed, declared: Declared) -> BaseException:
    """What the code that awaits the child gets."""
    if body.outcome in ("cancelled", "terminated"):
        return ChildCancelled(body.failure.message, body.failure.type, body.outcome)
    if body.outcome == "failed":
        error = decode_failure(body.failure, declared)
        if not isinstance(error, StepFailed):
            error.__cause__ = ChildFailed(body.failure.message, body.failure.type)
            return error
    return ChildFailed(f"{body.failure.type}: {body.failure.message}", body.failure.type, body.outcome)


def fails_the_run(error: BaseException, declared: Declared) -> bool:
    """Whether an error that leaves the code is the run's failure, not a bug."""
    if isinstance(error, BaseExceptionGroup):
        return all(fails_the_run(one, declared) for one in error.exceptions)
    if getattr(error, "__orchestrator_step__", False) or isinstance(error, WorkflowFailed | StepFailed | ChildFailed):
        return True
    return declared.get(type(error).__name__) is type(error)


def failure_of(error: BaseException, declared: Declared) -> Failure:
    """An error that leaves the code, as it crosses the log: of a TaskGroup's group the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return encode_failure(error, declared)


def site_of(error: BaseException | None) -> str:
    """`file:line` where an error was raised, for messages."""
    frame = error.__traceback__ if error is not None else None
    if frame is None:
        return ""
    while frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}"
