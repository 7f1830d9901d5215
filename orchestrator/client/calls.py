"""Every command and question, without types of the application's code: for tools, and under the typed client.

The JSON of questions and answers is the contract with `orchestrator/engine/queries.py`:
`result` is answered with `code` = how the run ended and its payload or failure (`continued_as_new`: the next run is
named in `message`), or `not_ready` with `code` = its status and, when it is parked, the sentence why in `message`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from orchestrator.core import commands as c
from orchestrator.core.tasks import Reply
from orchestrator.core.values import NOTHING, Failure, Payload
from orchestrator.errors import BlobError, OrchestratorError, ReplyTimeout, RunParked
from orchestrator.sdk.attributes import Where
from orchestrator.store.blobs import Blobs
from orchestrator.store.large import bytes_of, kept, light

from .caller import MAX_COMMAND, Caller
from .requests import NO_REQUEST, Request, new_command_id
from .views import (
    HistoryEvent,
    JsonObject,
    Outcome,
    Rejection,
    RunDescription,
    RunSummary,
    description,
    history_event,
    json_object,
    json_payload,
    rejection_view,
    run_summary,
)

log = logging.getLogger(__name__)

ROOM = MAX_COMMAND - 8_192
"""Bytes of a command that its payloads may take."""
LARGE = 65_536
"""Of a command that is larger, payloads above this are blobs."""
HISTORY_PAGE = 500
LIST_PAGE = 200
SAY_SO_S = 2.0
ASK_AGAIN_S = 0.5
"""Between two long polls of a run that answered at once: it is parked, or its engine is about to stop."""


class Calls:
    """The application's calls over one `Caller`. They raise CommandRejected, ReplyTimeout and KafkaUnavailable."""

    def __init__(self, caller: Caller, blobs: Blobs | None = None) -> None:
        self.caller = caller
        self._blobs = blobs

    # -- commands

    async def send(self, workflow_id: str, body: c.TopicCommand, request: Request = NO_REQUEST) -> Reply:
        """Send a command about one workflow; what does not fit into its record goes before it, as blobs.

        Raises as `Caller.command`, and BlobsUnavailable.
        """
        if sum(len(value.data) for value in body if isinstance(value, Payload)) > ROOM:
            body = await asyncio.to_thread(self._light, workflow_id, body)
        return await self.caller.command(workflow_id, body, request)

    def _light(self, workflow_id: str, body: c.TopicCommand) -> c.TopicCommand:
        try:
            return light(body, partial(kept, blobs=self._blobs, inline=LARGE, most=LARGE))
        except BlobError as error:
            raise type(error)(f"{type(body).__name__} of {workflow_id}: {error} Nothing was sent") from error

    async def start(self, workflow_id: str, body: c.StartWorkflow, request: Request = NO_REQUEST) -> Reply:
        """Start a run; the reply's `run_id` is the run (with `use_existing`, the one that was open)."""
        return await self.send(workflow_id, body, request)

    async def start_to_update(self, workflow_id: str, body: c.StartWorkflow, request: Request) -> Reply:
        """The first half of update-with-start: start a run unless one is open; `request` is the update's, with its id.

        Conflict policy `fail` means `use_existing` here.
        """
        if body.conflict == "fail":
            body = body._replace(conflict="use_existing")
        return await self.start(workflow_id, body, replace(request, command_id=f"{request.command_id}/start"))

    async def signal(
        self, workflow_id: str, name: str, payload: Payload, run_id: str = "", request: Request = NO_REQUEST
    ) -> Reply:
        """Deliver a signal; it is durable when this returns."""
        return await self.send(workflow_id, c.SignalWorkflow(name, payload, run_id), request)

    async def update(
        self, workflow_id: str, name: str, payload: Payload, run_id: str = "", request: Request = NO_REQUEST
    ) -> Reply:
        """Let a run's code accept an update; the command's id is the update's. Raises UpdateRejected, RunClosed."""
        clock = asyncio.get_running_loop().time
        request = replace(request, command_id=request.command_id or new_command_id())
        ends = clock() + (request.timeout_s or self.caller.options.timeout_s)
        while True:
            reply = await self.send(workflow_id, c.UpdateWorkflow(name, payload, run_id), request)
            if reply.outcome != "not_ready":
                return reply
            if clock() >= ends:
                raise ReplyTimeout(
                    f"update {name} of {workflow_id} could not be judged in time: {reply.message} (id"
                    f" {request.command_id})"
                )
            await asyncio.sleep(ASK_AGAIN_S / 5)

    async def cancel(self, workflow_id: str, run_id: str = "", request: Request = NO_REQUEST) -> Reply:
        """Ask a run to end."""
        return await self.caller.command(workflow_id, c.CancelWorkflow(run_id), request)

    async def terminate(self, workflow_id: str, run_id: str = "", request: Request = NO_REQUEST) -> Reply:
        """End a run at once."""
        return await self.caller.command(workflow_id, c.TerminateWorkflow(run_id), request)

    async def fork(self, workflow_id: str, body: c.ForkWorkflow, request: Request = NO_REQUEST) -> Reply:
        """Let a run go on from a point of its history; the reply's `run_id` is the new run."""
        return await self.send(workflow_id, body, request)

    async def retry(self, workflow_id: str, run_id: str = "", request: Request = NO_REQUEST) -> Reply:
        """Let a parked run go on."""
        return await self.caller.command(workflow_id, c.RetryWorkflow(run_id), request)

    async def pause(self, workflow_id: str, run_id: str = "", request: Request = NO_REQUEST) -> Reply:
        """Let a run's code stand still."""
        return await self.caller.command(workflow_id, c.PauseWorkflow(run_id), request)

    async def resume(self, workflow_id: str, run_id: str = "", request: Request = NO_REQUEST) -> Reply:
        """Let a paused run go on."""
        return await self.caller.command(workflow_id, c.ResumeWorkflow(run_id), request)

    async def complete_step(
        self, workflow_id: str, run_id: str, step: str, result: Payload, request: Request = NO_REQUEST
    ) -> Reply:
        """Give a step its result from outside."""
        return await self.send(workflow_id, c.ResolveStep(run_id, step, "complete", result), request)

    async def fail_step(
        self, workflow_id: str, run_id: str, step: str, failure: Failure, request: Request = NO_REQUEST
    ) -> Reply:
        """End a step with a failure from outside."""
        return await self.send(workflow_id, c.ResolveStep(run_id, step, "fail", NOTHING, failure), request)

    async def retry_step(self, workflow_id: str, run_id: str, step: str, request: Request = NO_REQUEST) -> Reply:
        """Let a parked step be attempted again."""
        return await self.send(workflow_id, c.ResolveStep(run_id, step, "retry"), request)

    async def beat_step(
        self, workflow_id: str, run_id: str, step: str, details: Payload, request: Request = NO_REQUEST
    ) -> Reply:
        """Say for a step that it is alive; its next attempt gets the details."""
        return await self.send(workflow_id, c.ResolveStep(run_id, step, "heartbeat", details), request)

    # -- questions

    async def ask(self, workflow_id: str, kind: str, arguments: Any = None, run_id: str = "", name: str = "") -> Reply:
        """Any question about one workflow, with JSON arguments."""
        return await self.caller.query(workflow_id, c.QueryWorkflow(kind, run_id, name, json_payload(arguments)))

    async def describe(self, workflow_id: str, run_id: str = "", brief: bool = False) -> RunDescription:
        """A run's state, and why it waits. `brief`: without what the engine must look up in its history."""
        reply = await self.ask(workflow_id, "describe", {"brief": True} if brief else None, run_id)
        return description(json_object(reply, f"the description of {workflow_id}"))

    async def code_query(self, workflow_id: str, name: str, arguments: Payload, run_id: str = "") -> Payload:
        """A question to the workflow's code."""
        reply = await self.caller.query(workflow_id, c.QueryWorkflow("code", run_id, name, arguments))
        return reply.result

    async def history(self, workflow_id: str, run_id: str = "", from_seq: int = 1) -> AsyncIterator[HistoryEvent]:
        """A run's events, page by page, all of the same run."""
        following: int | None = from_seq
        while following is not None:
            arguments = {"from_seq": following, "limit": HISTORY_PAGE}
            reply = await self.ask(workflow_id, "history", arguments, run_id)
            run_id = run_id or reply.run_id
            page = json_object(reply, f"the history of {workflow_id}")
            for raw in page["events"]:
                yield history_event(raw)
            following = page.get("next_seq")

    async def rejections(self, workflow_id: str, run_id: str = "") -> AsyncIterator[Rejection]:
        """The refused commands of a workflow id, or of one of its runs, by the commands' ids."""
        after: Any = None
        while True:
            reply = await self.ask(workflow_id, "rejections", {"after": after}, run_id)
            page = json_object(reply, f"the rejections of {workflow_id}")
            for raw in page["rejections"]:
                yield rejection_view(raw)
            after = page.get("next")
            if after is None:
                return

    async def runs(
        self,
        status: str = "",
        workflow_type: str = "",
        limit: int | None = None,
        where: Sequence[Where] = (),
        *,
        newest: bool = False,
    ) -> AsyncIterator[RunSummary]:
        """The runs of every partition that fit every condition, one partition after the other, at most `limit`.

        `newest`: of each workflow id the newest run alone, if it fits. Engines of an older release list the others too:
        of what they found the newest is asked for.
        """
        left = limit
        conditions = [list(one) for one in where]
        asked = {"status": status, "workflow_type": workflow_type, "where": conditions, "newest": newest}
        for partition in range(self.caller.partitions):
            async for page in self._pages("list", asked, partition):
                minded = not newest or page.get("newest")
                for raw in page["runs"]:
                    if left is not None and left <= 0:
                        return
                    if minded or await self._is_newest(raw):
                        yield run_summary(raw)
                        left = None if left is None else left - 1

    async def _is_newest(self, raw: JsonObject) -> bool:
        newest = await self.describe(str(raw["workflow_id"]), brief=True)
        return newest.run_id == str(raw["run_id"])

    async def dead_letters(self, partition: int) -> AsyncIterator[JsonObject]:
        """The dead letters that a partition's state knows."""
        async for raw in self.pages("dead_letters", "dead_letters", {}, partition):
            yield raw

    async def pages(
        self, kind: str, member: str, arguments: Mapping[str, Any], partition: int
    ) -> AsyncIterator[JsonObject]:
        """What a partition lists, page by page."""
        async for page in self._pages(kind, arguments, partition):
            for raw in page[member]:
                yield raw

    async def _pages(self, kind: str, arguments: Mapping[str, Any], partition: int) -> AsyncIterator[JsonObject]:
        after: Any = None
        while True:
            asked = json_payload({**arguments, "limit": LIST_PAGE, "after": after})
            reply = await self.caller.query("", c.QueryWorkflow(kind, arguments=asked), partition=partition)
            page = json_object(reply, f"{kind} of partition {partition}")
            yield page
            after = page.get("next")
            if after is None:
                return

    async def outcome(
        self,
        workflow_id: str,
        run_id: str = "",
        timeout_s: float | None = None,
        waiting: Callable[[Reply], None] | None = None,
    ) -> Outcome:
        """Wait until a run has ended, or those that continue it; None waits for ever.

        With the option `parked="raise"` a parked run raises RunParked at once; else it is waited for, and RunParked is
        raised only if it still is parked when the time is over. `waiting` hears every `not_ready` reply.
        Raises ReplyTimeout when the time is over, BlobError when a result kept as a blob cannot be had.
        """
        body = c.QueryWorkflow("result", run_id)
        reply = await self._waited(workflow_id, body, timeout_s, waiting)
        return Outcome(reply.code, reply)

    async def update_outcome(
        self, workflow_id: str, run_id: str, update_id: str, timeout_s: float | None = None
    ) -> Reply:
        """Wait until an accepted update has ended; `code` is completed, failed or closed (the run ended first).

        Raises as `outcome`, and WorkflowNotFound when the run never accepted it.
        """
        return await self._waited(workflow_id, c.QueryWorkflow("update", run_id, update_id), timeout_s, None)

    async def _waited(
        self,
        workflow_id: str,
        body: c.QueryWorkflow,
        timeout_s: float | None,
        waiting: Callable[[Reply], None] | None,
    ) -> Reply:
        clock = asyncio.get_running_loop().time
        ends = None if timeout_s is None else clock() + timeout_s
        latest: Reply | None = None
        while True:
            left = None if ends is None else ends - clock()
            if left is not None and left <= 0:
                raise _not_ended(workflow_id, body, timeout_s or 0.0, latest)
            asked_at = clock()
            reply = await self._poll(workflow_id, body, left, latest)
            if reply.outcome == "answered" and reply.code == "continued_as_new":
                body, latest = body._replace(run_id=reply.message), None
                continue
            if reply.outcome == "answered":
                return await asyncio.to_thread(self._whole, reply) if reply.result.blob else reply
            self._note_wait(reply, latest, waiting)
            body, latest = body._replace(run_id=reply.run_id or body.run_id), reply
            if clock() - asked_at < ASK_AGAIN_S:
                await asyncio.sleep(ASK_AGAIN_S if left is None else min(ASK_AGAIN_S, left))

    def _whole(self, reply: Reply) -> Reply:
        """A reply with the bytes of its result."""
        what = f"the result of {reply.workflow_id}/{reply.run_id}"
        return reply._replace(result=bytes_of(reply.result, self._blobs, what))

    async def _poll(self, workflow_id: str, body: c.QueryWorkflow, left: float | None, latest: Reply | None) -> Reply:
        wait_s = self.caller.options.poll_s if left is None else min(self.caller.options.poll_s, left * 0.8)
        body = body._replace(wait_ms=max(int(wait_s * 1000), 1))
        try:
            # The engine answers `not_ready` after wait_ms: it gets longer than that to say so, for a better message.
            return await self.caller.query(workflow_id, body, None if left is None else left + SAY_SO_S)
        except ReplyTimeout:
            if latest is None:
                raise
            return latest

    def _note_wait(self, reply: Reply, latest: Reply | None, waiting: Callable[[Reply], None] | None) -> None:
        if waiting is not None:
            waiting(reply)
        if reply.code != "parked":
            return
        error = parked(reply)
        if self.caller.options.parked == "raise":
            raise error
        if latest is None or latest.code != "parked":
            log.warning("waiting for %s, which is %s", reply.workflow_id, error)


def parked(reply: Reply) -> RunParked:
    """The error of a run that stands still."""
    sentence = reply.message.removeprefix("parked: ")
    return RunParked(f"parked: {sentence}", workflow_id=reply.workflow_id, run_id=reply.run_id)


def _not_ended(workflow_id: str, body: c.QueryWorkflow, waited: float, latest: Reply | None) -> OrchestratorError:
    if latest is not None and latest.code == "parked":
        return parked(latest)
    status = f" (it is {latest.code})" if latest is not None and latest.code else ""
    which = f"{workflow_id}/{body.run_id}" if body.run_id else workflow_id
    which = f"update {body.name} of {which}" if body.kind == "update" else which
    return ReplyTimeout(
        f"{which} has not ended within {waited:g} s{status}; it goes on. Ask again, or see"
        f" `orchestrator workflow show {workflow_id}`"
    )
