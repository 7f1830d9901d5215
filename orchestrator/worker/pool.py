"""Where attempts are: in a step process, waiting for one, or back from a dead one. The executor's lock guards it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from orchestrator.core.values import NOTHING, Failure
from orchestrator.sdk.execution import CRASHED, ExecutorOptions, StepCall, StepReport, alive, cancelled, outcome

from . import frames
from .channel import ALONE, Channel, Placed
from .frames import Frame

_UNEXPLAINED = 2
"""After so many deaths without a culprit a neighbour runs alone, where the culprit is certain."""

_BACKOFF_S = 0.5
_BACKOFF_MAX_S = 30.0


@dataclass
class Touched:
    """What is to be done once the lock is free: channels to flush, reports to make."""

    channels: set[Channel] = field(default_factory=set)
    reports: list[StepReport] = field(default_factory=list)


class Pool:
    """The step processes and what runs in them. Starts and ends no process itself."""

    def __init__(self, options: ExecutorOptions) -> None:
        self.options = options
        self.placed: dict[str, Placed] = {}
        self.shared: Channel | None = None
        self.alone: list[Channel] = []
        self.stopping = False
        self.refusals: set[str] = set()
        self.boot_failures = 0
        self.boot_after = 0.0
        self.trouble = ""
        self._seq = 0
        self._homeless: deque[Placed] = deque()
        self._waiting: deque[Placed] = deque()
        self._blocking: set[str] = set()

    def channels(self) -> list[Channel]:
        """Every living process."""
        return [*self.alone, self.shared] if self.shared else list(self.alone)

    # --- taking ------------------------------------------------------------------------------------------------------

    def take(self, call: StepCall, touched: Touched) -> bool:
        """Place an attempt or line it up. False: no slot."""
        if self.stopping:
            return False
        if call.token in self.placed:
            return True
        self._seq += 1
        placed = Placed(call, self._seq, alone=call.guarded or call.name in self._blocking)
        if call.guarded:
            channel = self.free_slot(call.token)
            if channel is None:
                return False
            channel.reserved = ""
            self._put(placed, channel, touched)
        elif not self._room(placed.alone):
            self.refusals.add("shared" if not placed.alone else "backlog")
            return False
        else:
            self._line_up(placed, touched)
        self.placed[call.token] = placed
        return True

    def _room(self, alone: bool) -> bool:
        if alone:
            return len(self._waiting) < self.options.backlog
        held = len(self._homeless) if self.shared is None else len(self.shared.placed)
        return held < self.options.shared_limit

    def _line_up(self, placed: Placed, touched: Touched) -> None:
        if placed.alone:
            self._waiting.append(placed)
            self.assign(touched)
        elif self.shared is None:
            self._homeless.append(placed)
        else:
            self._put(placed, self.shared, touched)

    def _put(self, placed: Placed, channel: Channel, touched: Touched) -> None:
        placed.channel = channel
        channel.placed[placed.seq] = placed
        channel.write(frames.encode_start(placed.seq, placed.call))
        touched.channels.add(channel)
        if placed.cancelled:
            self._tell_cancel(placed, channel)

    def cancel(self, token: str, touched: Touched) -> None:
        """Ask an attempt to end. One that waits ends here."""
        placed = self.placed.get(token)
        if placed is None or placed.cancelled:
            return
        placed.cancelled = True
        if placed.channel is not None:
            self._tell_cancel(placed, placed.channel)
            touched.channels.add(placed.channel)
            return
        self._leave_line(placed)
        self._end(placed, cancelled(placed.call, "before it began"), touched)

    def withdraw(self, token: str) -> bool:
        """Forget an attempt that waits. False: it does not."""
        placed = self.placed.get(token)
        if placed is None or placed.channel is not None:
            return False
        self._leave_line(placed)
        del self.placed[token]
        return True

    def _leave_line(self, placed: Placed) -> None:
        for line in (self._waiting, self._homeless):
            if placed in line:
                line.remove(placed)

    def _tell_cancel(self, placed: Placed, channel: Channel) -> None:
        channel.write(frames.encode(frames.CANCEL, [placed.seq]))
        if channel.mode == ALONE:
            placed.kill_at = time.monotonic() + self.options.cancel_grace_s

    def _end(self, placed: Placed, failure: Failure, touched: Touched, crashed: bool = False) -> None:
        self.placed.pop(placed.call.token, None)
        touched.reports.append(outcome(placed.call, NOTHING, failure, crashed))

    # --- slots -------------------------------------------------------------------------------------------------------

    def idle(self) -> list[Channel]:
        """Processes that could begin a step now."""
        return [channel for channel in self.alone if channel.ready and not channel.placed and not channel.reserved]

    def _busy(self, guarded: bool) -> int:
        count = 0
        for channel in self.alone:
            mine = [placed.call.guarded is guarded for placed in channel.placed.values()]
            count += any(mine) or (guarded and channel.reserved != "")
        return count

    def free_slot(self, token: str = "") -> Channel | None:
        """A process for a guarded attempt: the one held for its token, or one that is ready and idle."""
        for channel in self.alone:
            if token and channel.reserved == token:
                return channel
        idle = self._guarded_idle()
        if idle and not self.stopping:
            return idle[0]
        self.refusals.add("slot")
        return None

    def _guarded_idle(self) -> list[Channel]:
        return self.idle() if self._busy(guarded=True) < self.options.guarded_slots else []

    def take_freed(self) -> bool:
        """Whether what was refused for want of room would be taken now; true once a refusal."""
        freed = {
            kind
            for kind in self.refusals
            if (kind == "slot" and self._guarded_idle()) or (kind != "slot" and self._room(kind == "backlog"))
        }
        self.refusals -= freed
        return bool(freed)

    def assign(self, touched: Touched) -> None:
        """Give waiting attempts the processes that are free."""
        free = self.options.slots - self._busy(guarded=False) if self._waiting else 0
        for channel in self.idle()[: max(0, free)]:
            if self._waiting:
                self._put(self._waiting.popleft(), channel, touched)

    def missing(self) -> int:
        """How many more processes for one step at a time there should be."""
        options = self.options
        free = sum(not channel.placed and not channel.reserved for channel in self.alone)
        wanted = min(len(self._waiting), options.slots - self._busy(guarded=False))
        wanted += "slot" in self.refusals and self._busy(guarded=True) < options.guarded_slots
        room = options.slots + options.guarded_slots - len(self.alone)
        warm = 0 if self.stopping else options.warm - len(self.alone)
        return max(0, min(max(wanted - free, warm), room))

    def superfluous(self, now: float) -> list[Channel]:
        """Idle processes beyond the warm ones, taken out of the pool."""
        spare = max(0, len(self.alone) - self.options.warm)
        old = [channel for channel in self.idle() if now - channel.idle_since > self.options.idle_s][:spare]
        for channel in old:
            self.alone.remove(channel)
        return old

    def settle(self, channel: Channel, touched: Touched) -> None:
        """A new process: it gets what waits for it."""
        if channel.mode == ALONE:
            self.alone.append(channel)
            return
        self.shared = channel
        while self._homeless:
            self._put(self._homeless.popleft(), channel, touched)

    # --- hearing -----------------------------------------------------------------------------------------------------

    def handle(self, channel: Channel, frame: Frame, touched: Touched) -> None:
        """Take in what a process says."""
        if frame.kind == frames.READY:
            channel.ready, channel.idle_since = True, time.monotonic()
            self.boot_failures, self.trouble = 0, ""
        elif frame.kind == frames.BROKEN:
            channel.trouble = frame.fields[0]
        elif frame.kind == frames.BEAT:
            placed = channel.placed.get(frame.fields[0])
            if placed is not None:
                touched.reports.append(alive(placed.call, frame.payloads[0]))
        elif frame.kind != frames.PONG:
            self._finish(channel, frame, touched)

    def _finish(self, channel: Channel, frame: Frame, touched: Touched) -> None:
        placed = channel.placed.pop(frame.fields[0])
        placed.channel = None
        channel.idle_since = time.monotonic()
        if frame.kind == frames.ALONE:
            self._blocking.add(placed.call.name)
            placed.alone = True
            self._again(placed, touched)
        elif frame.kind == frames.DONE:
            del self.placed[placed.call.token]
            touched.reports.append(outcome(placed.call, frame.payloads[0], None))
        else:
            self._end(placed, frames.decode_failure(frame), touched)

    def _again(self, placed: Placed, touched: Touched) -> None:
        if placed.cancelled:
            self._end(placed, cancelled(placed.call, "before it began"), touched)
        else:
            self._line_up(placed, touched)

    # --- deaths ------------------------------------------------------------------------------------------------------

    def lost(self, channel: Channel, how: str, culprit: int, touched: Touched) -> None:
        """A process is gone: its culprit failed, what else it held runs again with the same attempt."""
        if channel is self.shared:
            self.shared = None
        elif channel in self.alone:
            self.alone.remove(channel)
        placed = list(channel.placed.values())
        channel.placed.clear()
        if not channel.ready:
            self._boot_failed(how)
        for one in placed:
            one.channel = None
            if one.cancelled:
                self._end(one, cancelled(one.call, f"and its step process {how}"), touched)
            elif one.call.guarded or (channel.ready and one.seq == culprit):
                self._end(one, _crash(one.call, channel, how), touched, crashed=True)
            else:
                one.deaths += channel.ready and culprit == 0
                one.alone = one.alone or one.deaths >= _UNEXPLAINED
                self._again(one, touched)

    def _boot_failed(self, how: str) -> None:
        self.boot_failures += 1
        self.boot_after = time.monotonic() + min(_BACKOFF_S * 2.0**self.boot_failures, _BACKOFF_MAX_S)
        self.trouble = how

    def boot_refused(self, error: OSError) -> None:
        """The system would not start a process."""
        self._boot_failed(f"could not be started: {error}")


def _crash(call: StepCall, channel: Channel, how: str) -> Failure:
    kind = "a step process of its own" if channel.mode == ALONE else "the shared step process"
    advice = "" if channel.mode == ALONE else "; its neighbours run again uncounted"
    return Failure(CRASHED, f"{call.where()}: {kind} (pid {channel.pid}) {how} while it ran{advice}")


def held_too_long(silence_s: float) -> str:
    """What is wrong with a shared process that answers nothing."""
    return (
        f"was replaced because a step held its event loop for {silence_s:g} s without an await "
        f"(declare it with `def` instead of `async def`, and it gets a process of its own)"
    )
