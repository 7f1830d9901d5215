"""Where the embedded Kafka keeps its files, and locks that end with the processes that hold them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import DevKafkaError

CACHE_VARIABLE = "ORCHESTRATOR_CACHE"
LOOK_S = 0.05
"""Seconds between two attempts at a lock that another process holds."""


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """The directory for jars, template and AOT cache, created if need be.

    ORCHESTRATOR_CACHE if set (DevKafkaError if it cannot be written), else the first that can be written of
    $XDG_CACHE_HOME/orchestrator, ~/.cache/orchestrator and a directory of this user in the temporary directory.
    """
    source = os.environ if environ is None else environ
    chosen = source.get(CACHE_VARIABLE, "").strip()
    if chosen:
        directory = Path(chosen).expanduser().absolute()
        if not _writable(directory):
            raise DevKafkaError(
                f"{CACHE_VARIABLE}={chosen} cannot be written: point it at a directory of yours, or unset it"
            )
        return directory
    candidates = []
    if source.get("XDG_CACHE_HOME"):
        candidates.append(Path(source["XDG_CACHE_HOME"]) / "orchestrator")
    if source.get("HOME"):
        candidates.append(Path(source["HOME"]) / ".cache" / "orchestrator")
    candidates.append(Path(tempfile.gettempdir()) / f"orchestrator-cache-{os.getuid()}")
    for directory in candidates:
        if directory.is_absolute() and _writable(directory):
            return directory
    raise DevKafkaError(
        f"no directory for downloads can be written (tried {', '.join(map(str, candidates))}): "
        f"set {CACHE_VARIABLE} to one that can"
    )


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Jars from here are executed: a directory that another user prepared is none of ours.
        if directory.stat().st_uid != os.getuid():
            return False
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def need_space(directory: Path, megabytes: int, purpose: str) -> None:
    """Raise DevKafkaError unless `directory` has that many megabytes (10^6 bytes) free."""
    free = shutil.disk_usage(directory).free // 1_000_000
    if free < megabytes:
        raise DevKafkaError(
            f"{purpose} needs {megabytes} MB, {directory} has {free} MB free: make room there, or choose another "
            f"place (downloads: {CACHE_VARIABLE}, temporary data: TMPDIR, kept data: --directory)"
        )


class FileLock:
    """An exclusive lock on a file, held until every process that inherited its descriptor has closed it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def take(self, timeout_s: float) -> bool:
        """Try for up to `timeout_s` seconds (0: once). Whether it is held now."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    os.close(descriptor)
                    return False
                time.sleep(LOOK_S)
            else:
                self._descriptor = descriptor
                return True

    @property
    def descriptor(self) -> int:
        """The open file: a process that inherits it holds the lock too."""
        return self._descriptor

    def release(self) -> None:
        """Close our descriptor; heirs keep the lock until they close theirs."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def locked(path: Path, timeout_s: float, busy: str) -> Iterator[None]:
    """Hold the lock on `path`; raises DevKafkaError with the sentence `busy` if it does not come free in time."""
    lock = FileLock(path)
    if not lock.take(timeout_s):
        raise DevKafkaError(busy)
    try:
        yield
    finally:
        lock.release()
