"""One executor out of two: steps that ask for a thread get one, all others a step process."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from orchestrator.sdk.execution import StepCall, StepExecutor


class RoutedExecutor:
    """Routes by step name (`StepExecutor`). `in_thread(name)` tells whether the step asks for a thread.

    Guarded slots are those of the step processes; a guarded step that then runs in a thread gives its slot back.
    """

    def __init__(self, processes: StepExecutor, threads: StepExecutor, in_thread: Callable[[str], bool]) -> None:
        self._processes = processes
        self._threads = threads
        self._in_thread = in_thread

    def start(self, call: StepCall) -> bool:
        """See `StepExecutor.start`."""
        return not self.start_many([call])

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        """See `StepExecutor.start_many`."""
        mine: list[StepCall] = []
        theirs: list[StepCall] = []
        for call in calls:
            (mine if self._in_thread(call.name) else theirs).append(call)
        for call in mine:
            if call.guarded:
                self._processes.unreserve(call.token)
        return [*self._threads.start_many(mine), *(self._processes.start_many(theirs) if theirs else [])]

    def cancel(self, token: str) -> None:
        """See `StepExecutor.cancel`."""
        self._processes.cancel(token)
        self._threads.cancel(token)

    def withdraw(self, token: str) -> bool:
        """See `StepExecutor.withdraw`."""
        return self._processes.withdraw(token) or self._threads.withdraw(token)

    def slot_free(self) -> bool:
        """See `StepExecutor.slot_free`."""
        return self._processes.slot_free()

    def reserve(self, token: str) -> bool:
        """See `StepExecutor.reserve`."""
        return self._processes.reserve(token)

    def unreserve(self, token: str) -> None:
        """See `StepExecutor.unreserve`."""
        self._processes.unreserve(token)

    def running(self) -> Set[str]:
        """See `StepExecutor.running`."""
        return self._processes.running() | self._threads.running()

    def waiting(self, token: str) -> bool:
        """See `StepExecutor.waiting`."""
        return self._processes.waiting(token) or self._threads.waiting(token)

    def stop(self, grace_s: float) -> Set[str]:
        """See `StepExecutor.stop`. The two are stopped one after the other, within one grace time."""
        deadline = time.monotonic() + grace_s
        cut = self._processes.stop(grace_s)
        return cut | self._threads.stop(max(0.0, deadline - time.monotonic()))
