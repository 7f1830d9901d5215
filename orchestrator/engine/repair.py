"""What `orchestrator partition repair` does.

Take a parked partition over once, record what is accepted as lost, release it.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from ..codec.records import Codec
from ..core.decide.decision import Draft
from ..core.events import InputLost
from ..log.ports import Log
from ..sdk.execution import StepCall
from ..sdk.registry import Registry
from ..store.rows import Store
from .clock import SystemClock
from .inbox import Inbox
from .loop import PartitionLoop
from .options import EngineOptions
from .ownership import Ground
from .shared import Shared
from .turns import TurnGuard


class Lost(NamedTuple):
    """Commands that were deleted before they were read: offsets from `start` up to, not including, `end`."""

    start: int
    end: int


class NoSteps:
    """An executor that begins nothing (`StepExecutor`): a repair decides about input, it runs no step."""

    def start(self, call: StepCall) -> bool:
        return False

    def start_many(self, calls: list[StepCall]) -> list[StepCall]:
        return calls

    def cancel(self, token: str) -> None:
        """Nothing runs."""

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


def lost_input(log: Log, store: Store, codec: Codec, partition: int) -> Lost | None:
    """What is missing below the commands log's start, by the state; None when nothing is. Changes nothing."""
    inbox = Inbox(lambda: None, lambda: None)
    position = Ground(partition, log, codec, store, inbox, EngineOptions()).position()
    start, _ = log.inputs().bounds(partition)
    if position is None or position.position.offset >= start:
        return None
    return Lost(position.position.offset, start)


def accept_lost_input(log: Log, store: Store, codec: Codec, partition: int) -> Lost | None:
    """Claim the partition, record `InputLost`, release it; what was recorded, None when nothing is lost.

    Raises what a take-over raises: LogReplaced, LogGap, HangingTransaction, Fenced, ClaimLost.
    """
    options = EngineOptions()
    inbox = Inbox(lambda: None, lambda: None)
    guard = TurnGuard(options.turn_s)
    try:
        shared = Shared(
            log,
            codec,
            Registry(),
            NoSteps(),
            guard,
            SystemClock(),
            options,
            lambda number: store,
            lambda number, problem: None,
        )
        ground = Ground(partition, log, codec, store, inbox, options)
        ground.take_over()
        loop = PartitionLoop(ground, shared)
        lost = lost_input(log, store, codec, partition)
        loop.begin()
        if lost is None:
            loop.hand_over()
        else:
            loop.hand_over([Draft("", "", InputLost(lost.start, lost.end))], lost.end)
        return lost
    finally:
        guard.stop()
