"""One thing done to many runs: a filter chooses them, a dry run shows them, then it is done run by run.

Each command's id is made of the batch's id and the run's: a batch that was cut off is run again under the same id, and
what it had done already is not done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from orchestrator.core.commands import ForkWorkflow
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.errors import CommandRejected, ReplyTimeout, RunClosed, WorkflowNotFound
from orchestrator.sdk.attributes import Where

from .calls import Calls
from .requests import NO_REQUEST, Request
from .views import OPEN, RunSummary

AT_ONCE = 50

ActionName = Literal["cancel", "terminate", "retry", "pause", "resume", "reset"]
Act = Callable[[str, str, Request], Coroutine[Any, Any, Reply]]
"""What is done to one run: (workflow id, run id, request)."""

MEANT_FOR: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "cancel": OPEN,
        "terminate": OPEN,
        "signal": OPEN,
        "fork": frozenset({*OPEN, "completed", "failed", "cancelled", "terminated"}),
        "reset": frozenset({"failed"}),
        "retry": frozenset({"parked"}),
        "pause": frozenset({"running"}),
        "resume": frozenset({"paused"}),
    }
)
"""The statuses that an action makes sense for: what is chosen without a status of one's own."""


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


def action(calls: Calls, name: ActionName) -> Act:
    """An action by its name."""

    async def reset(workflow_id: str, run_id: str, request: Request) -> Reply:
        return await calls.fork(workflow_id, ForkWorkflow(run_id, signals=True), request)

    acts: dict[str, Act] = {
        "cancel": calls.cancel,
        "terminate": calls.terminate,
        "retry": calls.retry,
        "pause": calls.pause,
        "resume": calls.resume,
        "reset": reset,
    }
    return acts[name]


def signalling(calls: Calls, name: str, payload: Payload) -> Act:
    """The action that delivers a signal."""

    async def act(workflow_id: str, run_id: str, request: Request) -> Reply:
        return await calls.signal(workflow_id, name, payload, run_id, request)

    return act


def forking(calls: Calls, step: str) -> Act:
    """The action that forks from before a step (its id or its name)."""

    async def act(workflow_id: str, run_id: str, request: Request) -> Reply:
        return await calls.fork(workflow_id, ForkWorkflow(run_id, step=step), request)

    return act


async def chosen(calls: Calls, name: str, selection: Selection) -> list[RunSummary]:
    """The runs that a batch is about."""
    found: list[RunSummary] = []
    async for run in calls.runs(selection.status, selection.workflow_type, where=selection.where):
        if selection.limit is not None and len(found) >= selection.limit:
            break
        if selection.status or run.status in MEANT_FOR[name]:
            found.append(run)
    return found


async def carried_out(
    runs: Sequence[RunSummary],
    act: Act,
    batch_id: str,
    request: Request = NO_REQUEST,
    told: Callable[[Done], None] | None = None,
) -> list[Done]:
    """Do it to every run, some at once; `told` hears of each. Raises KafkaUnavailable."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(run: RunSummary) -> Done:
        own = replace(request, command_id=f"{batch_id}/{run.run_id}")
        async with room:
            done = partial(Done, run.workflow_id, run.run_id)
            try:
                await act(run.workflow_id, run.run_id, own)
                result = done("done")
            except ReplyTimeout as error:
                result = done("unknown", str(error))
            except (CommandRejected, RunClosed, WorkflowNotFound) as error:
                result = done("refused", str(error))
        if told is not None:
            told(result)
        return result

    return list(await asyncio.gather(*(one(run) for run in runs)))
