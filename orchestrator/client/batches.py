"""One thing done to many runs: a filter chooses them, a dry run shows them, then it is done run by run.

Each command's id is made of the batch's id and the run's (for what goes on as a new run, the workflow's): a batch that
was cut off is run again under the same id, and what it had done already is not done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Required, TypedDict, cast

from orchestrator.core.commands import ForkWorkflow
from orchestrator.core.tasks import Reply
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
Act = Callable[[RunSummary, Request], Coroutine[Any, Any, Reply]]
"""What is done to one run."""

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


def _any_run(run: RunSummary) -> None:
    """Nothing is wrong with it."""


class Action(NamedTuple):
    """What a batch does to each run. `meant_for`: the statuses that it makes sense for, chosen when none is named.

    `goes_on`: a run goes on as a new one of its workflow id: the newest of an id alone is chosen, and a batch does it
    once an id, for what it made is the newest now. `check` raises, before anything is sent, if a run cannot be meant.
    """

    name: ActionName
    act: Act
    meant_for: frozenset[str]
    goes_on: bool = False
    check: Callable[[RunSummary], object] = _any_run


def steering(calls: Calls, name: Steering) -> Action:
    """What needs no more than a name."""
    acts: dict[Steering, Callable[[str, str, Request], Coroutine[Any, Any, Reply]]] = {
        "cancel": calls.cancel,
        "terminate": calls.terminate,
        "retry": calls.retry,
        "pause": calls.pause,
        "resume": calls.resume,
    }

    async def act(run: RunSummary, request: Request) -> Reply:
        return await acts[name](run.workflow_id, run.run_id, request)

    return Action(name, act, MEANT_FOR[name])


def signalling(calls: Calls, name: str, payload: Payload) -> Action:
    """To deliver a signal."""

    async def act(run: RunSummary, request: Request) -> Reply:
        return await calls.signal(run.workflow_id, name, payload, run.run_id, request)

    return Action("signal", act, OPEN)


def resetting(calls: Calls, event: int = 0, keep_signals: bool = True) -> Action:
    """To go on from behind an event, or, without one, from where a run failed."""

    async def act(run: RunSummary, request: Request) -> Reply:
        body = ForkWorkflow(run.run_id, event=event, signals=keep_signals)
        return await calls.fork(run.workflow_id, body, request)

    return Action("reset", act, ANY if event else FAILED, goes_on=True)


def forking(calls: Calls, step: str, edited: Callable[[RunSummary], Payload] | None = None) -> Action:
    """To go on from before a step (its id or its name), with other arguments too if they are given."""

    async def act(run: RunSummary, request: Request) -> Reply:
        arguments = NOTHING if edited is None else edited(run)
        return await calls.fork(run.workflow_id, ForkWorkflow(run.run_id, step=step, arguments=arguments), request)

    return Action("fork", act, ANY, goes_on=True, check=edited or _any_run)


def action_of(app: Orchestrator, calls: Calls, name: str, workflow_type: str, given: Mapping[str, Any]) -> Action:
    """What `client.batch` is asked for. Raises ConfigurationError, TypeError, DoesNotRoundTrip."""
    if name not in TAKES:
        raise ConfigurationError(f"a batch cannot {name!r}: it can {', '.join(sorted(TAKES))}")
    if strange := sorted(given.keys() - TAKES[name]):
        raise TypeError(f"batch {name} takes no {', '.join(strange)}")
    if name == "reset":
        return resetting(calls, **given)
    if name not in ("fork", "signal"):
        return steering(calls, cast(Steering, name))
    if not given.get(needed := "step" if name == "fork" else "signal"):
        raise TypeError(f"batch {name} needs {needed}=")
    arguments = given.get("arguments")
    if name == "fork":
        return forking(calls, given["step"], None if arguments is None else _bound(app, workflow_type, arguments))
    values = (given["value"],) if "value" in given else arguments or ()
    return signalling(calls, *signal_of(given["signal"], values, {}))


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
            action.check(run)
            found.append(run)
    return found


async def carried_out(
    runs: Sequence[RunSummary],
    action: Action,
    batch_id: str,
    request: Request = NO_REQUEST,
    told: Callable[[Done], None] | None = None,
) -> list[Done]:
    """Do it to every run, some at once; `told` hears of each. Raises KafkaUnavailable."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(run: RunSummary) -> Done:
        own = replace(request, command_id=f"{batch_id}/{run.workflow_id if action.goes_on else run.run_id}")
        async with room:
            done = partial(Done, run.workflow_id, run.run_id)
            try:
                await action.act(run, own)
                result = done("done")
            except ReplyTimeout as error:
                result = done("unknown", str(error))
            except (CommandRejected, RunClosed, WorkflowNotFound) as error:
                result = done("refused", str(error))
        if told is not None:
            told(result)
        return result

    return list(await asyncio.gather(*(one(run) for run in runs)))
