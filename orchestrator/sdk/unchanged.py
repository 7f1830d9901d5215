"""Whether a run's variables are as they were: a query or a validator that changed one is found out.

What a function can change of a run is what its cells and its object reach. Looked into are Python's own collections,
functions, asyncio's events and queues, and objects of classes that are neither Python's nor this package's; anything
else (an array of another library, say) counts as it stands. No value is compared but by being the same object, or an
equal one of the kinds that cannot change.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache, partial
from operator import is_
from types import CellType, FunctionType, MemberDescriptorType, MethodType, NoneType, SimpleNamespace
from typing import Any

PLAIN = frozenset((str, bytes, int, float, complex, bool, NoneType))
OF_ASYNCIO = frozenset(("asyncio.locks", "asyncio.queues"))
PACKAGE = __name__.partition(".")[0]


class Variables:
    """Everything that is reached from `roots`, as it stands now. Not looked into: `shared`, which is no run's own."""

    def __init__(self, roots: Iterable[Any], shared: Iterable[Any] = ()) -> None:
        self._parts: list[tuple[Any, list[Any]]] = []
        known = {id(one) for one in shared}
        left = list(roots)
        while left:
            one = left.pop()
            if id(one) in known:
                continue
            known.add(id(one))
            parts = _parts_of(one)
            if parts is not None:
                self._parts.append((one, parts))
                left += [part for part in parts if type(part) not in PLAIN]

    def are_as_they_were(self) -> bool:
        """Whether nothing was changed, added or taken away."""
        return all(_same(parts, _parts_of(one) or []) for one, parts in self._parts)


def _same(before: list[Any], now: list[Any]) -> bool:
    if len(before) != len(now):
        return False
    return all(map(is_, before, now)) or all(map(_is, before, now))


def _is(before: Any, now: Any) -> bool:
    return before is now or (type(before) is type(now) and type(before) in PLAIN and bool(before == now))


def _parts_of(one: Any) -> list[Any] | None:
    """What it consists of; None if it is not looked into. The commonest kinds come first."""
    kind: Any = type(one)
    if kind is list:
        return one.copy()  # type: ignore[no-any-return]
    if isinstance(one, dict):
        return [*dict.keys(one), *dict.values(one)]
    if isinstance(one, list | tuple | set | frozenset | deque):
        return list(one)
    if isinstance(one, bytearray):
        return [bytes(one)]
    if isinstance(one, CellType):
        return _contents(one)
    if isinstance(one, FunctionType):
        return [*(one.__closure__ or ()), one.__defaults__, one.__kwdefaults__]
    if isinstance(one, MethodType):
        return [one.__self__]
    if isinstance(one, partial):
        return [one.func, one.args, one.keywords]
    if isinstance(one, asyncio.Future):
        return [one.done()]
    return list(_attributes(one)) if _is_looked_into(kind) else None


def _contents(cell: CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


@lru_cache(4_096)
def _is_looked_into(kind: type) -> bool:
    top = kind.__module__.partition(".")[0]
    if top in sys.stdlib_module_names:
        return kind is SimpleNamespace or kind.__module__ in OF_ASYNCIO
    return top != PACKAGE and not issubclass(kind, type)


def _attributes(one: Any) -> Iterator[Any]:
    """Names and values. What a `cached_property` keeps is no change: it is computed from the others."""
    kind = type(one)
    try:
        held = object.__getattribute__(one, "__dict__")
    except AttributeError:
        held = {}
    for name, value in list(held.items()):
        if not isinstance(getattr(kind, name, None), cached_property):
            yield name
            yield value
    for owner in kind.__mro__:
        for name, slot in vars(owner).items():
            if isinstance(slot, MemberDescriptorType):
                try:
                    value = slot.__get__(one, kind)
                except AttributeError:
                    continue
                yield name
                yield value
