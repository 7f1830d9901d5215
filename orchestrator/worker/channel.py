"""One step process as its executor sees it: how it is started, written to, read from, and found dead."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.sdk.execution import ExecutorOptions, StepCall

from . import frames
from .frames import MARK, Frame, FrameReader

SHARED = "shared"
ALONE = "alone"

_RECEIVE = 1 << 18
_WRITE = 1 << 20
_REAP_S = 5.0


@dataclass(eq=False)
class Placed:
    """An attempt that the executor took: where it is, and what happened to it. Guarded by the executor's lock."""

    call: StepCall
    seq: int
    channel: Channel | None = None
    alone: bool = False
    cancelled: bool = False
    kill_at: float = 0.0
    deaths: int = 0


class Channel:
    """A step process and the executor's end of its socket pair."""

    def __init__(self, app_ref: str, mode: str, options: ExecutorOptions) -> None:
        """Start the process. Call it only from a thread that outlives the process (Linux ends it with that thread)."""
        self.mode = mode
        self.placed: dict[int, Placed] = {}
        self.ready = False
        self.reserved = ""
        self.trouble = ""
        self.born = self.heard = self.idle_since = time.monotonic()
        self.pinged = 0.0
        self._reader = FrameReader()
        self._out = bytearray()
        self._out_lock = threading.Lock()
        self.sock, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as file:
            file.truncate(MARK.size)
            self._mark = mmap.mmap(file.fileno(), MARK.size)
            self._process = subprocess.Popen(
                self._command(app_ref, options, theirs.fileno(), file.fileno()),
                stdin=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=(theirs.fileno(), file.fileno()),
                process_group=0,
            )
        self.sock.setblocking(False)

    def _command(self, app_ref: str, options: ExecutorOptions, sock: int, mark: int) -> list[str]:
        command = [options.python, "-m", "orchestrator.worker.process", str(sock), app_ref, "--mode", self.mode]
        command += ["--mark", str(mark), "--parent", str(os.getpid())]
        for entry in options.path:
            command += ["--path", entry]
        return command

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def write(self, frame: bytes) -> None:
        """Line a frame up. Nothing is sent before `flush`."""
        with self._out_lock:
            self._out += frame

    def flush(self) -> bool:
        """Send what is lined up. True: the socket is full, call again when it is not."""
        with self._out_lock:
            while self._out:
                with memoryview(self._out) as out:
                    try:
                        sent = self.sock.send(out[:_WRITE])
                    except (BlockingIOError, InterruptedError):
                        return True
                    except OSError:  # dead: the reader finds that out and knows what to do
                        sent = len(out)
                del self._out[:sent]
        return False

    def receive(self) -> list[Frame] | None:
        """Frames that arrived; None: the process closed its end. Raises `BrokenFrame`."""
        try:
            data = self.sock.recv(_RECEIVE)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        if not data:
            return None
        self.heard, self.pinged = time.monotonic(), 0.0
        return self._reader.feed(data)

    def ping(self) -> None:
        """Ask the process's main loop for a sign of life."""
        self.pinged = time.monotonic()
        self.write(frames.encode(frames.PING, []))

    def kill(self, why: str) -> None:
        """End the process; its death is then found by the reader."""
        self.trouble = self.trouble or why
        self._process.kill()

    def bury(self, wait_s: float = 0.0) -> str:
        """Close the socket pair, make sure that the process is gone, and say how it went.

        `wait_s`: time to go by itself.
        """
        with self._out_lock:
            self.sock.close()
        try:
            code = self._process.wait(wait_s or 0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(_REAP_S)
        if self.trouble:
            return self.trouble
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def culprit(self) -> int:
        """The number of the attempt whose code held the process when it died; 0 unknown. Only after `bury`."""
        number: int = MARK.unpack(self._mark[:])[0]
        self._mark.close()
        return number


def _environment() -> dict[str, str]:
    """Ours, so that a process finds this very package, from wherever it was imported."""
    root = Path(__file__).resolve().parents[2]
    if root.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *([known] if known else [])])}
