"""One partition: its thread, its terms of ownership, and what it does when one of them fails."""

from __future__ import annotations

import enum
import gc
import logging
import random
import threading
from contextlib import suppress

from ..errors import ConfigurationError, KafkaUnavailable, LogGap, LogReplaced, StoreDamaged, StoreError
from ..log.ports import Fenced, TopicIds
from ..sdk.turn import Overlong
from ..store.rows import Store
from .inbox import Inbox
from .loop import PartitionLoop
from .ownership import Ground
from .poison import PoisonedInput
from .shared import Shared
from .skew import ClockSkewed
from .soundness import ClaimLost, HangingTransaction, claimed_by

log = logging.getLogger(__name__)

RETRY_S = 2.0
TAKEN_S = 1.0
"""How long an owner that could not be released looks for who may have taken the partition."""
FIRST_COMMAND_S = 1.0
"""How long an owner that is to go at once waits for the commands that were there when it came."""
SKEW_RETRY_S = 30.0
"""Clocks that are wrong are not set right within seconds, and each look at them is a claim and a release."""
PASSING = (StoreError, HangingTransaction, ConfigurationError, KafkaUnavailable)
"""Troubles that may pass: a full disk, a hidden log, a broker that is away.

The partition stands still and tries again.
"""


class State(enum.Enum):
    """What a partition is doing, for probes and people."""

    RESTORING = "restoring"
    OWNED = "owned"
    PARKED = "parked"
    STOPPED = "stopped"


