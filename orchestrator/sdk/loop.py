"""A workflow is a deterministic asyncio event loop: this loop. It runs until idle; time moves only by deliveries from
the log.

Everything here hashes by creation number, because asyncio iterates sets of tasks and futures, and addresses differ
between processes. A forbidden act sets the run's verdict first and raises second, so that swallowing the exception
changes nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.commands import CancelTimer, ParkRun, SetTimer, TurnCommand
from ..core.ids import step_id

if TYPE_CHECKING:
    from .calls import Called
    from .maps import MapProgress

T = TypeVar("T")
_BORROWS_PATH = sys.version_info < (3, 12)
NEVER_S = float(1 << 50)
"""36 million years: a timer that is due later is due then, as one that is due at infinity."""
REFUSALS = 1_000
"""How often a run that leaves memory is told so before it is left waiting."""


class Stopped(BaseException):
    """The run's loop stops: its verdict is set, or it is evicted. Nothing that user code catches by accident."""


class Evicted(Stopped):
    """The run leaves memory; its history brings it back."""


class Overlong(BaseException):
    """Raised from outside into a turn that does not yield."""


class Identity:
    """A task's place in the tree of tasks: its path, and counters of what it made.

    Fixed by creation order, never by address.
    """

    __slots__ = ("children", "draws", "last_step", "made", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.made = 0
        self.children = 0
        self.last_step = 0
        self.draws = 0

    def next(self) -> int:
        """The number of the next step, timer or child made here."""
        self.made += 1
        self.last_step = self.made
        self.draws = 0
        return self.made

    def child(self) -> Identity:
        """The identity of the next task made here."""
        self.children += 1
        return Identity(f"{self.path}.{self.children}")


class RunFuture(asyncio.Future[Any]):
    """A future that hashes by creation number. `by_run`: it was cancelled by a request to cancel the run."""

    def __init__(self, *, loop: RunLoop) -> None:
        self._number = loop.number()
        self.by_run = False
        super().__init__(loop=loop)

    def cancel(self, msg: Any = None) -> bool:
        """See `asyncio.Future.cancel`."""
        loop = self.get_loop()
        assert isinstance(loop, RunLoop)
        self.by_run = self.by_run or loop.cancelling_run
        return super().cancel(msg)

    def __hash__(self) -> int:
        return self._number


class RunTask(asyncio.Task[Any]):
    """A task that hashes by creation number and knows its identity."""

    def __init__(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        loop: RunLoop,
        identity: Identity,
        context: contextvars.Context | None = None,
    ) -> None:
        # asyncio keeps all tasks of the process in one set, where those of all runs must not be alike: each new one was
        # compared with every older one of its number, in Python; CPython 3.11 died when another thread came between.
        self.number = id(self) >> 4
        self.identity = identity
        super().__init__(coro, loop=loop, name=identity.path, context=context)
        self.number = loop.number()

    def __hash__(self) -> int:
        return self.number


class RunTimer(asyncio.TimerHandle):
    """A durable timer behind `call_at`: `asyncio.sleep`, `timeout` and `wait_for` make these."""

    timer = ""


class RunLoop(asyncio.AbstractEventLoop):
    """The loop of one run."""

    def __init__(self) -> None:
        self.verdict: ParkRun | None = None
        self.evicting = False
        self.muted = False
        """Whether what its code logs is dropped: it replays, or leaves memory."""
        self._refused = 0
        self.commands: list[TurnCommand] = []
        self.timers: dict[str, RunTimer] = {}
        self.now_ms = 0
        self.tasks: dict[int, RunTask] = {}
        self.waiting: dict[str, Called] = {}
        """Durable calls that wait for their result, by identity."""
        self.unawaited: dict[int, Called] = {}
        """Durable calls that were made and not awaited yet: none may be left at the end of a turn."""
        self.run: object = None
        """The `LiveRun` whose loop this is."""
        self.main: RunTask | None = None
        self.maps: list[MapProgress] = []
        self.cancelling_run = False
        self.cancel_owed = False
        """Whether the main function has yet to hear of the run's cancellation, held up by a step in mode `wait`."""
        self.numbers = 0
        self._ready: deque[asyncio.Handle] = deque()
        self._new_timers: set[str] = set()

    # -- identity ----------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """The next creation number."""
        self.numbers += 1
        return self.numbers

    def identity(self) -> Identity:
        """Of the task that runs now."""
        task = asyncio.current_task(self)
        if not isinstance(task, RunTask):
            if self.evicting and not self._refuses():
                return Identity("")
            raise self.forbid("a durable call outside any task of the run (in a callback)")
        return task.identity

    # -- turns -------------------------------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Run what is ready and what that makes ready, until nothing is or the verdict is spoken."""
        ready = self._ready
        while ready and self.verdict is None:
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def begin_turn(self, now_ms: int) -> None:
        """A delivery's turn begins at the log's time of that delivery."""
        self.now_ms = now_ms
        self.commands = []
        self._new_timers.clear()

    def issue(self, command: TurnCommand) -> None:
        """A command of this turn. Raises Evicted while the run leaves memory."""
        if not self.evicting:
            self.commands.append(command)
        elif self._refuses():
            raise Evicted

    def _refuses(self) -> bool:
        """While the run leaves memory: whether to refuse once more.

        Code that catches every refusal and asks again would spin for ever: in the end it is left to wait for nothing.
        """
        self._refused += 1
        return self._refused <= REFUSALS

    def forbid(self, what: str) -> Stopped:
        """Set the verdict; returns what to raise."""
        if self.evicting:
            return Evicted()
        if self.verdict is None:
            site = call_site(_LIBRARIES) or call_site()
            self.verdict = ParkRun(
                "forbidden",
                f"workflow code may not do this: {what} (at {site}). It would not come out the same in a replay:"
                f" do it in"
                " a step",
                site,
            )
        return Stopped()

    def clear(self) -> None:
        """Drop what is ready (eviction)."""
        self._ready.clear()

    def cancel_main(self) -> None:
        """Deliver the run's cancellation to the main function."""
        if self.main is not None and not self.main.done():
            self.cancel_owed = False
            self.cancelling_run = True
            try:
                self.main.cancel()
            finally:
                self.cancelling_run = False

    def owe_cancel(self) -> None:
        """A call took its outcome in the place of the run's cancellation: the next await of the code gets that."""
        self.cancel_owed = True
        self.call_soon(self.cancel_main)

    # -- asyncio's side ----------------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def time(self) -> float:
        return self.now_ms / 1000

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = RunTimer(when, callback, args, self, context)
        if self.evicting:
            if self._refuses():
                raise Evicted
            return handle
        identity = self.identity()
        n = identity.next()
        handle.timer = step_id(identity.path, n)
        self.timers[handle.timer] = handle
        self._new_timers.add(handle.timer)
        due_ms = max(self.now_ms, -(-int(min(when, NEVER_S) * 1_000_000) // 1_000))
        self.issue(SetTimer(identity.path, n, due_ms, call_site()))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        assert isinstance(handle, RunTimer)
        if self.timers.pop(handle.timer, None) is None or self.evicting:
            return
        if handle.timer in self._new_timers:
            # Set and cancelled in one turn: nothing of it is written.
            self.commands = [
                one
                for one in self.commands
                if not (isinstance(one, SetTimer) and step_id(one.path, one.n) == handle.timer)
            ]
            return
        self.issue(CancelTimer(handle.timer))

    def fire(self, timer: str) -> None:
        """A timer's delivery. One cancelled meanwhile is not there any more."""
        handle = self.timers.pop(timer, None)
        if handle is not None:
            self._ready.append(handle)

    def create_future(self) -> RunFuture:
        return RunFuture(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> RunTask:
        parent = self.identity()
        # On 3.11 wait_for wraps what it awaits in a task; later versions await it in place: same identity for both.
        identity = parent if _BORROWS_PATH and _called_by_wait_for() else parent.child()
        return self.spawn(coro, identity, context)

    def spawn(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        identity: Identity,
        context: contextvars.Context | None = None,
    ) -> RunTask:
        """A task with a given identity: the main function's, a handler's."""
        task = RunTask(coro, loop=self, identity=identity, context=context)
        self.tasks[task.number] = task
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        assert isinstance(task, RunTask)
        self.tasks.pop(task.number, None)

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """asyncio's debug mode would add times and addresses."""

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody retrieved belongs to a task that failed: the run's outcome tells of it."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See `call_exception_handler`."""


def _forbidden(name: str) -> Any:
    def method(self: RunLoop, *args: Any, **kwargs: Any) -> Any:
        raise self.forbid(f"loop.{name}")

    method.__name__ = name
    return method


for _name in (
    "add_reader", "add_signal_handler", "add_writer", "call_soon_threadsafe", "close", "connect_accepted_socket",
    "connect_read_pipe", "connect_write_pipe", "create_connection", "create_datagram_endpoint", "create_server",
    "create_unix_connection", "create_unix_server", "getaddrinfo", "getnameinfo", "remove_reader",
    "remove_signal_handler", "remove_writer", "run_forever", "run_in_executor", "run_until_complete", "sendfile",
    "set_exception_handler", "get_exception_handler", "set_default_executor", "set_task_factory",
    "get_task_factory", "shutdown_asyncgens", "shutdown_default_executor", "sock_accept", "sock_connect",
    "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall", "sock_sendfile", "sock_sendto", "start_tls",
    "stop", "subprocess_exec", "subprocess_shell",
):  # fmt: skip
    setattr(RunLoop, _name, _forbidden(_name))
RunLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def _called_by_wait_for() -> bool:
    frame = sys._getframe(2)
    for _ in range(3):
        if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
            return False
        if frame.f_code.co_name == "wait_for":
            return True
        assert frame.f_back is not None
        frame = frame.f_back
    return False


_OURS = __name__.rpartition(".")[0]
_LIBRARIES = sysconfig.get_path("stdlib")
"""Python's own modules and what is installed below them."""
_TURN = RunLoop.run_until_idle.__code__


def call_site(but: str | None = None) -> str:
    """`file:line` of the nearest frame that is neither asyncio's nor ours, nor in a file under `but`: for messages."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not _TURN:
        module = frame.f_globals.get("__name__", "")
        file = frame.f_code.co_filename
        if not module.startswith((_OURS, "asyncio", "contextlib")) and not (but and file.startswith((but, "<frozen"))):
            return f"{file.rpartition('/')[2]}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""


def running_loop() -> RunLoop | None:
    """The run's loop, if code of a run is what runs on this thread now."""
    loop = asyncio._get_running_loop()
    return loop if type(loop) is RunLoop else None
