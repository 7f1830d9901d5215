"""What `orchestrator partition repair` does.

Take a parked partition over once, record what is accepted as lost, release it.
"""

from __future__ import annotations

from typing import NamedTuple

from ..codec.records import Codec
from ..core.decide.decision import Draft
from ..core.events import InputLost
from ..errors import LogReplaced
from ..log.ports import Log
from ..store.rows import Store
from .visiting import ground_of, visit


class Lost(NamedTuple):
    """Commands that were deleted before they were read: offsets from `start` up to, not including, `end`."""

    start: int
    end: int


def lost_input(log: Log, store: Store, codec: Codec, partition: int) -> Lost | None:
    """What is missing below the commands log's start, by the state; None when nothing is. Changes nothing."""
    position = ground_of(log, store, codec, partition).position()
    start, _ = log.inputs().bounds(partition)
    if position is None or position.position.offset >= start:
        return None
    return Lost(position.position.offset, start)


def accept_lost_input(log: Log, store: Store, codec: Codec, partition: int) -> Lost | None:
    """Claim the partition, record `InputLost`, release it; what was recorded, None when nothing is lost.

    Raises what a take-over raises: LogReplaced, LogGap, HangingTransaction, Fenced, ClaimLost.
    """
    with visit(ground_of(log, store, codec, partition)) as loop:
        lost = lost_input(log, store, codec, partition)
        if lost is None:
            loop.hand_over()
        else:
            loop.hand_over([Draft("", "", InputLost(lost.start, lost.end))], lost.end)
    return lost


def accept_cut_log(log: Log, store: Store, codec: Codec, partition: int) -> str:
    """Claim a partition whose log ends before, or differs from, what the group's offset noted, and release it.

    What the log has counts from here on. Returns what was wrong; "" when nothing was, or nothing was noted. Raises what
    a take-over raises: LogReplaced when the state directory itself is ahead of the log.
    """
    try:
        with visit(ground_of(log, store, codec, partition)) as loop:
            loop.hand_over()
        return ""
    except LogReplaced as error:
        ground = ground_of(log, store, codec, partition)
        ground.accepts_cut = True
        with visit(ground) as loop:
            loop.hand_over()
        return str(error)
