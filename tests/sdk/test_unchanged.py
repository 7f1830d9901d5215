"""Whether a run's variables are as they were is found out of what a function reaches, and of nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.sdk.unchanged import Variables


class Line(BaseModel):
    """As users have them."""

    text: str
    parts: list[str] = []


@dataclass(slots=True)
class Slotted:
    cents: int = 0


@dataclass
class Cart:
    """One object with a bit of everything."""

    total: int = 0
    items: list[str] = field(default_factory=list)
    by_key: dict[str, Any] = field(default_factory=lambda: {"deep": [{"set": {1}}]})
    line: Line = field(default_factory=lambda: Line(text="one"))
    slotted: Slotted = field(default_factory=Slotted)
    seen: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    counts: Counter[str] = field(default_factory=Counter)
    left: deque[int] = field(default_factory=lambda: deque([1, 2], maxlen=2))
    raw: bytearray = field(default_factory=lambda: bytearray(b"ab"))
    more: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(of=[1]))
    done: asyncio.Event = field(default_factory=asyncio.Event)
    queue: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    lock: Any = field(default_factory=threading.Lock)
    itself: Any = None

    @cached_property
    def computed(self) -> int:
        return self.total * 2

    def add(self, item: str) -> None:
        self.items.append(item)


CHANGES: dict[str, Callable[[Cart], Any]] = {
    "a number": lambda cart: setattr(cart, "total", 7),
    "an attribute more": lambda cart: setattr(cart, "other", 1),
    "an attribute less": lambda cart: delattr(cart, "total"),
    "an item": lambda cart: cart.items.append("b"),
    "an equal list": lambda cart: setattr(cart, "items", [*cart.items]),
    "deep in": lambda cart: cart.by_key["deep"][0]["set"].add(2),
    "a key": lambda cart: cart.by_key.pop("deep"),
    "a model": lambda cart: setattr(cart.line, "text", "two"),
    "of a model": lambda cart: cart.line.parts.append("x"),
    "a slot": lambda cart: setattr(cart.slotted, "cents", 1),
    "a default": lambda cart: cart.seen["asked"],
    "a count": lambda cart: cart.counts.update("a"),
    "the last of a deque": lambda cart: cart.left.append(3),
    "a byte": lambda cart: cart.raw.__setitem__(0, 0),
    "of a namespace": lambda cart: cart.more.of.append(2),
    "an event": lambda cart: cart.done.set(),
    "a queue": lambda cart: cart.queue.put_nowait(1),
    "by its method": lambda cart: cart.add("c"),
}
READS: dict[str, Callable[[Cart], Any]] = {
    "all": lambda cart: [*vars(cart).values()],
    "computed": lambda cart: cart.computed,
    "a missing count": lambda cart: cart.counts["nobody"],
    "an equal number": lambda cart: setattr(cart, "total", int("1000000")),
    "a lock": lambda cart: cart.lock.acquire(blocking=False),
}


def cart() -> Cart:
    """One that reaches itself."""
    made = Cart(total=1_000_000, items=["a"])
    made.itself = made
    return made


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", ["object", "closure", "nested", "partial", "method"])
def test_a_change_is_found(change: str, how: str) -> None:
    one = cart()

    def helper() -> Cart:
        return one

    root = {"object": one, "closure": lambda: one, "nested": lambda: helper(), "partial": partial(print, one),
            "method": one.add}[how]  # fmt: skip
    variables = Variables((root,))
    assert variables.are_as_they_were()
    CHANGES[change](one)
    assert not variables.are_as_they_were()


@pytest.mark.parametrize("read", READS)
def test_what_only_reads_is_no_change(read: str) -> None:
    one = cart()
    variables = Variables((one,))
    READS[read](one)
    assert variables.are_as_they_were()


def test_a_name_that_is_given_another_value() -> None:
    total, later = 1_000, 0

    def counts() -> int:
        nonlocal total
        total += 1
        return total + later

    variables = Variables((counts,))
    assert variables.are_as_they_were()
    counts()
    assert not variables.are_as_they_were()


def test_what_all_runs_share_is_no_runs_variable() -> None:
    """The cells of the function that made the workflow: a service of this process, say."""
    service: list[int] = []

    def workflow() -> Callable[[], int]:
        mine: list[int] = []

        def asks() -> int:
            service.append(1)
            return len(mine)

        def spoils() -> int:
            mine.append(1)
            return len(service)

        return asks if not service else spoils

    asks = workflow()
    variables = Variables((asks,), workflow.__closure__ or ())
    asks()
    assert variables.are_as_they_were()
    spoils = workflow()
    variables = Variables((spoils,), workflow.__closure__ or ())
    spoils()
    assert not variables.are_as_they_were()


def test_a_result_that_somebody_waits_for() -> None:
    loop = asyncio.new_event_loop()
    try:
        future: asyncio.Future[int] = loop.create_future()
        variables = Variables((lambda: future,))
        future.set_result(1)
        assert not variables.are_as_they_were()
    finally:
        loop.close()
