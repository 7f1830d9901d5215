"""Training Java's AOT cache once, in a process of its own beside a running Kafka: starts are a second faster after.

Nobody waits for it and nothing depends on it. It ends with its owner, it leaves a whole cache or none, and whatever
goes wrong in it is a line in `training.log`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

from orchestrator.log.probe import exercise

from .errors import DevKafkaError
from .places import FileLock, need_space
from .runtime import Runtime

NEEDED_MB = 400
"""Free space without which there is no training; the cache itself takes 75 MB."""
KEPT = 3
"""AOT caches of other environments that stay; older ones are removed."""
NICE = 10
SHUTDOWN_S = 120.0
STOP_S = 5.0
"""A training process ends at once when it is told to; one that does not is killed after this."""


class Trainer:
    """The training process, as its owner sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @classmethod
    def start(cls, runtime: Runtime) -> Self | None:
        """Start it; None when the disk is short or the process cannot be started."""
        try:
            need_space(runtime.cache, NEEDED_MB, "training Java's cache")
            with (runtime.cache / "training.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-c", f"from {__name__} import main; main()"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "ORCHESTRATOR_CACHE": str(runtime.cache), "PYTHONPATH": _python_path()},
                    start_new_session=True,
                )
        except (DevKafkaError, OSError):
            return None
        return cls(process)

    def wait(self, timeout_s: float) -> None:
        """Wait for its end, `timeout_s` seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)

    def stop(self) -> None:
        """End it now, finished or not, and wait until it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            # Its broker's guard sees that its owner is gone, and ends the broker.
            self._process.kill()
            self._process.wait()


def _python_path() -> str:
    """Where this package and its libraries were found, for a process that starts in the same place."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def train(runtime: Runtime) -> None:
    """Run a broker that records what it loads, use it as an engine would, and keep the cache it writes at its end.

    Does nothing if the cache is there or another process is training. Raises DevKafkaError.
    """
    from .cluster import DevKafka, Plan

    lock = FileLock(runtime.cache / "training.lock")
    if not lock.take(0):
        return
    try:
        if runtime.aot_cache.exists():
            return
        for left in runtime.cache.glob(".training-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=runtime.cache, prefix=".training-") as scratch:
            output = Path(scratch) / "new.aot"
            with DevKafka.run(Plan(flags=(f"-XX:AOTCacheOutput={output}",))) as kafka:
                exercise(kafka.bootstrap)
                kafka.nodes[0].terminate(SHUTDOWN_S)
            if not output.exists():
                raise DevKafkaError("Java wrote no AOT cache")
            os.replace(output, runtime.aot_cache)
        _prune(runtime)
    finally:
        lock.release()


def _prune(runtime: Runtime) -> None:
    """Remove the oldest caches: each environment has its own, and environments come and go."""
    others = [path for path in runtime.cache.glob("kafka-*.aot") if path != runtime.aot_cache]
    for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        path.unlink(missing_ok=True)


def _end_with_owner() -> None:
    """End at once when our stdin closes; the guard then ends the broker, and its directory goes with it."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="owner", daemon=True).start()


def main() -> None:
    """The training process."""
    _end_with_owner()
    os.nice(NICE)
    train(Runtime.prepare())
