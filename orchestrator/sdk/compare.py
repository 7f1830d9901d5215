"""Divergence: the set of commands that a replayed turn issues against the set that history recorded.

Order within is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core import commands as c, events as e
from ..core.ids import step_id

if TYPE_CHECKING:
    from .registry import Registry

Place = tuple[str, str]

DIVERGED = "diverged"
LACKS_CODE = "code"
"""Kind of the verdict over a run whose code is of another release: it waits for that and is not parked."""

_OF_COMMAND: dict[type, str] = {
    c.ScheduleStep: "step",
    c.SetTimer: "timer",
    c.StartChild: "child workflow",
    c.SendSignal: "signal to another workflow",
    c.SendCancel: "cancellation of another workflow",
    c.CompleteUpdate: "end of update",
    c.RecordPatch: "patch",
    c.AnnotateRun: "what the run says of itself",
    c.ChangeEntity: "the entity's state",
    c.AwaitEvent: "wait for event",
    c.AskApproval: "approval",
    c.WithdrawApproval: "withdrawn approval",
    c.CancelWait: "cancelled wait",
    c.PublishEvent: "event sent",
    c.CancelStep: "cancelled step",
    c.CancelTimer: "cancelled timer",
    c.CancelChild: "cancelled child",
    c.CompleteRun: "the run's result",
    c.FailRun: "the run's failure",
    c.CancelRun: "the run's cancellation",
    c.ContinueAsNew: "continue-as-new",
}
_OF_EVENT: dict[type, str] = {
    e.StepScheduled: "step",
    e.TimerSet: "timer",
    e.ChildScheduled: "child workflow",
    e.SignalSent: "signal to another workflow",
    e.CancelSent: "cancellation of another workflow",
    e.UpdateCompleted: "end of update",
    e.RunPatched: "patch",
    e.RunAnnotated: "what the run says of itself",
    e.EntityChanged: "the entity's state",
    e.EventAwaited: "wait for event",
    e.ApprovalAsked: "approval",
    e.ApprovalWithdrawn: "withdrawn approval",
    e.WaitCancelled: "cancelled wait",
    e.EventPublished: "event sent",
    e.StepCancelRequested: "cancelled step",
    e.TimerCancelled: "cancelled timer",
    e.ChildCancelRequested: "cancelled child",
    e.RunCompleted: "the run's result",
    e.RunFailed: "the run's failure",
    e.RunCancelled: "the run's cancellation",
    e.RunContinuedAsNew: "continue-as-new",
}
_CANCELS = {"cancelled step", "cancelled timer", "cancelled child", "cancelled wait", "withdrawn approval"}
"""Kinds that history may lack although the code issues them: what was cancelled was over already."""


def _place(kind: str, body: Any) -> Place:
    if hasattr(body, "path"):
        return kind, step_id(body.path, body.n)
    for name in ("step", "timer", "child", "patch", "update", "wait", "approval"):
        if hasattr(body, name):
            return kind, str(getattr(body, name))
    return kind, ""


def divergence(
    issued: Sequence[c.TurnCommand], recorded: Sequence[e.Event], registry: Registry, copied: bool = False
) -> c.ParkRun | None:
    """The verdict, naming the exact place, what history has and what the code does now; None when they agree.

    What a fork `copied` is compared by place and name: its arguments may come from another input.
    """
    came = {_place(_OF_COMMAND[type(one)], one): one for one in issued}
    expected = {_place(_OF_EVENT[type(one.body)], one.body): one.body for one in recorded}
    for place in [place for place in expected if place[0] == "patch"]:
        marker = expected.pop(place)
        if came.pop(place, None) is None and isinstance(marker, e.RunPatched) and not marker.deprecated:
            return _lacks(marker)
    for place, body in expected.items():
        command = came.pop(place, None)
        if command is None:
            return _verdict(place, _what(body), _instead(place, came), getattr(body, "call_site", ""))
        problem = _differs(command, body, registry, copied)
        if problem:
            return _verdict(place, _what(body), problem, getattr(command, "call_site", ""))
    for place, command in came.items():
        if place[0] not in _CANCELS:
            return _verdict(place, "nothing", _what(command), getattr(command, "call_site", ""))
    return None


def _lacks(marker: e.RunPatched) -> c.ParkRun:
    """Code of before a patch, or of after it was removed too early, has met a run that took its new side."""
    return c.ParkRun(
        LACKS_CODE,
        f"history has patch {marker.patch!r} (at {marker.call_site}), which this code does not ask for: deploy code"
        f" with patched({marker.patch!r}) or deprecate_patch({marker.patch!r})",
        marker.call_site,
    )


def _differs(command: Any, body: Any, registry: Registry, copied: bool) -> str:
    if isinstance(command, c.ScheduleStep):
        if command.name != body.name:
            return _what(command)
        code = registry.step(command.name)
        if (
            not copied
            and code is not None
            and code.compare_arguments
            and not code.signature.equal(command.arguments, body.arguments)
        ):
            return _other_arguments(command, body)
    elif isinstance(command, c.StartChild):
        if command.workflow_type != body.workflow_type:
            return _what(command)
        if copied:
            return ""
        if command.workflow_id not in ("", body.child_workflow_id):
            return _what(command)
        child = registry.workflow(command.workflow_type, command.version)
        if child is not None and not child.signature.equal(command.arguments, body.arguments):
            return _other_arguments(command, body)
    elif isinstance(command, c.AwaitEvent):
        if (command.name, command.match.data) != (body.name, body.match.data):
            return _what(command)
    elif isinstance(command, c.AskApproval):
        if (command.name, command.request.data, command.to) != (body.name, body.request.data, body.to):
            return _what(command)
    elif isinstance(command, c.PublishEvent):
        if (command.name, command.payload.data) != (body.name, body.payload.data):
            return _what(command)
    elif isinstance(command, c.ChangeEntity):
        entity = registry.entities[command.name]
        if entity.normal(command.state) != entity.normal(body.state):
            return f"{_what(command)} as {_short(command.state.data)}, not {_short(body.state.data)}"
    elif isinstance(command, c.SendCancel):
        if command.workflow_id != body.target_workflow_id and not copied:
            return f"{_what(command)}, of {command.workflow_id}, not {body.target_workflow_id}"
    elif isinstance(command, c.SendSignal) and (
        command.name != body.name or (command.workflow_id != body.target_workflow_id and not copied)
    ):
        return _what(command)
    return ""


def _other_arguments(command: Any, body: Any) -> str:
    return f"{_what(command)} with other arguments: {_short(command.arguments.data)}, not {_short(body.arguments.data)}"


def _short(data: bytes) -> str:
    text = data.decode(errors="replace")
    return text if len(text) <= 120 else text[:117] + "..."


def _what(one: Any) -> str:
    kind = _OF_COMMAND.get(type(one)) or _OF_EVENT[type(one)]
    name = getattr(one, "name", "") or getattr(one, "workflow_type", "")
    site = getattr(one, "call_site", "")
    return f"{kind}{f' {name!r}' if name else ''}{f' at {site}' if site else ''}"


def _instead(place: Place, came: dict[Place, c.TurnCommand]) -> str:
    same = [one for other, one in came.items() if other[1] == place[1]] or list(came.values())
    return _what(same[0]) if same else "nothing"


def _verdict(place: Place, expected: str, actual: str, site: str) -> c.ParkRun:
    where = f"{place[0]} {place[1]}".strip()
    return c.ParkRun(
        "diverged",
        f"at {where}: history has {expected}, the code now does {actual}. Deploy code that does what history has,"
        f" or keep"
        " the older version with @workflow.older(version=...); then `orchestrator workflow retry`",
        site,
    )
