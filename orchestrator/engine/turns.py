"""Runs whose coroutines are in memory.

Loaded by replay, woken one delivery at a time, evicted when memory is wanted.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from math import inf
from typing import NamedTuple

from ..core.commands import ParkRun
from ..core.decide.decision import View
from ..core.events import Event, RunStarted
from ..core.replay import PastTurn, turns_of_pages
from ..core.rows import HISTORY, RunRow, history_key
from ..core.values import Payload
from ..errors import BlobError, BlobMissing
from ..sdk.registry import Registry
from ..sdk.turn import OVERLONG, LiveRun, Overlong, Turn
from .large import filled
from .mark import Mark
from .options import EngineOptions
from .turn_guard import TurnGuard

RunKey = tuple[str, str]
Ask = Callable[[Callable[[LiveRun], Payload]], Payload | None]
"""Puts a question to a run's code; see `Turns.ask`."""


class Taken(NamedTuple):
    """A turn that was taken: the `seq` of its delivery, and what came of it; `replayed`: it is of the history.

    `trace`: the delivery's trace context, or that of the run's start. `began_s`: when, of `perf_counter`.
    """

    seq: int
    turn: Turn
    replayed: bool = False
    trace: str = ""
    began_s: float = 0.0


HISTORY_PAGE = 500
HEARD = 10_000
REPLAY_S = 0.02
"""How long a replay goes on in a batch, at the least, even if others have filled it."""
UNREAD = "blob"
"""Kind of the verdict over a run that is to get a value, or to be compared with one, that cannot be had."""


def _history(view: View, key: RunKey, last: int) -> Iterator[list[Event]]:
    """A run's events up to `last`, a page when it is wanted: a long history neither fills memory nor holds others up.

    The first page is the first event alone.
    """
    seq, size = 0, 1
    while seq < last:
        rows = islice(view.scan(HISTORY, key, after=history_key(*key, seq)), min(size, last - seq))
        page = [record.event for _, record in rows]
        yield page
        seq, size = page[-1].seq, HISTORY_PAGE


class _Loaded:
    """A run in memory: its coroutine, what of its history is still to be replayed, deliveries still to make.

    `seen` is the newest delivery whose turn the history holds; `noticed` came while the history was replayed.
    """

    __slots__ = ("deliveries", "fresh", "heard", "last", "live", "noticed", "replays", "seen", "trace")

    def __init__(self, live: LiveRun, history: Iterator[list[Event]], seen: int, trace: str) -> None:
        self.live = live
        self.trace = trace
        self.seen = seen
        self.replays: Iterator[PastTurn | None] | None = turns_of_pages(history)
        self.deliveries: deque[Event] = deque()
        self.noticed: list[Event] = []
        self.fresh = 0
        """Turns that were taken live since it was loaded."""
        self.last = self.heard = 0
        """The newest delivery taken live, and the newest that one evicted before had taken: it is no news."""

    def replay(self, until: float = inf) -> PastTurn | None:
        """The next turn to replay; None at the end of what the history holds, or `until` this moment none was found:
        `replays` tells.
        """
        while self.replays is not None:
            try:
                turn = next(self.replays)
            except StopIteration:
                self.replays = None
                self.deliveries.extend(self.noticed)
                self.noticed.clear()
                return None
            if turn is None:
                if time.perf_counter() > until:
                    return None
            elif turn[0].seq <= self.seen:
                return turn
            else:
                self.deliveries.append(turn[0])
        return None

    def notice(self, event: Event) -> None:
        """A delivery that was recorded after the run was loaded."""
        (self.deliveries if self.replays is None else self.noticed).append(event)


class Copy:
    """A run that is replayed to be asked, in pieces if need be; what it does reaches nobody."""

    def __init__(self, loaded: _Loaded, replayed: Callable[[_Loaded, Event, list[Event]], Turn], owed: bool) -> None:
        self._loaded = loaded
        self._replayed = replayed
        self._owed = owed
        self._problem: BlobMissing | None = None
        self._diverges = False

    def go_on(self, until: float = inf) -> bool:
        """Replay to the end, or up to this moment (of `perf_counter`); whether there is nothing more to replay."""
        loaded = self._loaded
        while True:
            turn = loaded.replay(until)
            if turn is None and loaded.replays is None:
                if not (self._owed and loaded.deliveries):
                    return True
                turn = (loaded.deliveries.popleft(), [])
            if turn is not None and self._cannot_be_asked(self._replayed(loaded, *turn)):
                return True
            if time.perf_counter() > until:
                return False

    def _cannot_be_asked(self, turn: Turn) -> bool:
        if turn.verdict is not None and turn.verdict.kind == UNREAD:
            self._problem = BlobMissing(turn.verdict.message)
        self._diverges = turn.verdict is not None
        return self._diverges

    def ask(self, question: Callable[[LiveRun], Payload]) -> Payload | None:
        """The code's answer; None if it diverges from the history. Raises BlobMissing, and what the question raises."""
        if self._problem is not None:
            raise self._problem
        return None if self._diverges else question(self._loaded.live)

    @property
    def is_spoilt(self) -> bool:
        """Whether a question has changed it."""
        return self._loaded.live.talk.spoilt

    def close(self) -> None:
        """Let it go."""
        self._loaded.live.evict()


