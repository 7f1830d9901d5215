"""Rows of the home of limits: how much is held, who waits and in which order. All in the family `limits`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .values import LimitedTask, LimitNeed

LIMITS = "limits"
PREFIX = "limits/"
"""Before a group's name in the key of its commands and events: it hashes like a workflow id."""

HIGHEST_PRIORITY = 1_000_000

Key = tuple[str | int, ...]


class LimitHomeRow(NamedTuple):
    """A group of limits lives here. `asked` numbers those that ever asked."""

    asked: int = 0


class LimitRow(NamedTuple):
    """A limit and key. `spec` is what the newest task to ask says of it; `admitted` numbers the begins.

    `turn` is where the round of fairness keys stands. A debounced begin is due at `due_ms`; the first that asked for
    it did at `first_ms`.
    """

    spec: LimitNeed
    held: int = 0
    waiting: int = 0
    admitted: int = 0
    last_ms: int = 0
    turn: int = 0
    due_ms: int = 0
    first_ms: int = 0


class LimitTaskRow(NamedTuple):
    """A task that holds slots (`waits_for` -1), or waits in the queue of `needs[waits_for]` at `place`.

    `displaced`: its run was asked to cancel. If it waited, it does so no more, and holds nothing.
    """

    task: LimitedTask
    needs: tuple[LimitNeed, ...]
    number: int
    waits_for: int
    place: tuple[int, ...] = ()
    since_ms: int = 0
    displaced: bool = False

    @property
    def holds(self) -> bool:
        """Whether slots are held for it."""
        return self.waits_for < 0 and not self.place


class WaiterRow(NamedTuple):
    """A place in a queue."""

    task: str


class HolderRow(NamedTuple):
    """A slot that is held, in the order in which holders asked."""

    task: str


class RateRow(NamedTuple):
    """When a begin was, as long as it counts."""

    at_ms: int


class TurnRow(NamedTuple):
    """The next turn of a fairness key."""

    turn: int


class LaneRow(NamedTuple):
    """Attempts of a run with the same needs: how many of them have asked and wait, and how many have yet to ask."""

    asked: int = 0
    later: int = 0


class LaterRow(NamedTuple):
    """An attempt that asks when one of its lane has been admitted."""

    step: str
    attempt: int


def home_of(group: str) -> str:
    """The key of the commands and events of a group of limits."""
    return PREFIX + group


def home_key(home: str) -> Key:
    """Key of a LimitHomeRow; sorts before everything of its home."""
    return (home,)


def limit_key(home: str, name: str, key: str) -> Key:
    """Key of a LimitRow."""
    return (home, "limit", name, key)


def task_key(home: str, task: str) -> Key:
    """Key of a LimitTaskRow."""
    return (home, "task", task)


def queue_key(home: str, name: str, key: str, place: tuple[int, ...] = ()) -> Key:
    """Key of a WaiterRow: by priority, turn and number. Without a place the prefix of a whole queue."""
    return (home, "queue", name, key, *place)


def holder_key(home: str, name: str, key: str, *number: int) -> Key:
    """Key of a HolderRow."""
    return (home, "holder", name, key, *number)


def rate_key(home: str, name: str, key: str, *number: int) -> Key:
    """Key of a RateRow."""
    return (home, "rate", name, key, *number)


def turn_key(home: str, name: str, key: str, *fairness: str) -> Key:
    """Key of a TurnRow."""
    return (home, "turn", name, key, *fairness)


def lane_key(workflow_id: str, run_id: str, *needs: str) -> Key:
    """Key of a LaneRow, beside the run."""
    return (workflow_id, "lane", run_id, *needs)


def later_key(workflow_id: str, run_id: str, *place: str | int) -> Key:
    """Key of a LaterRow: lane, priority, `seq` of the event that wanted to ask."""
    return (workflow_id, "later", run_id, *place)


def rate_free_at(get: Callable[[str, Key], Any], home: str, row: LimitRow, more: tuple[int, ...] = ()) -> int:
    """When the rate of a limit allows the next begin, in ms; 0: at once. `more`: begins that no row knows of yet."""
    spec = row.spec
    number = row.admitted + len(more) - spec.rate
    if not spec.rate or number < 0:
        return 0
    if number >= row.admitted:
        return more[number - row.admitted] + spec.rate_ms
    begun: RateRow | None = get(LIMITS, rate_key(home, spec.name, spec.key, number))
    return begun.at_ms + spec.rate_ms if begun is not None else 0
