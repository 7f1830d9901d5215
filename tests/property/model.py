"""The exact model of a run: the same program on the standard library's event loop.

What the run was told, in the order of its history, is told to plain futures; what the program then asks for must be
what its history says that it asked for, turn by turn. Nothing of the SDK takes part.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from tests.property.interpreter import carry_out, update_at
from tests.property.programs import Node

Asked = tuple[str, Any]
"""step, child, timer, and their cancels, with label (timer: its due time); an update's id and answer; or how the run
ended, with its value."""


class ModelLoop(asyncio.BaseEventLoop):
    """The standard library's loop without clock and selector: time is what the history says."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.asked: list[Asked] = []
        self.timers: dict[int, asyncio.TimerHandle] = {}
        self._made = 0
        self._of: dict[asyncio.TimerHandle, tuple[int, int]] = {}

    def time(self) -> float:
        return self.now_ms / 1000

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        due = round(when * 1000)
        self.timers[self._made] = handle
        self.asked.append(("timer", (self._made, due)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        for number, known in self.timers.items():
            if known is handle:
                del self.timers[number]
                new = [one for one in self.asked if one[0] == "timer" and one[1][0] == number]
                if new:
                    self.asked.remove(new[0])
                else:
                    self.asked.append(("cancel timer", number))
                return

    def fire(self, number: int) -> None:
        """The time of a timer has come."""
        handle = self.timers.pop(number, None)
        if handle is not None:
            self._ready.append(handle)  # type: ignore[attr-defined]

    def run_ready(self) -> None:
        """Run until nothing is ready."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        while ready:
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Errors of tasks that nobody asked are not printed."""


class Again(BaseException):
    """The run goes on as a new one."""


class StepBroke(Exception):
    """A step or a child failed."""


class ModelRun:
    """One run of a program (`tests.property.interpreter.Ops`)."""

    def __init__(self, program: Node, at: str, now_ms: int) -> None:
        self.loop = ModelLoop()
        self.cancelled = False
        self.pending: dict[str, asyncio.Future[Any]] = {}
        self._kept: dict[str, list[int]] = {}
        self._waiters: dict[str, list[asyncio.Future[int]]] = {}
        self._ended = False
        self._handlers: list[asyncio.Task[None]] = []
        self.loop.now_ms = now_ms
        with self._inside():
            self._main = self.loop.create_task(carry_out(self, program, at))

    # -- what the program asks for -----------------------------------------------------------------------------------

    async def step(self, label: str, node: Node) -> str:
        """See `Ops`."""
        found: str = await self._call("step", label, node[4] != "abandon")
        return found

    async def child(self, program: Node, at: str) -> Any:
        """See `Ops`."""
        return await self._call("child", at, True)

    async def _call(self, kind: str, label: str, cancels: bool) -> Any:
        future = self.pending[f"{kind} {label}"] = self.loop.create_future()
        self.loop.asked.append((kind, label))
        try:
            return await future
        finally:
            if self.pending.pop(f"{kind} {label}", None) is not None and cancels:
                self.loop.asked.append((f"cancel {kind}", label))

    async def signal(self, name: str, timeout_ms: int) -> Any:
        """See `Ops`."""
        if self._kept.get(name):
            return self._kept[name].pop(0)
        future: asyncio.Future[int] = self.loop.create_future()
        self._waiters.setdefault(name, []).append(future)
        try:
            async with asyncio.timeout(timeout_ms / 1000 if timeout_ms else None):
                return await future
        except TimeoutError:
            return None
        finally:
            if future in self._waiters[name]:
                self._waiters[name].remove(future)

    def again(self, program: Node, at: str) -> NoReturn:
        """See `Ops`."""
        raise Again(json.dumps([program, at]))

    # -- what it is told ---------------------------------------------------------------------------------------------

    def turn(self, now_ms: int, tell: Callable[[], None]) -> list[Asked]:
        """One delivery; what the program asks for then."""
        self.loop.now_ms = max(now_ms, self.loop.now_ms)
        self.loop.asked = []
        with self._inside():
            tell()
            self.loop.run_ready()
        if self._main.done() and not self._ended:
            self._ended = True
            self.loop.asked.append(self._outcome())
        return self.loop.asked

    def result(self, kind: str, label: str, value: Any, good: bool = True) -> None:
        """A step or child ended."""
        future = self.pending.pop(f"{kind} {label}", None)
        if future is not None and not future.done():
            if good:
                future.set_result(value)
            else:
                future.set_exception(StepBroke(label))

    def told(self, name: str, value: int) -> None:
        """A signal came."""
        waiters = self._waiters.get(name, [])
        if waiters:
            waiters.pop(0).set_result(value)
        else:
            self._kept.setdefault(name, []).append(value)

    def update(self, name: str, number: int, program: Node) -> None:
        """An update was accepted: its handler is a task of its own."""
        self._handlers.append(self.loop.create_task(self._carry_out(name, number, program)))

    async def _carry_out(self, name: str, number: int, program: Node) -> None:
        try:
            value = await carry_out(self, program, update_at(number))
        except Exception:
            self.loop.asked.append(("update failed", name))
        else:
            self.loop.asked.append(("updated", (name, [number, value])))

    def cancel(self) -> None:
        """The run is to be cancelled."""
        self.cancelled = True
        self._main.cancel()

    def _outcome(self) -> Asked:
        try:
            return "completed", self._main.result()
        except asyncio.CancelledError:
            return ("cancelled" if self.cancelled else "bug"), None
        except Again as again:
            return "again", again.args[0]
        except Exception:
            return "failed", None

    # -- housekeeping ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _inside(self) -> Any:
        before, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self.loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)
            sys.set_asyncgen_hooks(*hooks)

    def close(self) -> None:
        """End every task that is left, silently."""
        with self._inside():
            for _ in range(100):
                left = asyncio.all_tasks(self.loop)
                if not left:
                    break
                for task in left:
                    task.cancel()
                self.loop.run_ready()
                for future in list(self.pending.values()):
                    future.cancel()
                for handle in list(self.loop.timers):
                    self.loop.fire(handle)
                self.loop.run_ready()
        self.loop.close()
