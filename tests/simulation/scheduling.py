"""Threads of which exactly one runs at any moment: whoever runs hands the baton on, and a seed says to whom.

An engine's partition stands in the middle of its verbs, with the others going on, only if it has a stack of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol


class Died(BaseException):
    """The process that this thread belongs to is dead."""


class Owner(Protocol):
    """The process of an actor."""

    dead: bool


class _Body:
    """A thread of the machine. It is lent to one actor after another, for making one costs more than a simulation."""

    def __init__(self) -> None:
        self.go = threading.Lock()
        self.go.acquire()
        self.task: Callable[[], None] = lambda: None
        self.home = threading.Lock()
        threading.Thread(target=self._serve, daemon=True, name="actor").start()

    def _serve(self) -> None:
        while True:
            self.go.acquire()
            self.task()
            self.task = lambda: None
            _idle.append(self)
            self.home.release()


_idle: list[_Body] = []


class Actor:
    """Something that runs, waits and dies."""

    def __init__(self, owner: Owner, run: Callable[[], None]) -> None:
        self.owner = owner
        self.run = run
        self.until: Callable[[], bool] | None = None
        self.deadline = 0.0
        self.done = False
        self.body: _Body | None = None

    def ready(self, now: float) -> bool:
        """Whether it has something to do."""
        return not self.done and (self.until is None or now >= self.deadline or self.until())


class Stage:
    """The actors, and who of them has the baton: `current`, None while it is the director's."""

    def __init__(self) -> None:
        self.current: Actor | None = None
        self.actors: list[Actor] = []
        self._home = threading.Lock()
        self._home.acquire()
        self._error: BaseException | None = None

    def enter(self, owner: Owner, run: Callable[[], None]) -> Actor:
        """A new actor; it begins when it is resumed first."""
        actor = Actor(owner, run)
        self.actors.append(actor)
        return actor

    def resume(self, actor: Actor) -> None:
        """Let it run until it waits or ends. Raises what it raised; its death is no error."""
        self.current = actor
        if actor.body is None:
            actor.body = _idle.pop() if _idle else _Body()
            actor.body.home = self._home
            actor.body.task = partial(self._live, actor)
        actor.body.go.release()
        self._home.acquire()
        self.current = None
        if self._error is not None:
            raise self._error

    def wait(self, until: Callable[[], bool] | None, deadline: float) -> None:
        """Called by the actor that runs: hand the baton back. Raises Died if its process died meanwhile."""
        actor = self.current
        assert actor is not None
        assert actor.body is not None
        actor.until, actor.deadline = until, deadline
        self._home.release()
        actor.body.go.acquire()
        actor.until = None
        if actor.owner.dead:
            raise Died

    def end(self, owner: Owner) -> None:
        """The process is dead: none of its actors goes on."""
        for actor in [actor for actor in self.actors if actor.owner is owner]:
            if actor.body is not None and not actor.done:
                self.resume(actor)
            actor.done = True
            self.actors.remove(actor)

    def _live(self, actor: Actor) -> None:
        try:
            if not actor.owner.dead:
                actor.run()
        except Died:
            pass
        except BaseException as error:
            self._error = error
        actor.done = True
