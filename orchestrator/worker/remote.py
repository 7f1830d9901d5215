"""Steps offered on task topics: ask for the grant, carry out on the same executor, keep the lease, report.

Knows Kafka only by what it is given: a source of offers and somebody who sends commands and waits for their replies.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from orchestrator.client.requests import Request, new_command_id
from orchestrator.codec.records import Codec
from orchestrator.core.commands import HeartbeatStep, ReportStep
from orchestrator.core.retry import NOT_STARTED
from orchestrator.core.tasks import StopStep, TaskOffer
from orchestrator.core.values import NOTHING, Failure, Payload
from orchestrator.engine.large import reported, unheard, whole_call
from orchestrator.engine.options import PAYLOAD_BYTES
from orchestrator.errors import (
    BlobError,
    CommandRejected,
    LimitExceeded,
    OrchestratorError,
    UndecodableRecord,
)
from orchestrator.failpoints import failpoint
from orchestrator.sdk.execution import (
    CANCELLED,
    Report,
    StepCall,
    StepExecutor,
    StepReport,
    cancelled,
    outcome,
)
from orchestrator.store.large import kept, light

from .grants import UNANSWERED, Grants, Places
from .held import Held, call_of
from .options import Asks, WorkerOptions
from .slots import Slots

log = logging.getLogger(__name__)
_POLL_S = 0.2
_GRANT_S = 1.0
"""How long a grant that was asked for is waited for at the end, if the grace time is shorter."""


class TaskSource(Protocol):
    """Offers of the queues that this worker serves, each acknowledged as it is handed over. Used by one thread."""

    def poll(self, timeout_s: float, take: bool) -> bytes | None:
        """The next offer's value, None if there is none in time. `take` False: only stay a member of the group."""

    def close(self) -> None:
        """Leave the group."""