class Turns:
    """The cache of one partition."""

    def __init__(self, registry: Registry, guard: TurnGuard, options: EngineOptions, mark: Mark | None = None) -> None:
        self.registry = registry
        self._mark = mark or Mark(None, 0)
        self._guard = guard
        self._capacity = options.cached_runs
        self._slice = options.replay_slice
        self.blobs = options.blobs
        self._runs: OrderedDict[RunKey, _Loaded] = OrderedDict()
        self._heard: OrderedDict[RunKey, int] = OrderedDict()
        """Of runs that were evicted, the newest delivery that they had taken."""
        self.lacking: dict[RunKey, str] = {}
        """Runs whose history was made by code of another release, and what of it this process lacks."""

    def has_code(self, key: RunKey, run: RunRow) -> bool:
        """Whether this process has the code that the run is pinned to, with every patch of its history."""
        return (
            key not in self.lacking
            and run.version != 0
            and self.registry.workflow(run.workflow_type, run.version) is not None
        )

    def notice(self, event: Event) -> None:
        """A delivery was recorded; a run in memory will take it without reading its history."""
        loaded = self._runs.get((event.workflow_id, event.run_id))
        if loaded is not None:
            loaded.notice(event)

    def next(self, view: View, key: RunKey, run: RunRow, until: float = inf) -> Taken | None:
        """Take the run's next turn, if it has a delivery that its code has not seen.

        A replay is cut at the moment `until` (of `perf_counter`), or after a slice: `replaying(key)` tells.
        """
        loaded = self._runs.get(key)
        if loaded is None:
            loaded = self._load(view, key, run)
        else:
            self._runs.move_to_end(key)
        problem = self._replay(loaded, until)
        if problem is not None:
            return problem
        if loaded.replays is not None or not loaded.deliveries:
            return None
        event = loaded.deliveries.popleft()
        loaded.fresh += 1
        loaded.last = event.seq
        live, began = loaded.live, time.perf_counter()
        turn = self._turn(event, live.again if event.seq <= loaded.heard else live.deliver)
        return Taken(event.seq, turn, trace=event.trace or loaded.trace, began_s=began)

    def _turn(self, event: Event, take: Callable[[Event], Turn]) -> Turn:
        """The turn of a delivery with its bytes; one whose blob cannot be had parks the run."""
        try:
            whole = filled(event, self.blobs)
        except BlobError as error:
            return _unread(event, error)
        self._mark.on(event.workflow_id, event.run_id)
        try:
            return self._guarded(partial(take, whole))
        finally:
            self._mark.off()

    def _guarded(self, take: Callable[[], Turn]) -> Turn:
        """A turn under the guard. One that was too long gets that verdict even if its code swallowed the exception."""
        fired = False
        self._guard.arm()
        try:
            turn = take()
        except Overlong:
            turn = Turn((), OVERLONG)
        finally:
            fired = self._guard.disarm()
        return Turn((), OVERLONG) if fired else turn

    def replaying(self, key: RunKey) -> bool:
        """Whether the run's replay was cut at the end of its slice and goes on in the next batch."""
        loaded = self._runs.get(key)
        return loaded is not None and loaded.replays is not None

    def fresh(self, key: RunKey) -> int:
        """How many turns the run took since it was loaded."""
        loaded = self._runs.get(key)
        return 0 if loaded is None else loaded.fresh

    def ask(
        self, view: View, key: RunKey, run: RunRow, question: Callable[[LiveRun], Payload], owed: bool = True
    ) -> Payload | None:
        """Put a question to the run's code as its history left it; None without code, or when it diverges.

        A run in memory that has seen everything is asked as it stands, else a copy is replayed: a delivery whose turn
        issued nothing left no trace but in the code's own variables. One whose variables the question changed is
        forgotten, so that its history makes it anew. Not `owed`: without what a run that stands still
        has not been told. Raises BlobMissing naming a value that cannot be had, and what the question raises.
        """
        if not self.has_code(key, run):
            return None
        if self.remembers(key):
            live = self._runs[key].live
            try:
                return question(live)
            finally:
                if live.talk.spoilt:
                    self.drop(key)
        copy = self.copy(view, key, run, owed)
        try:
            copy.go_on()
            return copy.ask(question)
        finally:
            copy.close()

    def copy(self, view: View, key: RunKey, run: RunRow, owed: bool = True) -> Copy:
        """The run as its history has it now, to be replayed for a question; `has_code` was asked before."""
        return Copy(self._loaded(view, key, run), self._replayed, owed)

    def trace_of(self, view: View, key: RunKey) -> str:
        """The trace context that a run was started with; "" of no run."""
        loaded = self._runs.get(key)
        if loaded is not None:
            return loaded.trace
        first = view.get(HISTORY, history_key(*key, 1)) if key[1] else None
        return first.event.trace if first is not None else ""

    def owes(self, key: RunKey) -> bool:
        """Whether the run is in memory, and has not seen everything yet."""
        loaded = self._runs.get(key)
        return loaded is not None and (loaded.replays is not None or bool(loaded.deliveries))

    def remembers(self, key: RunKey) -> bool:
        """Whether the run is in memory as its history left it: a question to it costs no replay."""
        return key in self._runs and not self.owes(key)

    def drop(self, key: RunKey) -> None:
        """Evict one run."""
        loaded = self._runs.pop(key, None)
        if loaded is None:
            return
        loaded.live.evict()
        if loaded.last and not loaded.live.closed:
            # A turn that issued nothing may be on no log yet: it is then taken again, and must not log again.
            self._heard[key] = max(loaded.last, loaded.heard)
            if len(self._heard) > HEARD:
                self._heard.popitem(last=False)

    def forget(self, key: RunKey) -> None:
        """A run of this key begins: what is in memory is of one that was purged, and was begun by the same command."""
        self.drop(key)
        self._heard.pop(key, None)
        self.lacking.pop(key, None)

    def trim(self) -> None:
        """Evict the longest unused above the capacity."""
        for key in list(self._runs)[: max(0, len(self._runs) - self._capacity)]:
            self.drop(key)

    def clear(self) -> None:
        """Evict all: what they did since the last proven footer may be void, and another owner may have gone on."""
        for key in list(self._runs):
            self.drop(key)
        self._heard.clear()
        self.lacking.clear()

    def _load(self, view: View, key: RunKey, run: RunRow) -> _Loaded:
        loaded = self._runs[key] = self._loaded(view, key, run)
        loaded.heard = self._heard.pop(key, 0)
        return loaded

    def _loaded(self, view: View, key: RunKey, run: RunRow) -> _Loaded:
        code = self.registry.workflow(run.workflow_type, run.version)
        assert code is not None, "has_code is asked first"
        history = _history(view, key, run.seq)
        (first,) = page = next(history)
        assert isinstance(first.body, RunStarted)
        return _Loaded(LiveRun(code, key[0], key[1], first.body), chain((page,), history), run.turn, first.trace)

    def _replay(self, loaded: _Loaded, until: float) -> Taken | None:
        until = max(until, time.perf_counter() + REPLAY_S)
        for _ in range(self._slice):
            turn = loaded.replay(until)
            if turn is None:
                return None
            verdict = self._replayed(loaded, *turn)
            if verdict.verdict is not None:
                return Taken(turn[0].seq, verdict, replayed=True)
            if time.perf_counter() > until:
                return None
        return None

    def _replayed(self, loaded: _Loaded, delivery: Event, recorded: list[Event]) -> Turn:
        try:
            compared = [filled(event, self.blobs) for event in recorded]
        except BlobError as error:
            return _unread(delivery, error)
        return self._turn(delivery, partial(_replay, loaded.live, compared))


def _unread(event: Event, error: BlobError) -> Turn:
    return Turn((), ParkRun(UNREAD, f"{error} Then: orchestrator workflow retry {event.workflow_id}", ""))


def _replay(live: LiveRun, recorded: list[Event], delivery: Event) -> Turn:
    return live.replay(delivery, recorded)


def crashed_verdict(attempts: int, left: str = "") -> ParkRun:
    """The verdict over a run whose turns ended the process again and again.

    `left`: whose turn was on when it last ended, as far as is known.
    """
    return ParkRun(
        "crashed",
        f"{attempts} attempts at this run's next turn ended the engine process; it is not tried again until"
        " `orchestrator workflow retry`" + (f". When it last ended, the turn of {left} was on" if left else ""),
    )
