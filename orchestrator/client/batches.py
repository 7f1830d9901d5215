"""One thing done to many runs: a filter chooses them, a dry run shows them, then it is done run by run.

Each command's id is made of the batch's id, of what is asked (the verb and all that goes with it) and of the workflow's
id: a batch that was cut off is run again under the same id, and what it had done already is not done twice, although
a run went on as a new one meanwhile. Something else under the same id is another thing, and is done.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Required, TypedDict, cast

from orchestrator.core import commands as c
from orchestrator.core.ids import within_bounds
from orchestrator.core.values import NOTHING, Payload
from orchestrator.errors import CommandRejected, ConfigurationError, ReplyTimeout, RunClosed, WorkflowNotFound
from orchestrator.sdk.app import Orchestrator
from orchestrator.sdk.attributes import Where

from .calls import Calls
from .code import signal_of
from .requests import NO_REQUEST, Request
from .views import OPEN, RunSummary

AT_ONCE = 50

Steering = Literal["cancel", "terminate", "retry", "pause", "resume"]
ActionName = Literal[Steering, "reset", "fork", "signal"]
Command = (
    c.CancelWorkflow
    | c.TerminateWorkflow
    | c.RetryWorkflow
    | c.PauseWorkflow
    | c.ResumeWorkflow
    | c.ForkWorkflow
    | c.SignalWorkflow
)

FAILED = frozenset({"failed"})
ANY = frozenset({*OPEN, "completed", "failed", "cancelled", "terminated"})
MEANT_FOR: Mapping[Steering, frozenset[str]] = MappingProxyType(
    {
        "cancel": OPEN,
        "terminate": OPEN,
        "retry": frozenset({"parked"}),
        "pause": frozenset({"running"}),
        "resume": frozenset({"paused"}),
    }
)
"""The statuses that steering makes sense for."""

TAKES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **{name: frozenset[str]() for name in MEANT_FOR},
        "reset": frozenset({"event", "keep_signals"}),
        "fork": frozenset({"step", "arguments"}),
        "signal": frozenset({"signal", "value", "arguments"}),
    }
)
"""The options of each action, beyond those of every batch."""


class BatchOptions(TypedDict, total=False):
    """Of every batch. One that was cut off goes on under the same `batch_id`."""

    dry_run: bool
    batch_id: str


class ResetOptions(BatchOptions, total=False):
    """As of `Handle.reset`: without `event`, failed runs go on from where they failed."""

    event: int
    keep_signals: bool


class ForkOptions(BatchOptions, total=False):
    """As of `Handle.fork`; with `arguments` the selection names their workflow."""

    step: Required[str]
    arguments: tuple[Any, ...] | None


class Selection(NamedTuple):
    """Which runs: a status ("": every one that the action is meant for), a workflow, so many at most, attributes."""

    status: str = ""
    workflow_type: str = ""
    limit: int | None = None
    where: Sequence[Where] = ()


class Done(NamedTuple):
    """What came of one run. `outcome`: done, refused (with the reason), unknown (nobody answered in time), or chosen,
    in a dry run."""

    workflow_id: str
    run_id: str
    outcome: Literal["done", "refused", "unknown", "chosen"]
    message: str = ""


class Action(NamedTuple):
    """What a batch asks of each run. `meant_for`: the statuses that it makes sense for, chosen when none is named.

    `goes_on`: a run goes on as a new one of its workflow id: the newest of an id alone is chosen. `body` raises, before
    anything is sent, if a run cannot be meant.
    """

    name: ActionName
    body: Callable[[RunSummary], Command]
    meant_for: frozenset[str]
    goes_on: bool = False


def steering(name: Steering) -> Action:
    """What needs no more than a name."""
    kinds: Mapping[Steering, Callable[[str], Command]] = {
        "cancel": c.CancelWorkflow,
        "terminate": c.TerminateWorkflow,
        "retry": c.RetryWorkflow,
        "pause": c.PauseWorkflow,
        "resume": c.ResumeWorkflow,
    }
    return Action(name, lambda run: kinds[name](run.run_id), MEANT_FOR[name])


def signalling(name: str, payload: Payload) -> Action:
    """To deliver a signal."""
    return Action("signal", lambda run: c.SignalWorkflow(name, payload, run.run_id), OPEN)


def resetting(event: int = 0, keep_signals: bool = True) -> Action:
    """To go on from behind an event, or, without one, from where a run failed."""

    def body(run: RunSummary) -> Command:
        return c.ForkWorkflow(run.run_id, event=event, signals=keep_signals)

    return Action("reset", body, ANY if event else FAILED, goes_on=True)


def forking(step: str, edited: Callable[[RunSummary], Payload] | None = None) -> Action:
    """To go on from before a step (its id or its name), with other arguments too if they are given."""

    def body(run: RunSummary) -> Command:
        return c.ForkWorkflow(run.run_id, step=step, arguments=NOTHING if edited is None else edited(run))

    return Action("fork", body, ANY, goes_on=True)


def action_of(app: Orchestrator, name: str, workflow_type: str, given: Mapping[str, Any]) -> Action:
    """What `client.batch` is asked for. Raises ConfigurationError, TypeError, DoesNotRoundTrip."""
    if name not in TAKES:
        raise ConfigurationError(f"a batch cannot {name!r}: it can {', '.join(sorted(TAKES))}")
    if strange := sorted(given.keys() - TAKES[name]):
        raise TypeError(f"batch {name} takes no {', '.join(strange)}")
    if name == "reset":
        return resetting(**given)
    if name not in ("fork", "signal"):
        return steering(cast(Steering, name))
    if not given.get(needed := "step" if name == "fork" else "signal"):
        raise TypeError(f"batch {name} needs {needed}=")
    arguments = given.get("arguments")
    if name == "fork":
        return forking(given["step"], None if arguments is None else _bound(app, workflow_type, arguments))
    values = (given["value"],) if "value" in given else arguments or ()
    return signalling(*signal_of(given["signal"], values, {}))


def _bound(app: Orchestrator, workflow_type: str, arguments: tuple[Any, ...]) -> Callable[[RunSummary], Payload]:
    """Arguments as the version of a run takes them."""
    if not workflow_type:
        raise ConfigurationError("arguments are those of one workflow: name it, with Selection(workflow_type=...)")

    @cache
    def of_version(version: int) -> Payload:
        code = app.registry.workflow(workflow_type, version)
        if code is None:
            raise ConfigurationError(f"{app.name} has no version {version} of workflow {workflow_type!r} here")
        return code.signature.bind(arguments, {})

    return lambda run: of_version(run.version)


async def chosen(calls: Calls, action: Action, selection: Selection) -> list[RunSummary]:
    """The runs that a batch is about. Raises ConfigurationError for a status that none can go on from."""
    status = selection.status
    if action.goes_on and status and status not in action.meant_for:
        hint = "; behind an event (event=, --event) any run goes on" if action.meant_for == FAILED else ""
        raise ConfigurationError(
            f"{action.name} is for runs that are {', '.join(sorted(action.meant_for))}, not {status}{hint}"
        )
    found: list[RunSummary] = []
    async for run in calls.runs(status, selection.workflow_type, where=selection.where, newest=action.goes_on):
        if selection.limit is not None and len(found) >= selection.limit:
            break
        if status or run.status in action.meant_for:
            action.body(run)
            found.append(run)
    return found


def command_id(batch_id: str, action: Action, run: RunSummary) -> str:
    """The same for the same thing asked of the same workflow, whichever of its runs is the newest by then."""
    body = action.body(run)
    sent: list[str | int] = []
    if isinstance(body, c.SignalWorkflow):
        sent = [body.name, *_said(body.payload)]
    elif isinstance(body, c.ForkWorkflow):
        sent = [body.step, body.event, int(body.signals), *_said(body.arguments)]
    digest = f"-{hashlib.sha256(repr(sent).encode()).hexdigest()[:16]}" if sent else ""
    return within_bounds(f"{batch_id}/{action.name}{digest}/{run.workflow_id}")


def _said(payload: Payload) -> tuple[str, str]:
    return payload.codec, payload.data.hex()


async def carried_out(
    calls: Calls,
    runs: Sequence[RunSummary],
    action: Action,
    batch_id: str,
    request: Request = NO_REQUEST,
    told: Callable[[Done], None] | None = None,
) -> list[Done]:
    """Do it to every run, some at once; `told` hears of each. Raises KafkaUnavailable."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(run: RunSummary) -> Done:
        own = replace(request, command_id=command_id(batch_id, action, run))
        async with room:
            done = partial(Done, run.workflow_id, run.run_id)
            try:
                await calls.send(run.workflow_id, action.body(run), own)
                result = done("done")
            except ReplyTimeout as error:
                result = done("unknown", str(error))
            except (CommandRejected, RunClosed, WorkflowNotFound) as error:
                result = done("refused", str(error))
        if told is not None:
            told(result)
        return result

    return list(await asyncio.gather(*(one(run) for run in runs)))