class Partition:
    """Owns one partition from `start` until `release`, its end, or an error that only a person can mend."""

    def __init__(self, number: int, shared: Shared) -> None:
        self.number = number
        self._shared = shared
        self.state = State.RESTORING
        self.problem = ""
        self.inbox = self.make_inbox()
        self._loop: PartitionLoop | None = None
        self._fell = False
        self._skewed = False
        self._settled = 0
        """The last claim that was released, or that another's came after."""
        self._thread = threading.Thread(target=self.run, name=f"partition-{number}", daemon=True)

    def make_inbox(self) -> Inbox:
        """Where its inputs wait, and its thread for them. A simulation's does not block."""
        inputs, number = self._shared.log.inputs(), self.number
        return Inbox(lambda: inputs.pause(number), lambda: inputs.resume(number))

    @property
    def state(self) -> State:
        """What it does now."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._shared.options.observer.state(self.number, state.value)

    @property
    def deadline(self) -> float:
        """When, by the monotonic clock, the supervisor takes the partition for hung."""
        return self._loop.deadline if self._loop is not None else float("inf")

    def idle_for(self) -> float | None:
        """Seconds until the partition's next durable moment if it has nothing else to do; None while it is at work."""
        loop = self._loop
        return loop.idle_for() if loop is not None and self.state is State.OWNED else None

    @property
    def unreleased(self) -> bool:
        """Whether a claim of this process may be the last on the log: its successor takes over as after a crash."""
        return self._loop is not None and self._loop.ground.claim_no > self._settled

    @property
    def awaited(self) -> bool:
        """Whether someone waits for the result of one of its runs."""
        return self._loop is not None and self._loop.queries.awaited

    def compare(self, ids: TopicIds) -> int:
        """From another thread: are the topics still those of the last claim? If not, the partition goes down.

        Returns the partition count that its log records, 0 if it owns nothing now.
        """
        loop = self._loop
        before = loop.ground.ids if loop is not None else None
        if loop is None or before is None or self.state is not State.OWNED:
            return 0
        for name, was, found in (("events", before.events, ids.events), ("commands", before.commands, ids.commands)):
            if was != found or before.cluster_id != ids.cluster_id:
                self.inbox.take_down(
                    f"{self._shared.log.app}.{name}: it was topic {was} of cluster {before.cluster_id} when this engine"
                    f" claimed partition {self.number}, now it is {found} of {ids.cluster_id}: it was deleted and"
                    " created again. Stop the engines; the same log, moved or mirrored: orchestrator topics adopt;"
                    f" another one: orchestrator partition repair {self.number}"
                )
        return loop.ground.recorded

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin owning, on a thread of its own."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread's end; whether it ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def run(self) -> None:
        """The whole life of a partition, in the calling thread. Its directory is nobody's when it ends, however."""
        store: Store | None = None
        try:
            store = self._open_store()
            if store is not None:
                shared = self._shared
                ground = Ground(self.number, shared.log, shared.codec, store, self.inbox, shared.options, shared.clock)
                self._loop = PartitionLoop(ground, shared)
                while self._own(self._loop):
                    pass
        except Exception as error:
            # The last resort: a defect of ours must not take the other partitions with it.
            log.exception("partition %d stopped", self.number)
            self._fall(f"{type(error).__name__}: {error}")
        finally:
            try:
                if store is not None:
                    self._close(store)
            finally:
                self._shared.stopped(self.number, self.problem)

    def _close(self, store: Store) -> None:
        if self._fell:
            # A scan that was left half way holds the directory open.
            gc.collect()
        store.close()

    def _fall(self, problem: str) -> None:
        """Parked by a defect: others go on, so nothing may take this one for hung, or wait for what it held."""
        self._fell = True
        self.problem = problem
        self.state = State.PARKED
        if self._loop is not None:
            with suppress(Exception):
                self._loop.abandon()
            with suppress(Exception):
                self._end(self._loop, State.PARKED, problem)

    def _open_store(self) -> Store | None:
        """Open the directory; one that cannot be used now is tried again, for a lock or a full disk passes.

        One that was kept warm is open already.
        """
        if (warm := self._shared.standby.take(self.number)) is not None:
            return warm
        while not self.inbox.request.release:
            try:
                return self._shared.open_store(self.number)
            except StoreError as error:
                self._stand_still(str(error))
                self.inbox.wait(1.0)
        return None

    def _own(self, loop: PartitionLoop) -> bool:
        """Claim and work until something ends it; whether to claim again."""
        try:
            self._claim(loop)
            self._work(loop)
            self._hand_over(loop)
            self._end(loop, State.STOPPED, "")
            log.info("partition %d: released", self.number)
        except Fenced as error:
            log.warning("partition %d: %s; claiming again", self.number, error)
            # What is in memory is on no log, and nobody may take it for the partition's state.
            self.state = State.RESTORING
            if self.inbox.request.release and self._taken(loop):
                self._settled = loop.ground.claim_no
            # Two owners that claim in turn would fence each other for ever: one of them waits longer.
            return self._again(loop, random.uniform(0.05, 0.5))
        except Overlong:
            # It landed outside the turn that it was meant for: nothing in memory can be trusted.
            self._shared.guard.disarm()
            log.warning("partition %d: the end of a turn came late; claiming again", self.number)
            return self._again(loop, 0.0)
        except PoisonedInput as error:
            log.exception("partition %d: %s; claiming again without it", self.number, error)
            return self._again(loop, 0.0)
        except StoreDamaged as error:
            loop.abandon()
            loop.ground.damaged = str(error)
            return self._again(loop, 0.0)
        except PASSING as error:
            self._stand_still(str(error))
            return self._again(loop, RETRY_S)
        except ClockSkewed as error:
            self._stand_still(str(error), told=self._skewed)
            self._skewed = True
            return self._let_go(loop)
        except ClaimLost as error:
            log.warning("partition %d: %s", self.number, error)
            self._settled = loop.ground.claim_no
            if self._shared.options.claims_back:
                return self._again(loop, random.uniform(1.0, 3.0))
            loop.abandon()
            self._end(loop, State.STOPPED, str(error))
        except (LogGap, LogReplaced) as error:
            loop.abandon()
            self._stand_still(str(error))
            self._end(loop, State.PARKED, str(error))
        return False

    def _work(self, loop: PartitionLoop) -> None:
        """Until the partition is to be released.

        Whoever came takes a batch of what was there, however soon it has to go: otherwise a partition that changes
        owners faster than commands are fetched would get nowhere.
        """
        came_at = loop.intake.next_offset
        while not self.inbox.request.release:
            loop.cycle()
            self._shared.checkpoints.look(self.number)
        if loop.intake.next_offset == came_at:
            if self._shared.log.inputs().reached(self.number) < loop.came_to:
                self.inbox.wait_commands(FIRST_COMMAND_S)
            loop.cycle()

    def _let_go(self, loop: PartitionLoop) -> bool:
        """Release a partition that is not worked on, for one whose clock is right; claim it again after a while.

        A release that fails leaves an unclean claim, no worse than that.
        """
        try:
            self._hand_over(loop)
        except (Fenced, LogGap, ClaimLost, *PASSING) as error:
            log.warning("partition %d: it could not be released: %s", self.number, error)
        return self._again(loop, SKEW_RETRY_S)

    def _taken(self, loop: PartitionLoop) -> bool:
        """Whether another's claim comes back behind ours: what fences an owner that stood still."""
        shared = self._shared
        until = shared.clock.monotonic() + TAKEN_S
        while self.inbox.wait_tail(max(0.0, until - shared.clock.monotonic())):
            who = claimed_by(shared.codec, self.inbox.tail.popleft())
            if who and not who.startswith(f"{shared.options.instance} "):
                log.warning("partition %d: claimed by %s; there is nothing to release", self.number, who)
                return True
        return False

    def _hand_over(self, loop: PartitionLoop) -> None:
        loop.hand_over()
        self._settled = loop.ground.claim_no

    def _claim(self, loop: PartitionLoop) -> None:
        self.state = State.RESTORING
        clock = self._shared.clock
        began = clock.monotonic()
        # A process that stood still completes its heartbeats first: the group may have given the partition away.
        while not self._shared.log.membership().healthy() and not self.inbox.request.release:
            self.inbox.wait(0.1)
        folded = loop.ground.restored_events
        loop.ground.take_over()
        loop.begin()
        loop.ground.skew.check(loop.ground.where)
        assert loop.ground.ids is not None
        self._shared.checkpoints.owned(self.number, loop.ground.ids, loop.ground.store)
        self.problem = ""
        self._skewed = False
        self.state = State.OWNED
        ground, took = loop.ground, clock.monotonic() - began
        self._shared.options.observer.restored(self.number, ground.restored_events - folded, took)
        log.info(
            "partition %d: claim %d after %.2f s, %d events restored in %.2f s",
            self.number,
            ground.claim_no,
            took,
            ground.restored_events,
            ground.restored_s,
        )
        left = loop.builder.careful.left
        if ground.unclean and left:
            log.warning("partition %d: the process before ended while the turn of %s was on", self.number, left)

    def _again(self, loop: PartitionLoop, wait_s: float) -> bool:
        """Give the claim up, and claim anew after a while unless the partition is to be released."""
        self.state = State.RESTORING if not self.problem else self.state
        loop.abandon()
        self.inbox.pause_for(wait_s)
        if self.inbox.request.release:
            self._end(loop, State.STOPPED, self.problem)
            return False
        return True

    def _stand_still(self, problem: str, told: bool = False) -> None:
        """Show why; in the log once, and not again when `told` (in other figures)."""
        if problem != self.problem and not told:
            log.error("partition %d: %s", self.number, problem)
        self.problem = problem
        self.state = State.PARKED

    def _end(self, loop: PartitionLoop, state: State, problem: str) -> None:
        self.problem = problem
        self.state = state
        self._shared.checkpoints.released(self.number)
        loop.turns.clear()
        with suppress(StoreError):
            loop.queries.dismiss()
