"""A place to try the runbook in: an application on the session's broker, its engines, the page's command lines."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from orchestrator.cli.main import main
from orchestrator.devkafka import DevKafka
from orchestrator.log.partitioner import partition_of
from tests.architecture.source import ROOT
from tests.docs.kafka_tools import CLASSES, run_tool
from tests.docs.runbook import Entry

WAIT_S = 60.0
PARTITIONS = 4
TROUBLED = 3
"""The partition that the page is about."""


def until(found: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def troubled(word: str) -> str:
    """A workflow id of the partition that the page is about."""
    names = (f"{word}-{number}" for number in range(1_000))
    return next(name for name in names if partition_of(name.encode(), PARTITIONS) == TROUBLED)


class EngineProcess:
    """An engine that owns every partition by a static map, and what it logs."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "engine", "run"],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """Not from a file: its own may not grow when its disk is full."""
        assert self.process.stdout is not None
        with self.process.stdout as said:
            self._lines.extend(said)

    def said(self) -> str:
        """Its log."""
        return "".join(self._lines)

    def kill(self) -> None:
        """SIGKILL, and what it said last."""
        self.process.kill()
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)

    def owns(self) -> bool:
        """Whether it has claimed every partition."""
        return self.said().count(": claim ") >= PARTITIONS

    def end(self, number: int) -> int:
        """Send a signal and wait for the end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


class Place:
    """An application of its own on a real broker, and the command line's environment."""

    def __init__(self, kafka: DevKafka, directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.kafka = kafka
        self.directory = directory
        self.app = f"runbook-{uuid.uuid4().hex[:6]}"
        self._capfd = capfd

    @property
    def state(self) -> Path:
        """The state directories of partitions."""
        return self.directory / "state" / self.app

    def page(self, entry: str) -> Entry:
        """An entry of the runbook, whose lines are run here."""
        return Entry(entry, self, {"HOST:PORT": self.kafka.bootstrap, "shop": self.app})

    def line(self, words: Sequence[str], code: int) -> str:
        """Run a command line; what it printed. Its exit code must be `code`."""
        if words[0] in CLASSES:
            found, said = run_tool(words, self.directory)
        else:
            assert words[0] == "orchestrator", words
            found, *printed = self._main(words[1:])
            said = "".join(printed)
        assert found == code, f"{shlex.join(words)}: exit code {found}\n{said}"
        return said

    def run(self, *words: str) -> Any:
        """A command that is not the page's; with `-o json`, what it says."""
        found, out, err = self._main(words)
        assert found == 0, f"{shlex.join(words)}: exit code {found}\n{out}{err}"
        return json.loads(out) if "json" in words else out

    def _main(self, words: Sequence[str]) -> tuple[int, str, str]:
        """The command line in this process, before a person who says yes to every question."""
        self._capfd.readouterr()
        with mock.patch.object(sys, "stdin", io.StringIO("y\n")):
            found = main(list(words))
        return found, *self._capfd.readouterr()

    def background(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command line that goes on until it is told to end."""
        command = [sys.executable, "-m", "orchestrator.cli.main", *words[1:]]
        return subprocess.Popen(command, env=self.environment(), cwd=ROOT, stdin=subprocess.DEVNULL)

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of another process."""
        return {**os.environ, "PYTHONPATH": str(ROOT), **settings}

    @contextlib.contextmanager
    def engine(self, **settings: str) -> Iterator[EngineProcess]:
        """An engine that has claimed every partition."""
        static = {"ORCHESTRATOR_MEMBERSHIP": "static", "ORCHESTRATOR_ASSIGNMENT": f"0-{PARTITIONS - 1}"}
        chosen = settings if "ORCHESTRATOR_MEMBERSHIP" in settings else static | settings
        engine = EngineProcess(self.environment(**chosen))
        try:
            until(lambda: engine.owns() or engine.process.poll() is not None)
            assert engine.owns()
            yield engine
        finally:
            engine.kill()
            # Shown by pytest if the test fails.
            print(engine.said())


@pytest.fixture
def place(kafka: DevKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Place:
    """The place of one test."""
    found = Place(kafka, tmp_path, capfd)
    settings = {
        "APP": "tests.docs.stuck:app",
        "APP_NAME": found.app,
        "BOOTSTRAP": kafka.bootstrap,
        "STATE_DIR": str(tmp_path / "state"),
        "PARTITIONS": str(PARTITIONS),
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
    monkeypatch.chdir(ROOT)
    return found


@pytest.fixture
def page(place: Place) -> Callable[[str], Entry]:
    """`page("A backlog")`: an entry of the runbook, whose lines are run in this place."""
    return place.page
