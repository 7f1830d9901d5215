"""Other workflows, as workflow code speaks to them: signals and cancellations that leave with its turn's commit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from .calls import send_cancel, send_signal
from .messages import Signal, inside
from .talk import handler_signature

P = ParamSpec("P")
T = TypeVar("T")


class ExternalWorkflow:
    """Whatever run is the newest of a workflow id, seen from the code of another.

    Nothing is waited for: what is asked is durable once the turn is committed, and reaches its workflow once. Where no
    run is open by then, the refusal is recorded on that workflow's partition.
    """

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id

    def __repr__(self) -> str:
        return f"ExternalWorkflow({self.workflow_id!r})"

    @overload
    def signal(self, signal: Signal[T], value: T, /) -> None: ...
    @overload
    def signal(
        self,
        handler: Callable[Concatenate[Any, P], Coroutine[Any, Any, None] | None],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None: ...
    def signal(self, signal: Any, /, *args: Any, **kwargs: Any) -> None:
        """Deliver a signal (an `app.signal(...)`, or a handler of the class form with its arguments).

        Raises TypeError, DoesNotRoundTrip.
        """
        if isinstance(signal, Signal):
            signal.send(self.workflow_id, *args, **kwargs)
            return
        loop = inside(f"external_workflow({self.workflow_id!r}).signal()")
        send_signal(loop, self.workflow_id, signal.__name__, handler_signature(signal).bind(args, kwargs))

    def cancel(self, reason: str = "") -> None:
        """Ask it to end; its code may clean up. `reason` is in its history."""
        send_cancel(inside(f"external_workflow({self.workflow_id!r}).cancel()"), self.workflow_id, reason)


def external_workflow(workflow_id: str) -> ExternalWorkflow:
    """From workflow code: another workflow, of this code or of any other. Raises ConfigurationError outside of one."""
    inside("external_workflow()")
    return ExternalWorkflow(workflow_id)
