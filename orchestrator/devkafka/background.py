"""A Kafka that outlives the command that started it: `orchestrator kafka start|stop|status`.

There is one for a cache directory. A process of its own holds it and a lock; the guards inherit the lock, so it comes
free exactly when the last broker is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..ending import Ending
from .cluster import DevKafka, Plan
from .errors import DevKafkaError
from .places import FileLock, cache_directory

STOP_TIMEOUT_S = 30.0
LOOK_S = 0.5
"""Seconds between two looks of the holder at its brokers."""


class Background(NamedTuple):
    """A running one, as its state file has it. Times in milliseconds since 1970."""

    bootstrap: str
    pid: int
    node_pids: tuple[int, ...]
    directory: str
    kept: bool

    def facts(self) -> dict[str, Any]:
        """For the state file and for `-o json`."""
        return {**self._asdict(), "node_pids": list(self.node_pids)}


class Wanted(NamedTuple):
    """What to start, as `DevKafka.start` has it."""

    nodes: int = 1
    port: int = 9092
    directory: Path | None = None


def _home() -> Path:
    home = cache_directory() / "background"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def status() -> Background | None:
    """The one that runs, None if there is none. One that is starting does not run yet."""
    home = _home()
    lock = FileLock(home / "lock")
    if lock.take(0):
        lock.release()
        return None
    return _read(home)


def start(wanted: Wanted, progress: Callable[[str], None]) -> tuple[Background, bool]:
    """Start one and return when it is ready; the one that runs already if there is (then the second value is False).

    Raises DevKafkaError as `DevKafka.start` does, and if the one that runs is not the one that is wanted.
    """
    home = _home()
    lock = FileLock(home / "lock")
    if not lock.take(0):
        return _agrees(home, wanted), False
    try:
        (home / "state.json").unlink(missing_ok=True)
        holder = _spawn(home, wanted, lock)
    finally:
        lock.release()
    return _await_ready(holder, progress), True


def stop(timeout_s: float = STOP_TIMEOUT_S) -> Background | None:
    """End the one that runs and wait until its processes are gone; what ran, None if there was none.

    Raises DevKafkaError if it has not ended after `timeout_s` seconds.
    """
    home = _home()
    lock = FileLock(home / "lock")
    if lock.take(0):
        lock.release()
        return None
    found = _read(home)
    if found is not None:
        # Its holder keeps the lock while it lives, so the id is still its own; a guard that holds it needs no order.
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
    if not lock.take(timeout_s):
        told = f"pid {found.pid}" if found else "it is still starting"
        raise DevKafkaError(f"the Kafka in the background ({told}) did not end within {timeout_s:g} s: try again")
    (home / "state.json").unlink(missing_ok=True)
    lock.release()
    return found


def _read(home: Path) -> Background | None:
    try:
        facts = json.loads((home / "state.json").read_text(encoding="utf-8"))
        return Background(**{**facts, "node_pids": tuple(facts["node_pids"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _agrees(home: Path, wanted: Wanted) -> Background:
    found = _read(home)
    if found is None:
        raise DevKafkaError("another command is starting a Kafka in the background just now: wait for it")
    first_port = int(found.bootstrap.split(",")[0].rpartition(":")[2])
    differs = [
        text
        for text, same in (
            (f"{len(found.node_pids)} node(s)", len(found.node_pids) == wanted.nodes),
            (f"port {first_port}", wanted.port in {0, first_port}),
            (f"directory {found.directory}", wanted.directory in {None, Path(found.directory)}),
        )
        if not same
    ]
    if differs:
        raise DevKafkaError(
            f"a Kafka runs in the background with {', '.join(differs)}: end it first (orchestrator kafka stop)"
        )
    return found


def _spawn(home: Path, wanted: Wanted, lock: FileLock) -> subprocess.Popen[bytes]:
    plan = {
        "nodes": wanted.nodes,
        "port": wanted.port,
        "directory": str(wanted.directory.expanduser().absolute()) if wanted.directory else "",
        "lock": lock.descriptor,
        "home": str(home),
    }
    environment = {**os.environ, "ORCHESTRATOR_CACHE": str(home.parent)}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    with (home / "holder.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()", json.dumps(plan)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=home,
            env=environment,
            pass_fds=(lock.descriptor,),
            start_new_session=True,
        )


def _await_ready(holder: subprocess.Popen[bytes], progress: Callable[[str], None]) -> Background:
    """Follow what the holder says until it is ready. Interrupted, it takes the holder down with it."""
    try:
        assert holder.stdout is not None
        with holder.stdout as lines:
            for line in lines:
                said = json.loads(line)
                if "ready" in said:
                    # It shall outlive us, and we must not be told that we left it behind.
                    holder.returncode = 0
                    return Background(**{**said["ready"], "node_pids": tuple(said["ready"]["node_pids"])})
                if "error" in said:
                    holder.wait()
                    raise DevKafkaError(said["error"])
                progress(said["progress"])
    except BaseException:
        if holder.poll() is None:
            holder.terminate()
            holder.wait()
        raise
    code = holder.wait()
    raise DevKafkaError(f"the Kafka in the background ended with code {code}; see holder.log in {_home()}")


def _say(facts: Mapping[str, Any]) -> None:
    """One line to the command that started us."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def _hold(plan: Mapping[str, Any]) -> int:
    over = Ending()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    home = Path(plan["home"])
    directory = Path(plan["directory"]) if plan["directory"] else None
    wanted = Plan(
        nodes=plan["nodes"],
        port=plan["port"],
        directory=directory,
        progress=lambda text: _say({"progress": text}),
        inherit=(plan["lock"],),
    )
    try:
        kafka = DevKafka.run(wanted)
    except DevKafkaError as error:
        _say({"error": str(error)})
        return 1
    with kafka:
        signal.signal(signal.SIGTERM, lambda *_: over.set())
        pids = tuple(node.pid for node in kafka.nodes)
        state = Background(kafka.bootstrap, os.getpid(), pids, str(kafka.directory), directory is not None).facts()
        aside = home / "state.new"
        aside.write_text(json.dumps(state), encoding="utf-8")
        os.replace(aside, home / "state.json")
        _say({"ready": state})
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
        while not over.wait(LOOK_S):
            ended = [node.ended() for node in kafka.nodes]
            if any(ended):
                print("a broker ended by itself:", ended, file=sys.stderr)
                return 1
    return 0


def _interrupt(_number: int, _frame: object) -> None:
    raise SystemExit(1)


def main() -> None:
    """The process that holds the Kafka in the background."""
    sys.exit(_hold(json.loads(sys.argv[1])))
