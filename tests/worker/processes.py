"""Engines and workers as processes of their own on a real broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.architecture.source import ROOT

from .rig import APPS, lines, until

APP = f"{APPS / 'remote_app.py'}:app"


class Note(NamedTuple):
    """A line that a step wrote: what, in which attempt, and which process ran it."""

    what: str
    attempt: int
    pid: int


class Process:
    """One file of `consumers/`, its output in a file."""

    def __init__(self, consumer: str, log: Path, environ: Mapping[str, str]) -> None:
        self._log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        command = [sys.executable, str(ROOT / "consumers" / f"{consumer}.py")]
        with open(log, "wb") as out:
            self._process = subprocess.Popen(
                command,
                env={**inherited, "PYTHONPATH": str(ROOT), **environ},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def said(self) -> str:
        """The end of its output."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-4_000:]

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        until(lambda: self._process.poll() is not None, f"the end of process {self.pid}: {self.said}")
        return self._process.returncode

    def until_said(self, text: str) -> None:
        """Wait until its output holds a text."""
        until(lambda: text in self.said or self._process.poll() is not None, f"{text!r} in {self.said}")
        assert text in self.said, self.said

    def kill(self) -> None:
        """End it at once, also when it stands still."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)


def ended(*processes: Process) -> list[int]:
    """Drain them; their exit codes. None stays, whatever happens."""
    try:
        for process in processes:
            process.signal(signal.SIGTERM)
        return [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()


def notes(folder: Path, name: str) -> list[Note]:
    """What a step wrote so far."""
    return [Note(what, int(attempt), int(pid)) for what, attempt, pid in (x.split("/") for x in lines(folder / name))]


def began(folder: Path, name: str, count: int = 1) -> list[Note]:
    """Wait until so many attempts of a step began."""

    def found() -> list[Note]:
        return [note for note in notes(folder, name) if note.what == "began"]

    until(lambda: len(found()) >= count, f"{count} attempts of {name}: {notes(folder, name)}")
    return found()
