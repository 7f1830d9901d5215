"""Processes that a command starts and owns: they end with it, however it ends."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from orchestrator.ending import END_S

from .output import say

KILL_AFTER_S = END_S + 5.0
"""How long beyond its grace time an owned process may take to end before it is killed: it ends itself before."""
TRACE_S = 2.0
"""How long a process that is killed may take to print where each of its threads was (faulthandler, on SIGABRT)."""
AGAIN_S = 0.1


class Owned:
    """`orchestrator ARGUMENTS` as a process of its own, which drains when its stdin closes or on SIGTERM.

    It gets a session of its own, so that Ctrl-C reaches the owner alone, who then ends things in order.
    """

    def __init__(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", *arguments],
            stdin=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def drain(self) -> None:
        """Ask it to end, and return at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once: by a second signal, which lets it say what it left, else by SIGKILL."""
        until = time.monotonic() + TRACE_S
        while self._process.poll() is None and time.monotonic() < until:
            # Signals that come together are one.
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(AGAIN_S)
        self._process.kill()
        self._process.wait()

    def wait(self, grace_s: float) -> int:
        """Wait for its end, kill it if it takes longer than its grace time allows; returns its exit code.

        One that is killed is a defect: it says first where it was.
        """
        try:
            return self._process.wait(grace_s + KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            say(f"the {self.name} did not end within {grace_s + KILL_AFTER_S:g} s and is killed; its threads were at:")
            return self._abort()
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _abort(self) -> int:
        self._process.send_signal(signal.SIGABRT)
        try:
            return self._process.wait(TRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def end_with_owner() -> None:
    """Send this process SIGTERM when its stdin closes: its owner is gone, and nothing may be left behind.

    For everybody else stdin is empty from here on: a `breakpoint()` finds nobody to talk to, instead of waiting.
    On SIGABRT, with which an owner ends what does not drain, every thread says where it is.
    """
    faulthandler.enable(sys.__stderr__ or sys.stderr)

    owner, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(owner, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="owner", daemon=True).start()
