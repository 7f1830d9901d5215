"""Heartbeats of a running attempt, thinned out: the engine records each one that it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from orchestrator.core.values import Payload

_SHARE = 0.4
_DEFAULT_S = 30.0


def interval_s(heartbeat_ms: int) -> float:
    """Seconds between two heartbeats on the wire: well inside the time-out, or half a minute without one."""
    return heartbeat_ms / 1000 * _SHARE if heartbeat_ms > 0 else _DEFAULT_S


class Heartbeat:
    """Passes the first heartbeat on at once, later ones at most once an interval, the newest details always in the end.

    `later(seconds, call)` arranges a call; `send` takes the details. Usable from any thread.
    """

    def __init__(
        self, interval: float, send: Callable[[Payload], None], later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._interval = interval
        self._send = send
        self._later = later
        self._lock = threading.Lock()
        self._kept: Payload | None = None
        self._next = 0.0
        self._armed = False
        self._closed = False

    def beat(self, details: Payload) -> None:
        """The attempt is alive and has come so far."""
        with self._lock:
            if self._closed:
                return
            wait = self._next - time.monotonic()
            if wait > 0:
                self._kept = details
                arm, self._armed = not self._armed, True
            else:
                self._next = time.monotonic() + self._interval
                arm = False
                self._send(details)
        if arm:
            self._later(wait, self._due)

    def _due(self) -> None:
        with self._lock:
            self._armed = False
            self._pass_on()

    def _pass_on(self) -> None:
        if self._kept is not None and not self._closed:
            kept, self._kept = self._kept, None
            self._next = time.monotonic() + self._interval
            self._send(kept)

    def close(self, flush: bool) -> None:
        """The attempt is over. `flush`: it failed, and its last details must reach the next attempt first."""
        with self._lock:
            if flush:
                self._pass_on()
            self._closed = True


def thread_timer(seconds: float, call: Callable[[], None]) -> None:
    """A `later` for code without a loop: one daemon thread a wait."""
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()
