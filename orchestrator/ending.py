"""The end of a process: what a signal handler tells the main thread, how long it may take, how the last of it goes."""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import ClassVar

log = logging.getLogger(__name__)

END_S = 15.0
"""How long beyond its grace time a process may take to end: to send what is queued, to leave its groups, to close."""
ABANDONED = 7
"""The exit code of a process that left something as after a crash: its log says what."""
AS_AFTER_A_CRASH = "as after a crash: nothing that was recorded is lost (docs/runbook.md, an end without Kafka)"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAY_S = 1.0
LAST_S = 5.0
"""How long exit functions may take, and threads that wait for a broker, once a command has ended."""


class Ending:
    """A flag that is set once, by a signal handler or by another thread, and waited for by the main thread.

    No `threading.Event`: who waits for one holds its lock for a moment, the handler runs in that very thread, and asks
    for the same lock. `SimpleQueue.put` alone is documented as reentrant.

    Wait in short rounds: the kernel may hand a signal to any thread, and Python then calls the handler when the main
    thread wakes next (observed: one SIGTERM in seventy was not heard before the end of the wait).
    """

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """The end is wanted."""
        self._told.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Whether it was set before or within `timeout_s` seconds."""
        try:
            self._told.get(timeout=timeout_s)
        except Empty:
            return False
        self.set()
        return True


class Leaving:
    """A process that has ended in order leaves without the interpreter's teardown. Make it before user code is loaded.

    What is left by then, clients of librdkafka and databases with threads of their own, is taken down in no order
    there: seen in a campaign, an engine that had released everything ended with SIGSEGV in its main thread, below every
    frame of Python. Exit functions run as ever: this one, registered first, is the last.
    """

    of_process: ClassVar[Leaving | None] = None
    """This process's; None where it is not ours to end."""

    def __init__(self) -> None:
        self.code: int | None = None
        """The exit code, once everything of ours has ended; None: as if this were not here."""
        self._hears, self._tells = os.pipe()
        os.set_blocking(self._hears, False)
        os.set_blocking(self._tells, False)
        Leaving.of_process = self
        atexit.register(self._leave)

    def with_code(self, code: int) -> None:
        """Everything of ours has ended: leave with this exit code, in order or, after `LAST_S`, without."""
        self.code = code
        waiting = threading.Timer(LAST_S, self._leave)
        waiting.daemon = True
        waiting.start()

    def within(self, limit_s: float, doing: Callable[[], str]) -> None:
        """From now on the process lives for `limit_s` at most, and no longer than until `at_once`.

        Whoever waits for whatever: a close of librdkafka's waits for a broker that is gone as long as a session lasts,
        and promises no limit at all. `doing` says, for the last line, what is waited for.
        """
        threading.Thread(target=self._watch, args=(limit_s, doing), name="leaving", daemon=True).start()

    def at_once(self) -> None:
        """A second signal: whatever is under way is given up."""
        with suppress(BlockingIOError):
            os.write(self._tells, bytes([signal.SIGTERM]))

    def hear_signals(self) -> None:
        """The next SIGTERM or SIGINT is `at_once`, also while the main thread is deaf. Call it there.

        Handlers run between two steps of its Python, and none is taken while a client is being closed.
        """
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._tells, warn_on_full_buffer=False)

    def _watch(self, limit_s: float, doing: Callable[[], str]) -> None:
        why = "a second signal came" if self._told(time.monotonic() + limit_s) else f"{limit_s:g} s are over"
        _say(f"{why} {doing()}: this process ends here, {AS_AFTER_A_CRASH}")
        os._exit(ABANDONED)

    def _told(self, until: float) -> bool:
        """Wait; whether a second signal came. Others, whose handlers are a user's, are heard here, too."""
        ears = select.poll()
        ears.register(self._hears, select.POLLIN)
        while (left_s := until - time.monotonic()) > 0:
            if ears.poll(left_s * 1000) and set(os.read(self._hears, 64)) & set(SIGNALS):
                return True
        return False

    def _leave(self) -> None:
        if self.code is None:
            return
        _flush()
        os._exit(self.code)


def _say(text: str) -> None:
    """The last line, unless nobody takes it: a pipe that is full, a lock that is held."""

    def say() -> None:
        log.error("%s", text)
        _flush()

    saying = threading.Thread(target=say, name="last-line", daemon=True)
    saying.start()
    saying.join(SAY_S)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # Closed, or nobody reads it any more.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
