"""A partition taken over once, by a tool: claimed, something recorded, released. No step runs, no turn is taken."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager

from ..codec.records import Codec
from ..core.decide.decision import Draft
from ..core.events import RoutingChanged
from ..core.values import Actor
from ..log.ports import Log
from ..sdk.execution import StepCall
from ..sdk.registry import Registry
from ..store.memory_store import MemoryStore
from ..store.rows import Store
from .clock import SystemClock
from .handed_over import Tokens
from .inbox import Inbox
from .loop import PartitionLoop
from .options import EngineOptions
from .ownership import Ground
from .shared import Shared
from .turn_guard import TurnGuard


class NoSteps:
    """An executor that begins nothing (`StepExecutor`): a tool decides about input, it runs no step."""

    def start(self, call: StepCall) -> bool:
        return False

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        return calls

    def cancel(self, token: str) -> None:
        """Nothing runs."""

    def withdraw(self, token: str) -> bool:
        return False

    def slot_free(self) -> bool:
        return False

    def reserve(self, token: str) -> bool:
        return False

    def unreserve(self, token: str) -> None:
        """Nothing is held."""

    def running(self) -> Set[str]:
        return frozenset()

    def waiting(self, token: str) -> bool:
        return False

    def stop(self, grace_s: float) -> Set[str]:
        return frozenset()


def ground_of(log: Log, store: Store, codec: Codec, partition: int) -> Ground:
    """What a visitor stands on; nothing is read or claimed yet."""
    return Ground(partition, log, codec, store, Inbox(lambda: None, lambda: None), EngineOptions())


@contextmanager
def visit(ground: Ground) -> Iterator[PartitionLoop]:
    """Take the partition over; the visitor ends with `loop.hand_over`.

    Raises what a take-over raises: LogReplaced, LogGap, HangingTransaction, Fenced, ClaimLost, ConfigurationError.
    """
    guard = TurnGuard(ground.options.turn_s)
    try:
        shared = Shared(
            ground.log,
            ground.codec,
            Registry(),
            NoSteps(),
            guard,
            SystemClock(),
            ground.options,
            lambda number: ground.store,
            lambda number, problem: None,
            {},
            Tokens(),
            Tokens(),
        )
        ground.take_over()
        loop = PartitionLoop(ground, shared)
        loop.begin()
        yield loop
    finally:
        guard.stop()


def found_partition(log: Log, codec: Codec, partition: int, epochs: tuple[int, ...], actor: Actor, reason: str) -> None:
    """The first records of a new partition: it knows of every count there was before it decides anything.

    The partition's events log must be empty. Raises what `visit` raises.
    """
    ground = ground_of(log, MemoryStore(codec), codec, partition)
    ground.found_with = epochs[0]
    with visit(ground) as loop:
        loop.hand_over([Draft("", "", RoutingChanged(epochs[-1], epochs, actor, reason))])
