"""How many attempts a worker may hold at once, and which do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """Free slots, counted by the thread that polls for offers and by the loop that asks for grants.

    An attempt that was granted while it had no slot goes before new offers.
    """

    def __init__(self, count: int) -> None:
        self._changed = threading.Condition()
        self._count = count
        self._free = count
        self._due = 0
        self._holders: set[str] = set()
        self._waivers: set[str] = set()

    @property
    def free(self) -> int:
        """How many are free."""
        return self._free

    def take(self) -> bool:
        """For an offer that may come: whether one is free that nothing granted waits for."""
        with self._changed:
            if self._free <= self._due:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        """No offer came, or none that is to be asked for."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def assign(self, token: str) -> None:
        """The one that was taken is this attempt's."""
        self._waivers.discard(token)
        self._holders.add(token)

    def holds(self, token: str) -> bool:
        """Whether the attempt has one."""
        return token in self._holders

    def waive(self, token: str) -> bool:
        """Let others have the attempt's, for nobody answers; False: as many as there are slots do already."""
        if token not in self._holders or len(self._waivers) >= self._count:
            return False
        self.release(token)
        self._waivers.add(token)
        return True

    def release(self, token: str) -> None:
        """The attempt wants none any more."""
        self._waivers.discard(token)
        if token in self._holders:
            self._holders.remove(token)
            self.give_back()

    @contextmanager
    def due(self) -> Iterator[None]:
        """While an attempt that was granted has none."""
        with self._changed:
            self._due += 1
        try:
            yield
        finally:
            with self._changed:
                self._due -= 1
                self._changed.notify_all()

    def take_due(self) -> bool:
        """For an attempt that was granted: whether it has one now."""
        with self._changed:
            if self._free <= 0:
                return False
            self._free -= 1
            return True

    def wait(self, timeout_s: float) -> None:
        """Until `take` may have one, or somebody wakes us."""
        with self._changed:
            if self._free <= self._due:
                self._changed.wait(timeout_s)

    def wake(self) -> None:
        """End a wait."""
        with self._changed:
            self._changed.notify_all()
