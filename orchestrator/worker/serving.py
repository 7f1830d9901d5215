"""The two main loops of a step process."""

from __future__ import annotations

import asyncio
import contextvars
import mmap
import os
import queue
import select
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, NoReturn

from orchestrator.sdk.execution import StepCall

from . import frames
from .frames import MARK, FrameReader
from .heartbeat import thread_timer
from .running import Attempt

_RECEIVE = 1 << 18
_NOBODY = MARK.pack(0)

_owner: contextvars.ContextVar[bytes] = contextvars.ContextVar("owner")
"""The packed number of the attempt that the current task works for."""


def end(code: int = 0) -> NoReturn:
    """End the process now: no clean-up of steps, nothing waits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


class Marked(Coroutine[Any, Any, Any]):
    """A coroutine that writes its attempt's number into the mark while its code runs, so that a death has a culprit."""

    __slots__ = ("_coroutine", "_mark", "_owner")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], mark: mmap.mmap, owner: bytes) -> None:
        self._coroutine = coroutine
        self._mark = mark
        self._owner = owner

    def send(self, value: Any) -> Any:
        """Resume the coroutine."""
        return self._marked(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        """Throw into the coroutine."""
        return self._marked(self._coroutine.throw, *error)

    def _marked(self, resume: Callable[..., Any], *values: Any) -> Any:
        self._mark[:] = self._owner
        try:
            value = resume(*values)
        except (SystemExit, KeyboardInterrupt):  # leaves the loop and ends the process: the mark stays
            raise
        except BaseException:
            self._mark[:] = _NOBODY
            raise
        self._mark[:] = _NOBODY
        return value

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


class Shared:
    """Async steps side by side on one loop; what they say leaves once a pass of the loop."""

    def __init__(self, sock: socket.socket, app: Any, mark: mmap.mmap) -> None:
        self._sock = sock
        self._app = app
        self._mark = mark
        self._reader = FrameReader()
        self._attempts: dict[int, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._out = bytearray()
        self._flushing = False
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    async def serve(self) -> None:
        """Run until the socket pair ends, which ends the process."""
        self._sock.setblocking(False)
        self._loop.set_task_factory(self._make_task)
        self._loop.add_reader(self._sock, self._readable)
        threading.Thread(target=self._watch, name="step-watch", daemon=True).start()
        self._say(frames.encode(frames.READY, [os.getpid()]))
        await self._loop.create_future()

    def _watch(self) -> None:
        """See the other end close even while a step holds the loop. A poll for nothing reports hang-ups alone."""
        poll = select.poll()
        poll.register(self._sock, 0)
        poll.poll()
        end()

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        owner = _owner.get(None)
        if owner is not None:
            coroutine = Marked(coroutine, self._mark, owner)
        return asyncio.Task(coroutine, loop=loop, **options)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            end()
        if not data:
            end()
        for frame in self._reader.feed(data):
            if frame.kind == frames.START:
                self._start(*frames.decode_start(frame))
            elif frame.kind == frames.CANCEL:
                attempt = self._attempts.get(frame.fields[0])
                if attempt is not None:
                    attempt.cancel()
            elif frame.kind == frames.PING:
                self._say(frames.encode(frames.PONG, []))

    def _start(self, seq: int, call: StepCall) -> None:
        attempt = Attempt(self._app, call, partial(self._beat, seq), self._later)
        if attempt.blocking:
            self._say(frames.encode(frames.ALONE, [seq]))
            return
        self._attempts[seq] = attempt
        context = contextvars.copy_context()
        context.run(_owner.set, MARK.pack(seq))
        task = context.run(self._loop.create_task, self._run(seq, attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, seq: int, attempt: Attempt) -> None:
        result, failure = await attempt.run()
        del self._attempts[seq]
        self._say(frames.encode_outcome(seq, result, failure))

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, call)

    def _beat(self, seq: int, details: Any) -> None:
        frame = frames.encode(frames.BEAT, [seq], details)
        if threading.get_ident() == self._thread:
            self._say(frame)
        else:
            self._loop.call_soon_threadsafe(self._say, frame)

    def _say(self, frame: bytes) -> None:
        self._out += frame
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what gathered. A full socket is waited for by the loop, so that order is kept."""
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            end()
        del self._out[:sent]
        if self._out:
            self._loop.add_writer(self._sock, self._flush)
        else:
            self._flushing = False
            self._loop.remove_writer(self._sock)


def serve_shared(sock: socket.socket, app: Any, mark: mmap.mmap) -> None:
    """Serve async steps."""

    async def main() -> None:
        await Shared(sock, app, mark).serve()

    asyncio.run(main())


class Alone:
    """One step at a time on the main thread; a second thread listens."""

    def __init__(self, sock: socket.socket, app: Any, mark: mmap.mmap) -> None:
        self._sock = sock
        self._app = app
        self._mark = mark
        self._lock = threading.Lock()
        self._attempts: dict[int, Attempt] = {}
        self._todo: queue.SimpleQueue[tuple[int, Attempt]] = queue.SimpleQueue()

    def serve(self) -> None:
        """Run until the socket pair ends, which ends the process."""
        threading.Thread(target=self._listen, name="step-listen", daemon=True).start()
        self._say(frames.encode(frames.READY, [os.getpid()]))
        with asyncio.Runner() as runner:
            while True:
                seq, attempt = self._todo.get()
                self._mark[:] = MARK.pack(seq)
                result, failure = attempt.run_blocking() if attempt.blocking else runner.run(attempt.run())
                sys.stdout.flush()
                self._mark[:] = _NOBODY
                del self._attempts[seq]
                self._say(frames.encode_outcome(seq, result, failure))

    def _listen(self) -> None:
        reader = FrameReader()
        while True:
            try:
                data = self._sock.recv(_RECEIVE)
            except OSError:
                data = b""
            if not data:
                end()
            for frame in reader.feed(data):
                if frame.kind == frames.START:
                    seq, call = frames.decode_start(frame)
                    attempt = Attempt(self._app, call, partial(self._beat, seq), thread_timer)
                    self._attempts[seq] = attempt
                    self._todo.put((seq, attempt))
                elif frame.kind == frames.CANCEL:
                    running = self._attempts.get(frame.fields[0])
                    if running is not None:
                        running.cancel()
                elif frame.kind == frames.PING:
                    self._say(frames.encode(frames.PONG, []))

    def _beat(self, seq: int, details: Any) -> None:
        self._say(frames.encode(frames.BEAT, [seq], details))

    def _say(self, frame: bytes) -> None:
        try:
            with self._lock:
                self._sock.sendall(frame)
        except OSError:
            end()


def serve_alone(sock: socket.socket, app: Any, mark: mmap.mmap) -> None:
    """Serve one step at a time."""
    Alone(sock, app, mark).serve()
