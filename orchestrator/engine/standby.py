"""Warm standby: partitions that another process owns are folded here, too, each into this process's own directory.

It is the owner's restore, kept running: the same `apply` on the same proven batches. Nothing is claimed and nothing is
written to a topic, so that a standby which is wrong, late or gone costs nobody anything. When the group gives such a
partition to this process, its thread takes the open directory over and reads what is left of the log.

One thread a process folds all of them, a slice of each in turn: however many there are, owned partitions share the
interpreter with one thread more. A standby that cannot go on says why, is left alone for a while and tried again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from ..codec.records import Codec
from ..errors import (
    ConfigurationError,
    KafkaUnavailable,
    LogGap,
    LogReplaced,
    StoreDamaged,
    StoreError,
)
from ..log.ports import Log, Tail, Wire
from ..store.rows import ROW_CACHE_ROWS, Store
from .clock import Clock
from .inbox import Inbox, Requests
from .options import EngineOptions
from .restored import Restored
from .soundness import HangingTransaction

log = logging.getLogger(__name__)

SLICE = 500
"""Records folded at a time: so long a take-over may have to wait."""
ROWS = 1_000
"""Decoded rows of one partition in memory; an owner keeps more."""
PACE_S = 0.1
LOOK_S = 1.0
RETRY_S = 30.0
WAIT_S = 0.5
STOP_S = 10.0
EXPECTED = (StoreError, HangingTransaction, ConfigurationError, KafkaUnavailable, LogGap, LogReplaced)
"""What an owner parks or waits for, a standby only tells."""


class Warm(NamedTuple):
    """What probes are told of one standby: offsets of its log that it has not folded, and why it does not go on.

    `behind` -1: not known yet.
    """

    behind: int
    problem: str = ""


class Wanted(Exception):
    """The partition is to be taken over, or the process ends: whatever waits here ends its wait."""


class Standby(Protocol):
    """What an engine tells of partitions that it does not own, and asks when it comes to own one."""

    def start(self) -> None:
        """Begin folding what is followed."""

    def stop(self) -> None:
        """Close every directory."""

    def follow(self, numbers: Sequence[int]) -> None:
        """From now on others own these, or nobody does. Returns at once."""

    def take(self, number: int) -> Store | None:
        """This process owns the partition from now on: its state, still open; None if nothing is kept warm."""

    def told(self) -> dict[int, Warm]:
        """For the probes."""


class NoStandby:
    """Nothing is followed."""

    def start(self) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def follow(self, numbers: Sequence[int]) -> None:
        """Nothing."""

    def take(self, number: int) -> Store | None:
        """None."""
        return None

    def told(self) -> dict[int, Warm]:
        """None."""
        return {}


class Follower(Restored):
    """One partition that somebody else owns, from its opened directory on."""

    tail_room = (4_000, 1_000)

    def tail(self) -> Tail:
        return self.log.standby()

    def begin(self) -> None:
        """Go on where the directory ends, or where a checkpoint does. Raises Wanted, or what is EXPECTED."""
        ids = self.ids = self.log.topic_ids()
        self._check_directory(ids)
        self._follow()

    def step(self) -> bool:
        """Fold a slice of what is here; whether there is more."""
        if self.inbox.tail:
            self.at = self._fold_slice(SLICE).offset + 1
        self._let_in()
        return bool(self.inbox.tail)

    at = 0
    """The next offset to be folded."""

    @property
    def problem(self) -> str:
        """A gap that no repair has set aside yet."""
        return str(self.assembler.gap or "")

    def behind(self) -> int:
        """Offsets that are visible and not folded. Raises ConfigurationError."""
        start, end = self.tail().bounds(self.number)
        if self.tail().reached(self.number) >= end and not self.inbox.tail:
            return 0
        position = self.position()
        return max(1, end - max(self.at, start, position.next_offset if position else 0))

    def _ends_before(self, at: int) -> bool:
        return self.tail().reached(self.number) > at and not self.inbox.tail

    def _next(self) -> Wire:
        waited = 0.0
        while not self.inbox.wait_tail(WAIT_S):
            waited += WAIT_S
            if self.inbox.request.release:
                raise Wanted
            if waited >= self.options.hang_s:
                raise HangingTransaction(f"{self.where}: nothing could be read for {waited:.0f} s")
        return self.inbox.tail.popleft()


class _Place:
    """One followed partition: its store while that is open, and its follower while it goes on."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.inbox = Inbox(lambda: None, lambda: None)
        self.store: Store | None = None
        self.follower: Follower | None = None
        self.retry_at = 0.0
        self.warm = Warm(-1)


