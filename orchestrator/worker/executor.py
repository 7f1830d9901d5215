"""The executor of step processes: starts, reads, watches and replaces them.

Async `retry` steps share one process. Blocking, `fail` and `park` steps have a process to themselves while they run.
All processes are started, read and buried by one thread; calls from outside only place attempts and write.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Set

from orchestrator.errors import ConfigurationError
from orchestrator.sdk.debugger import debugged
from orchestrator.sdk.execution import ExecutorOptions, Report, StepCall

from .channel import ALONE, SHARED, Channel
from .frames import BrokenFrame, Frame
from .pool import Pool, Touched, held_too_long

log = logging.getLogger(__name__)

_TICK_S = 0.25
_PING_S = 1.0
_LEAVE_S = 1.0


class StepProcessFailed(ConfigurationError):
    """The step processes cannot load the application."""


class Executor:
    """Step processes beside this one (`StepExecutor`). `report` is called from the executor's own thread."""

    def __init__(self, app_ref: str, options: ExecutorOptions, report: Report) -> None:
        self._app_ref = app_ref
        self._options = options
        self._report = report
        self._changed = threading.Condition()
        self._pool = Pool(options)
        self._ended = False
        self._telling: set[str] = set()
        self._full: set[Channel] = set()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._serve, name="step-processes", daemon=True)
        self._thread.start()

    # --- any thread --------------------------------------------------------------------------------------------------

    def start(self, call: StepCall) -> bool:
        """See `StepExecutor.start`."""
        return not self.start_many([call])

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        """See `StepExecutor.start_many`."""
        touched = Touched()
        with self._changed:
            refused = [call for call in calls if not self._pool.take(call, touched)]
            wake = self._lacking()
        self._flush(touched.channels)
        if wake:
            self._wake()
        return refused

    def cancel(self, token: str) -> None:
        """See `StepExecutor.cancel`."""
        touched = Touched()
        with self._changed:
            self._pool.cancel(token, touched)
            self._note(touched)
        self._flush(touched.channels)
        self._tell(touched)

    def withdraw(self, token: str) -> bool:
        """See `StepExecutor.withdraw`."""
        with self._changed:
            return self._pool.withdraw(token)

    def slot_free(self) -> bool:
        """See `StepExecutor.slot_free`."""
        with self._changed:
            free = self._pool.free_slot() is not None
        if not free:
            self._wake()
        return free

    def reserve(self, token: str) -> bool:
        """See `StepExecutor.reserve`."""
        with self._changed:
            channel = self._pool.free_slot(token)
            if channel is not None:
                channel.reserved = token
        if channel is None:
            self._wake()
        return channel is not None

    def unreserve(self, token: str) -> None:
        """See `StepExecutor.unreserve`."""
        with self._changed:
            for channel in self._pool.alone:
                if channel.reserved == token:
                    channel.reserved = ""
            freed = self._pool.take_freed()
        self._wake()
        if freed:
            self._call_freed()

    def running(self) -> Set[str]:
        """See `StepExecutor.running`."""
        with self._changed:
            return frozenset(self._pool.placed) | self._telling

    def waiting(self, token: str) -> bool:
        """See `StepExecutor.waiting`."""
        with self._changed:
            placed = self._pool.placed.get(token)
            return placed is not None and (placed.channel is None or not placed.channel.ready)

    def pids(self) -> dict[int, str]:
        """Process ids of the living step processes, and whether each is `shared` or `alone`."""
        with self._changed:
            return {channel.pid: channel.mode for channel in self._pool.channels()}

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until a step process has loaded the application.

        Raises `StepProcessFailed` with what it said instead.
        """
        pool = self._pool
        with self._changed:
            self._changed.wait_for(
                lambda: pool.boot_failures or any(channel.ready for channel in pool.channels()), timeout_s
            )
            if any(channel.ready for channel in pool.channels()):
                return
            said = pool.trouble or f"said nothing within {timeout_s:g} s"
        raise StepProcessFailed(
            f"a step process could not load {self._app_ref!r}: it {said}. Its own output is above; "
            f"importing the module by hand in the same directory and with the same PYTHONPATH shows the same"
        )

    def stop(self, grace_s: float) -> Set[str]:
        """See `StepExecutor.stop`."""
        with self._changed:
            self._pool.stopping = True
            self._changed.wait_for(lambda: not self._pool.placed or not self._thread.is_alive(), grace_s)
            cut = frozenset(self._pool.placed)
            self._ended = True
        self._wake()
        self._thread.join()
        return cut

    # --- helpers of both sides ---------------------------------------------------------------------------------------

    def _lacking(self) -> bool:
        return self._pool.shared is None or self._pool.missing() > 0

    def _wake(self) -> None:
        try:
            self._wake_write.send(b"!")
        except OSError:  # full: it is awake as it is; closed: nobody is left to wake
            return

    def _flush(self, channels: set[Channel]) -> None:
        full = {channel for channel in channels if channel.flush()}
        if full:
            with self._changed:
                self._full |= full
            self._wake()

    def _call_freed(self) -> None:
        if self._options.freed is not None:
            self._options.freed()

    def _note(self, touched: Touched) -> None:
        """Under the lock.

        Until its report was made an attempt counts as running: nothing is idle that will yet be heard of.
        """
        self._telling.update(report.body.token for report in touched.reports)
        self._changed.notify_all()

    def _tell(self, touched: Touched) -> None:
        for report in touched.reports:
            try:
                self._report(report)
            except Exception:
                log.exception("the receiver of step reports failed on one of workflow %r", report.workflow_id)
        if touched.reports:
            with self._changed:
                self._telling.difference_update(report.body.token for report in touched.reports)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._ended:
                self._populate()
                self._await_writable()
                for key, mask in self._selector.select(_TICK_S):
                    if key.data is None:
                        self._wake_read.recv(4096)
                        continue
                    if mask & selectors.EVENT_WRITE and not key.data.flush():
                        self._selector.modify(key.data.sock, selectors.EVENT_READ, key.data)
                    if mask & selectors.EVENT_READ:
                        self._read(key.data)
                self._look_after(time.monotonic())
        finally:
            self._end()

    def _populate(self) -> None:
        """Start the processes that are missing. Whoever waits for the lock meanwhile waits for a process anyway."""
        touched = Touched()
        with self._changed:
            pool = self._pool
            if time.monotonic() < pool.boot_after or not self._lacking():
                return
            modes = [SHARED] * (pool.shared is None and not pool.stopping) + [ALONE] * pool.missing()
            try:
                for mode in modes:
                    channel = Channel(self._app_ref, mode, self._options)
                    self._selector.register(channel.sock, selectors.EVENT_READ, channel)
                    pool.settle(channel, touched)
            except OSError as error:
                pool.boot_refused(error)
                self._changed.notify_all()
        self._flush(touched.channels)

    def _await_writable(self) -> None:
        with self._changed:
            full, self._full = self._full, set()
            full &= set(self._pool.channels())
        for channel in full:
            self._selector.modify(channel.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, channel)

    def _read(self, channel: Channel) -> None:
        arrived: list[Frame] | None
        try:
            arrived = channel.receive()
        except BrokenFrame as error:
            channel.kill(f"sent what no step process sends: {error}")
            arrived = None
        if arrived is None:
            self._bury(channel)
            return
        touched = Touched()
        with self._changed:
            for frame in arrived:
                self._pool.handle(channel, frame, touched)
            self._pool.assign(touched)
            freed = self._pool.take_freed()
            self._note(touched)
        self._flush(touched.channels)
        self._tell(touched)
        if freed:
            self._call_freed()

    def _bury(self, channel: Channel) -> None:
        self._selector.unregister(channel.sock)
        how = channel.bury()
        culprit = channel.culprit()
        log.warning("the %s step process %d %s", channel.mode, channel.pid, how)
        touched = Touched()
        with self._changed:
            self._pool.lost(channel, how, culprit, touched)
            self._pool.assign(touched)
            self._note(touched)
        self._flush(touched.channels)
        self._tell(touched)

    def _look_after(self, now: float) -> None:
        """Look for silence, overdue cancellations and superfluous processes, four times a second."""
        if now < self._look_at:
            return
        self._look_at = now + _TICK_S
        options = self._options
        with self._changed:
            channels = self._pool.channels()
            overdue = [c for c in self._pool.alone if any(0 < p.kill_at < now for p in c.placed.values())]
            leaving = self._pool.superfluous(now)
        for channel in overdue:
            channel.kill(f"was ended {options.cancel_grace_s:g} s after the step's cancellation")
        for channel in leaving:
            self._selector.unregister(channel.sock)
            channel.bury(_LEAVE_S)
            channel.culprit()
        for channel in channels:
            if not channel.ready:
                if now - channel.born > options.boot_timeout_s:
                    channel.kill(f"was not ready within {options.boot_timeout_s:g} s")
            elif channel.mode == SHARED and channel.placed and options.silence_s:
                if channel.pinged and now - channel.pinged > options.silence_s and not debugged():
                    channel.kill(held_too_long(options.silence_s))
                elif not channel.pinged and now - channel.heard > _PING_S:
                    channel.ping()
                    self._flush({channel})

    def _end(self) -> None:
        with self._changed:
            self._ended = self._pool.stopping = True
            channels = self._pool.channels()
            self._changed.notify_all()
        for channel in channels:
            with contextlib.suppress(OSError):  # dead already
                channel.sock.shutdown(socket.SHUT_RDWR)
        for channel in channels:
            channel.bury(_LEAVE_S)
            channel.culprit()
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
