"""Ctrl-C while a command's code is still being loaded: nothing has begun, so the process ends there, with one word."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

INTERRUPTED = 130
"""The exit code of Ctrl-C."""


def begin() -> None:
    """From now on Ctrl-C ends this process at once; one that ignores it (a shell's background job) goes on doing so.

    A KeyboardInterrupt would do worse: raised in the middle of an import it meets code that swallows it, or makes
    another error of it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def hand_over() -> None:
    """The command begins: Ctrl-C is a KeyboardInterrupt again, or what the command makes of it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    with suppress(OSError):
        os.write(2, b"\ninterrupted\n")
    os._exit(INTERRUPTED)
