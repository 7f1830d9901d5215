"""From an offer to its grant: asked for until an engine has decided, however long there is none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from orchestrator.client.requests import Request, new_command_id
from orchestrator.core.commands import HeartbeatStep, StartStep
from orchestrator.core.tasks import TaskOffer
from orchestrator.errors import CommandRejected, KafkaUnavailable, OrchestratorError, ReplyTimeout
from orchestrator.sdk.execution import StepExecutor

from .options import Asks, WorkerOptions
from .slots import Slots

log = logging.getLogger(__name__)
_AGAIN_S = 0.2
UNANSWERED = (ReplyTimeout, KafkaUnavailable)


class Places:
    """Where granted attempts run: a slot each, and for those that must never begin twice a process of their own."""

    def __init__(self, slots: Slots, executor: Callable[[], StepExecutor], draining: Callable[[], bool]) -> None:
        self.slots = slots
        self.draining = draining
        self.freed = asyncio.Event()
        self._executor = executor

    async def reserve(self, offer: TaskOffer) -> bool:
        """For an offer that has a slot. False: the worker ends first."""
        while offer.on_crash != "retry" and not self.draining():
            self.freed.clear()
            if self._executor().reserve(offer.token):
                return True
            await self.freed.wait()
        return offer.on_crash == "retry"

    def waive(self, token: str) -> None:
        """Others run meanwhile, in the place of an attempt that nobody answers for."""
        if self.slots.waive(token):
            self._executor().unreserve(token)
            self.freed.set()

    async def taken(self, offer: TaskOffer, timeout_s: float) -> bool:
        """For an attempt that was granted late: whether it has a place within so many seconds, before the drain."""
        if self.slots.holds(offer.token):
            return True
        with suppress(TimeoutError), self.slots.due():
            async with asyncio.timeout(timeout_s):
                while not self.draining():
                    self.freed.clear()
                    if self._take(offer):
                        return True
                    await self.freed.wait()
        return False

    def _take(self, offer: TaskOffer) -> bool:
        if not self.slots.take_due():
            return False
        if offer.on_crash == "retry" or self._executor().reserve(offer.token):
            self.slots.assign(offer.token)
            return True
        self.slots.give_back()
        return False

    def release(self, token: str) -> None:
        """An attempt's slot is another's; nothing, if it has none."""
        self.slots.release(token)
        self.freed.set()

    def give_up(self, token: str) -> None:
        """What an attempt that does not begin had."""
        self._executor().unreserve(token)
        self.release(token)


class Grants:
    """Asks for offered attempts. As many as there are slots may go unanswered without a place: others run meanwhile."""

    def __init__(self, options: WorkerOptions, asks: Asks, places: Places) -> None:
        self._options = options
        self._asks = asks
        self._places = places

    async def of(self, offer: TaskOffer) -> float | None:
        """By when, in `time.monotonic()`, the attempt must begin here, for it is this worker's; None: it is not.

        Asked for again, with the same id, until an engine decides: the command is on its topic, and one that is back
        after hours grants what nobody would wait for. Then only a renewal tells whether the lease still holds. A time
        that is over already: it is this worker's, but there is no place for it.
        """
        lease_s = max(self._options.lease_s, 2 * offer.heartbeat_ms / 1000)
        asked = time.monotonic()
        try:
            if await self._asked(offer, lease_s):
                return asked + lease_s
            return await self._renewed(offer, lease_s)
        except OrchestratorError as error:
            level = logging.DEBUG if isinstance(error, CommandRejected) else logging.WARNING
            log.log(level, "no grant for step %r of workflow %r: %s", offer.name, offer.workflow_id, error)
            self._places.give_up(offer.token)
            return None

    async def _asked(self, offer: TaskOffer, lease_s: float) -> bool:
        """Whether the grant came within the lease. Raises CommandRejected, LimitExceeded; on a drain, what is told."""
        options, in_time = self._options, True
        body = StartStep(offer.run_id, offer.step, offer.attempt, offer.token, options.worker, int(lease_s * 1000))
        request = Request(new_command_id(), timeout_s=lease_s, trace=offer.trace)
        while True:
            try:
                await self._asks.command(offer.workflow_id, body, request)
                return in_time
            except UNANSWERED as error:
                if in_time:
                    log.warning("step %r of workflow %r is asked for again: %s", offer.name, offer.workflow_id, error)
                in_time = False
                self._places.waive(offer.token)
                await asyncio.sleep(_AGAIN_S)
                if self._places.draining():
                    raise

    async def _renewed(self, offer: TaskOffer, lease_s: float) -> float:
        """Until when the lease holds once there is a place, or now. Raises CommandRejected: it has run out.

        A place is waited for as long as a lease lasts: another worker may have one, and the step's time runs.
        """
        beat = HeartbeatStep(offer.run_id, offer.step, offer.attempt, offer.token, offer.details)
        every_s = min(self._options.renew_s, lease_s / 3, offer.heartbeat_ms / 3000 or lease_s)
        until = time.monotonic() + lease_s
        while True:
            renewed = time.monotonic()
            try:
                await self._asks.command(offer.workflow_id, beat, Request(trace=offer.trace))
                if await self._places.taken(offer, every_s):
                    return renewed + lease_s
            except UNANSWERED:
                await asyncio.sleep(_AGAIN_S)
            except asyncio.CancelledError:
                # The end of the drain: what was granted is still given back.
                return renewed
            if self._places.draining() or time.monotonic() > until:
                return renewed