class RemoteWorker:
    """One worker process. Steps that are `fail` or `park` run in a process of their own."""

    def __init__(
        self,
        options: WorkerOptions,
        asks: Asks,
        source: TaskSource,
        executor: Callable[[Report, Callable[[], None]], StepExecutor],
        codec: Codec | None = None,
    ) -> None:
        """`executor(report, freed)` makes the executor."""
        self._options = options
        self._asks = asks
        self._source = source
        self._make_executor = executor
        self._codec = codec or Codec()
        self._keep = partial(kept, blobs=options.blobs, inline=PAYLOAD_BYTES, most=PAYLOAD_BYTES)
        self._slots = Slots(options.slots)
        self._draining = False
        self._held: dict[str, Held] = {}
        self._asked: dict[str, StopStep | None] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._places = Places(self._slots, lambda: self._executor, lambda: self._draining)
        self._grants = Grants(options, asks, self._places)
        self.started = False
        self.ending = "while it began to end"
        """What the end of this worker waits for."""
        self.untold: list[str] = []
        """Tokens of attempts whose outcome nobody took."""
        self._executor: StepExecutor
        self._loop: asyncio.AbstractEventLoop

    async def run(self, drain: asyncio.Event) -> frozenset[str]:
        """Work until `drain` is set, then finish within the grace time.

        Returns the tokens of steps that were cut off.
        """
        self._loop = asyncio.get_running_loop()
        self._executor = self._make_executor(
            self._from_thread(self._reported), self._from_thread(self._places.freed.set)
        )
        self.started = True
        poller = asyncio.create_task(asyncio.to_thread(self._poll))
        renewer = asyncio.create_task(self._renew())
        stop = asyncio.create_task(drain.wait())
        try:
            await asyncio.wait([poller, stop], return_when=asyncio.FIRST_COMPLETED)
            return await self._drain(poller)
        finally:
            stop.cancel()
            renewer.cancel()

    async def _drain(self, poller: asyncio.Task[None]) -> frozenset[str]:
        self._draining = True
        self._slots.wake()
        self._places.freed.set()
        until = time.monotonic() + self._options.grace_s
        try:
            await poller
            log.info("takes nothing more; %d steps may finish within %g s", len(self._held), self._options.grace_s)
        finally:
            # A coordinator that is gone holds nothing up: steps end, and are reported, meanwhile.
            closing = asyncio.create_task(asyncio.to_thread(self._source.close))
            self.ending = "while steps were running"
            await self._settle(self._asking, max(_GRANT_S, until - time.monotonic()))
            cut = await asyncio.to_thread(self._executor.stop, max(0.0, until - time.monotonic()))
            await asyncio.sleep(0)  # reports handed over by the executor's thread become tasks
            self.ending = "while outcomes were reported"
            await self._settle(self._telling, self._options.report_s)
            self.ending = "while the queues were left"
            await closing
        for token in cut:
            log.warning("step %s was cut off by the end of the grace time; its lease runs out", token)
        return frozenset(cut)

    async def _settle(self, tasks: set[asyncio.Task[None]], timeout_s: float) -> None:
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                # They say what becomes of them.
                await asyncio.wait(late, timeout=_POLL_S)

    def _from_thread(self, call: Callable[..., object]) -> Callable[..., None]:
        def hand_over(*values: Any) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(call, *values)

        return hand_over

    # --- offers: the polling thread ----------------------------------------------------------------------------------

    def _poll(self) -> None:
        while not self._draining:
            take = self._slots.take()
            value = self._source.poll(_POLL_S if take else 0.0, take)
            if value is not None:
                self._loop.call_soon_threadsafe(self._offered, value)
            elif take:
                self._slots.give_back()
                self._loop.call_soon_threadsafe(self._places.freed.set)
            else:
                self._slots.wait(_POLL_S)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _offered(self, value: bytes) -> None:
        try:
            offer = self._codec.decode(value)
        except UndecodableRecord as error:
            log.warning("a record on a task topic that is no offer: %s", error)
            offer = None
        if not isinstance(offer, TaskOffer) or offer.token in self._held or offer.token in self._asked:
            self._slots.give_back()
            self._places.freed.set()
            return
        self._slots.assign(offer.token)
        self._asked[offer.token] = None
        self._task(self._asking, self._ask(offer))

    def stop(self, stop: StopStep) -> None:
        """The engine wants an attempt to end. On the worker's loop."""
        held = self._held.get(stop.token)
        if held is not None:
            log.info("%s is to end: %s", held.call.where(), stop.why)
            held.over = held.over or stop.over
            self._executor.cancel(stop.token)
        elif stop.token in self._asked:
            # It overtook, on this loop, the answer that granted the attempt.
            self._asked[stop.token] = stop

    def _task(self, kind: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        kind.add(task)
        task.add_done_callback(kind.discard)

    async def _ask(self, offer: TaskOffer) -> None:
        """Get the grant, then begin. Without it nothing happens here: the engine offers again."""
        begin_before = None
        try:
            if not await self._places.reserve(offer):
                self._places.release(offer.token)
                return
            begin_before = await self._grants.of(offer)
            if begin_before is not None:
                await self._begin(offer, begin_before)
        except asyncio.CancelledError:
            if begin_before is None:
                log.warning("%s was asked for, and ends here unbegun: once granted, its lease runs out", offer.token)
            else:
                self._end_unbegun(offer, call_of(offer, begin_before))
            raise
        finally:
            del self._asked[offer.token]

    async def _begin(self, offer: TaskOffer, begin_before: float) -> None:
        call = call_of(offer, begin_before)
        there = call if time.monotonic() >= begin_before else await self._fetched(call)
        # From here on nothing is waited for: an end that is asked for later finds the attempt.
        if self._asked[offer.token] is not None or time.monotonic() >= begin_before:
            self._end_unbegun(offer, call)
        elif isinstance(there, Failure):
            self._end_unbegun(offer, call, there)
        else:
            self._hold(offer, call)
            if not self._executor.start(there):
                why = f"{call.where()} was not begun: the worker lost the process it was to run in"
                self._reported(outcome(call, NOTHING, Failure(NOT_STARTED, why)))

    def _hold(self, offer: TaskOffer, call: StepCall) -> None:
        stop = self._asked[offer.token]
        over = stop is not None and stop.over
        self._held[offer.token] = Held(call, offer.details, offer.details, offer.details, over=over)

    def _end_unbegun(self, offer: TaskOffer, call: StepCall, failure: Failure | None = None) -> None:
        """Report a granted attempt that does not begin here: it failed so, is not wanted, or has no place in time."""
        self._hold(offer, call)
        self._executor.unreserve(offer.token)
        if self._asked[offer.token] is not None:
            failure = cancelled(call, "before it began")
        elif failure is None:
            failure = Failure(NOT_STARTED, f"{call.where()} was not begun: its worker had no place for it in time")
        self._reported(outcome(call, NOTHING, failure))

    async def _fetched(self, call: StepCall) -> StepCall | Failure:
        """The attempt with its bytes, or why it cannot begin without."""
        if call.arguments.blob is None and call.details.blob is None:
            return call
        try:
            return await asyncio.to_thread(whole_call, call, self._options.blobs)
        except BlobError as error:
            return unheard(error)

    def _reported(self, report: StepReport) -> None:
        held = self._held.get(report.body.token)
        if held is None or held.ended:
            return
        if isinstance(report.body, HeartbeatStep):
            held.details = report.body.details
            self._task(self._telling, self._beat(held))
        else:
            held.ended = True
            self._task(self._telling, self._tell(held, report.body))

    async def _tell(self, held: Held, body: ReportStep) -> None:
        """Report until somebody decided: a result may have been expensive."""
        failpoint("K20")
        request = Request(command_id=new_command_id(), trace=held.call.trace)
        try:
            body = await asyncio.to_thread(reported, held.call.workflow_id, body, self._keep, PAYLOAD_BYTES)
            if body.failure is not None and held.details is not held.said:
                # The next attempt gets the newest details, unless they are too large for anybody.
                with suppress(LimitExceeded):
                    await self._say_alive(held, *await self._words(held))
            # An end that was asked for because the step has its outcome is no news.
            while not (held.over and body.failure is not None and body.failure.type == CANCELLED):
                try:
                    await self._asks.command(held.call.workflow_id, body, request)
                    return
                except UNANSWERED as error:
                    log.warning("%s has an outcome that nobody takes yet: %s", held.call.where(), error)
                    await asyncio.sleep(_POLL_S)
                except LimitExceeded as error:
                    failure = Failure("LimitExceeded", f"{held.call.where()}: {error}", retryable=False)
                    body = body._replace(result=NOTHING, failure=failure)
                    request = Request(command_id=new_command_id(), trace=held.call.trace)
        except CommandRejected as error:
            self._lose(held, error)
        except asyncio.CancelledError:
            self.untold.append(held.call.token)
            log.error("the outcome of %s was taken by nobody: as if its worker had crashed", held.call.where())
            raise
        finally:
            self._held.pop(held.call.token, None)
            self._places.release(held.call.token)

    async def _beat(self, held: Held) -> None:
        if held.beating or held.lost or held.over:
            return
        held.beating = True
        try:
            details, body = await self._words(held)
            # An outcome that came meanwhile says the last details itself, before it: these would come behind it.
            if not held.ended:
                await self._say_alive(held, details, body)
        except LimitExceeded as error:
            held.over = True
            self._executor.cancel(held.call.token)
            failure = Failure("LimitExceeded", f"heartbeat of {held.call.where()}: {error}", retryable=False)
            self._reported(outcome(held.call, NOTHING, failure))
        finally:
            held.beating = False

    async def _words(self, held: Held) -> tuple[Payload, HeartbeatStep]:
        """The newest details, and what says them: as a blob, or those sent before where that cannot be done."""
        call, details = held.call, held.details
        body = HeartbeatStep(call.run_id, call.step, call.attempt, call.token, details)
        if len(details.data) <= PAYLOAD_BYTES:
            return details, body
        try:
            return details, await asyncio.to_thread(light, body, self._keep)
        except BlobError as error:
            log.warning("a heartbeat of %s has the details of the one before: %s", call.where(), error)
            return details, body._replace(details=held.sent)

    async def _say_alive(self, held: Held, details: Payload, body: HeartbeatStep) -> None:
        call, held.said, held.sent = held.call, details, body.details
        try:
            await self._asks.command(call.workflow_id, body, Request(trace=call.trace))
        except CommandRejected as error:
            self._lose(held, error)
            self._executor.cancel(call.token)
        except LimitExceeded:
            raise
        except OrchestratorError as error:
            log.warning("a heartbeat of %s was not taken: %s", call.where(), error)

    def _lose(self, held: Held, error: CommandRejected) -> None:
        if not held.lost:
            held.lost = True
            log.warning("%s is no longer this worker's; its result is dropped: %s", held.call.where(), error)

    async def _renew(self) -> None:
        """Keep the leases of steps without a heartbeat time-out, and of outcomes that nobody took yet."""
        while True:
            await asyncio.sleep(self._options.renew_s)
            for token, held in list(self._held.items()):
                if not held.call.heartbeat_ms or token not in self._executor.running():
                    self._task(self._telling, self._beat(held))