class Standbys:
    """A process's followed partitions. `follow` and `take` come from other threads; all else is its own thread's."""

    def __init__(
        self,
        log_: Log,
        codec: Codec,
        open_store: Callable[[int], Store],
        options: EngineOptions,
        clock: Clock,
        restoring: Callable[[], bool],
    ) -> None:
        """`restoring`: a partition of this process's own is being restored, which comes first."""
        self._log = log_
        self._codec = codec
        self._open_store = open_store
        self._options = options
        self._clock = clock
        self._restoring = restoring
        self._changed = threading.Condition()
        self._places: dict[int, _Place] = {}
        self._busy: _Place | None = None
        self._look_at = 0.0
        self._looked = -1
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="standby", daemon=True)

    # -- from other threads ------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            places = list(self._places.values())
            self._changed.notify_all()
        for place in places:
            place.inbox.ask(Requests(release=True))
        if self._thread.is_alive():
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                log.warning("a standby is still being restored from a checkpoint: it ends with the process")

    def follow(self, numbers: Sequence[int]) -> None:
        told = self._options.standby
        with self._changed:
            for number in numbers:
                if told is not None and told.wants(number) and number not in self._places and not self._stopping:
                    self._places[number] = _Place(number)
            self._changed.notify_all()

    def take(self, number: int) -> Store | None:
        with self._changed:
            place = self._places.pop(number, None)
            if place is None:
                return None
            place.inbox.ask(Requests(release=True))
            self._changed.wait_for(lambda: self._busy is not place)
        store = place.store
        if store is not None:
            self._log.standby().unfollow(number)
            store.keep(ROW_CACHE_ROWS)
        self._options.observer.standby(number, None)
        log.info("partition %d: taken over from its standby, %s", number, _said(place.warm))
        return store

    def told(self) -> dict[int, Warm]:
        with self._changed:
            return {number: place.warm for number, place in sorted(self._places.items())}

    # -- our own thread ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stopping:
            more = False
            for number in () if self._restoring() else tuple(self._places):
                place = self._seize(number)
                if place is not None:
                    try:
                        more = self._step(place) or more
                    finally:
                        self._leave()
            self._look()
            with self._changed:
                if not more and not self._stopping:
                    self._changed.wait(PACE_S)
        with self._changed:
            left, self._places = list(self._places.values()), {}
        for place in left:
            self._close(place)

    def _seize(self, number: int) -> _Place | None:
        with self._changed:
            self._busy = None if self._stopping else self._places.get(number)
            return self._busy

    def _leave(self) -> None:
        with self._changed:
            self._busy = None
            self._changed.notify_all()

    def _step(self, place: _Place) -> bool:
        """A slice of one partition; whether there is more. Whatever goes wrong stays with this partition."""
        if place.follower is None and self._clock.monotonic() < place.retry_at:
            return False
        try:
            if place.follower is None:
                self._begin(place)
            assert place.follower is not None
            return place.follower.step()
        except Wanted:
            return False
        except StoreDamaged as error:
            self._set_aside(place, str(error))
        except EXPECTED as error:
            self._trouble(place, str(error))
        except Exception as error:
            log.exception("partition %d: its standby stopped", place.number)
            self._trouble(place, f"{type(error).__name__}: {error}")
        return False

    def _begin(self, place: _Place) -> None:
        store = place.store = self._open_store(place.number)
        store.keep(ROWS)
        follower = Follower(place.number, self._log, self._codec, store, place.inbox, self._options, self._clock)
        follower.begin()
        place.follower = follower

    def _set_aside(self, place: _Place, why: str) -> None:
        """A damaged directory is kept beside; the log is folded anew."""
        store = place.store
        try:
            if store is not None:
                store.set_aside(f"{self._log.app}.events/{place.number}, a standby: {why}")
        except StoreError as error:
            self._trouble(place, str(error))
        else:
            self._close(place)

    def _trouble(self, place: _Place, problem: str) -> None:
        """Tell it once, and leave the partition alone for a while."""
        if problem != place.warm.problem:
            log.warning("partition %d: its standby stands still: %s", place.number, problem)
        place.warm = place.warm._replace(problem=problem)
        place.retry_at = self._clock.monotonic() + RETRY_S
        self._close(place)

    def _close(self, place: _Place) -> None:
        store, place.store = place.store, None
        place.follower = None
        if store is not None:
            self._log.standby().unfollow(place.number)
            with suppress(StoreError):
                store.close()

    def _look(self) -> None:
        """How far one of them is behind: each in its turn, for a broker is asked."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        numbers = sorted(self._places)
        following = [number for number in numbers if number > self._looked] or numbers
        if not following:
            return
        self._looked = following[0]
        place = self._seize(self._looked)
        try:
            if place is not None and place.follower is not None:
                place.warm = Warm(place.follower.behind(), place.follower.problem)
                self._options.observer.standby(place.number, place.warm.behind)
        except Exception as error:
            # Only a number to be told: folding goes on without it.
            log.debug("partition %d: its end is not known: %s", self._looked, error)
        finally:
            self._leave()


def _said(warm: Warm) -> str:
    return warm.problem or ("not looked at yet" if warm.behind < 0 else f"{warm.behind} offsets behind when last seen")
