"""One broker process under its guard."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import guard
from .errors import DevKafkaError
from .java import java_environment
from .runtime import Runtime
from .settings import HOST, Ports

GRACE_S = 5.0
"""Seconds from SIGTERM to SIGKILL when a broker is stopped."""
TEMPORARY_GRACE_S = 1.0
"""The same for data that are removed at the end anyway: several nodes that stop at once wait for a quorum in vain."""
GUARD_WAIT_S = 10.0
"""A guard ends its broker within the grace time and then itself; this is on top of that."""


def stands_still(pid: int) -> bool:
    """Whether every thread of a process is stopped, or it is gone."""
    threads = Path(f"/proc/{pid}/task")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if threads.exists():
            stats = [(thread / "stat").read_text() for thread in threads.iterdir()]
            return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
        said = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return said.stdout.strip()[:1] in ("", "T", "Z")
    return False


class Ended(NamedTuple):
    """How a broker ended: its exit code (negative: minus the signal), and the last ERROR of its log."""

    code: int
    error: str

    @property
    def crashed(self) -> bool:
        """Whether Java itself fell over (SIGILL, SIGABRT, SIGBUS, SIGSEGV or their exit codes)."""
        return self.code in {-4, -6, -7, -11, 132, 134, 135, 139}


class Launch(NamedTuple):
    """How to start the process of a node. `inherit`: locks that must outlive us if the guard does."""

    runtime: Runtime
    flags: Sequence[str] = ()
    inherit: tuple[int, ...] = ()
    temporary: bool = False


class Node:
    """A broker that also is a controller. `kill`, `pause` and the like are for tests of what the engine survives."""

    def __init__(self, node_id: int, directory: Path, ports: Ports, launch: Launch) -> None:
        self.node_id = node_id
        self.directory = directory
        self.ports = ports
        self._launch = launch
        self._guard: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._report = -1
        self._pid = 0
        self._ended: Ended | None = None

    @property
    def pid(self) -> int:
        """The process id of Java; 0 before the first start."""
        return self._pid

    @property
    def port(self) -> int:
        """The port of the broker's listener on 127.0.0.1."""
        return self.ports.broker

    @property
    def proxied_port(self) -> int:
        """Where a TCP proxy has to forward to; 0 unless the cluster was started with `proxy_port`."""
        return self.ports.proxied

    @property
    def bootstrap(self) -> str:
        """`host:port` of this node alone."""
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """The broker's log."""
        return self.directory / "kafka.log"

    @property
    def guard_pid(self) -> int:
        """The process id of the guard; 0 when there is none."""
        return self._guard.pid if self._guard is not None else 0

    def start(self, flags: Sequence[str] | None = None) -> None:
        """Start the process and return when it exists, not when it is ready. Raises DevKafkaError."""
        if self._guard is not None and self.ended() is None:
            raise DevKafkaError(f"node {self.node_id} is running (pid {self._pid})")
        self._close()
        (self.directory / "tmp").mkdir(exist_ok=True)
        lifeline, self._lifeline = os.pipe()
        self._report, report = os.pipe()
        chosen = self._launch.flags if flags is None else flags
        main = ["kafka.Kafka", str(self.directory / "server.properties")]
        plan = {
            "lifeline": lifeline,
            "report": report,
            "owner": os.getpid(),
            "grace_s": TEMPORARY_GRACE_S if self._launch.temporary else GRACE_S,
            "log": str(self.log),
            "out": str(self.directory / "out.log"),
            "command": self._launch.runtime.command(main, self.directory, chosen),
            "remove": str(self.directory) if self._launch.temporary else "",
        }
        try:
            with (self.directory / "out.log").open("wb") as out:
                self._guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", guard.__file__, json.dumps(plan)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd=self.directory,
                    env=java_environment(),
                    pass_fds=(lifeline, report, *self._launch.inherit),
                    start_new_session=True,
                )
        finally:
            os.close(lifeline)
            os.close(report)
        self._ended = None
        first = self._read_report()
        if "pid" not in first:
            said = guard.last_error(str(self.log), str(self.directory / "out.log"))
            raise DevKafkaError(f"Kafka's process could not be started: {said or 'its guard ended at once'}")
        self._pid = first["pid"]

    def ended(self) -> Ended | None:
        """How the process ended, None while it runs (a paused one runs)."""
        if self._ended is None and self._guard is not None and self._guard.poll() is not None:
            facts = self._read_report()
            self._ended = Ended(facts.get("exit", -9), str(facts.get("error", "")))
        return self._ended

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        self._order(b"K")
        self._wait(GUARD_WAIT_S)

    def terminate(self, timeout_s: float = 60.0) -> None:
        """SIGTERM (an orderly shutdown), and wait until the process is gone. Raises DevKafkaError if it stays."""
        self._order(b"T")
        self._wait(timeout_s)

    def pause(self) -> None:
        """SIGSTOP, and wait until no thread runs: connections stay open, nothing answers. Raises DevKafkaError."""
        self._order(b"P")
        deadline = time.monotonic() + GUARD_WAIT_S
        while not stands_still(self._pid):
            if time.monotonic() > deadline:
                raise DevKafkaError(f"node {self.node_id} (pid {self._pid}) did not stop within {GUARD_WAIT_S:g} s")
            time.sleep(0.005)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._order(b"C")

    def restart(self) -> None:
        """Start the process again on the same port and data, killing it first if it runs. Does not wait for ready."""
        if self.ended() is None:
            self.kill()
        self.start()

    def begin_stop(self) -> None:
        """Let the guard end the process in order; `stop` waits for it."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def stop(self) -> None:
        """SIGTERM, after 5 s SIGKILL; returns when broker and guard are gone. Harmless when they are already."""
        self.begin_stop()
        if self._guard is not None:
            try:
                self._guard.wait(GRACE_S + GUARD_WAIT_S)
            except subprocess.TimeoutExpired:
                # PDEATHSIG takes the broker along.
                self._guard.kill()
                self._guard.wait()
            self.ended()
        self._close()

    def _order(self, letter: bytes) -> None:
        if self._guard is None or self.ended() is not None or self._lifeline < 0:
            raise DevKafkaError(f"node {self.node_id} is not running: start it with restart()")
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline, letter)

    def _wait(self, timeout_s: float) -> None:
        if self._guard is None:
            return
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise DevKafkaError(f"node {self.node_id} (pid {self._pid}) did not end within {timeout_s:g} s") from None
        self.ended()

    def _read_report(self) -> dict[str, Any]:
        """The next line of the guard's report; nothing at its end."""
        line = b""
        while self._report >= 0 and (byte := os.read(self._report, 1)) not in {b"", b"\n"}:
            line += byte
        facts: dict[str, Any] = json.loads(line) if line else {}
        return facts

    def _close(self) -> None:
        self.begin_stop()
        if self._report >= 0:
            os.close(self._report)
            self._report = -1
