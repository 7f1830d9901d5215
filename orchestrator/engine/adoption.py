"""What `orchestrator topics adopt` does: the same log under other topic ids, after a move or a mirroring."""

from __future__ import annotations

from typing import NamedTuple

from ..codec.records import Codec
from ..core.decide.decision import Draft
from ..core.events import InputLost, TopicsAdopted
from ..core.values import Actor
from ..errors import LogReplaced
from ..log.ports import Log
from ..store.rows import Store
from .ownership import Ground
from .visiting import ground_of, visit


class Adoption(NamedTuple):
    """What is to be adopted: topic ids before and now, and where the verified footer stands (-1: none was noted)."""

    partition: int
    before: str
    now: str
    footer_offset: int
    input_offset: int
    input_start: int
    input_end: int

    @property
    def is_none(self) -> bool:
        """The topics are those that the state was folded from."""
        return self.before == self.now

    @property
    def input_fits(self) -> bool:
        """Whether the next command's offset lies within the commands topic, so that reading can go on there."""
        return self.input_start <= self.input_offset <= self.input_end


def verify(log: Log, store: Store, codec: Codec, partition: int) -> Adoption:
    """Compare the footer at the state's position with the log; nothing is written.

    Raises LogReplaced when it is another log, LogGap when it is not whole.
    """
    ground = _ground(log, store, codec, partition)
    return _verified(ground, log)


def adopt(log: Log, store: Store, codec: Codec, partition: int, actor: Actor, reason: str, skip: bool) -> Adoption:
    """Record the topics that are there now, after `verify`; the engine starts again.

    With `skip` commands are read from the commands topic's end on. Raises as `verify` and a take-over do.
    """
    found = verify(log, store, codec, partition)
    if found.is_none:
        return found
    if not found.input_fits and not skip:
        raise LogReplaced(
            f"{log.app}.commands/{partition}: the next command was {found.input_offset}, the topic has"
            f" {found.input_start}..{found.input_end}: it is not the same input. To read from its end on: --skip-input"
        )
    with visit(_ground(log, store, codec, partition)) as loop:
        ids = log.topic_ids()
        at = found.input_end if skip else found.input_offset
        drafts = [Draft("", "", TopicsAdopted(ids.cluster_id, ids.commands, ids.events, at, actor, reason))]
        if skip:
            drafts.append(Draft("", "", InputLost(found.input_offset, at, actor, reason)))
        loop.hand_over(drafts, at, exact=skip)
    return found


def _ground(log: Log, store: Store, codec: Codec, partition: int) -> Ground:
    ground = ground_of(log, store, codec, partition)
    ground.adopts = True
    return ground


def _verified(ground: Ground, log: Log) -> Adoption:
    position = ground.position()
    noted = ground.noted_topics()
    ids = ground.restore()
    if ground.assembler.gap is not None:
        raise ground.assembler.gap
    after = ground.position()
    ground.give_up()
    start, end = log.inputs().bounds(ground.number)
    known = after.position if after is not None else None
    commands = f"{known.topic_id} of {known.cluster_id}" if known else f"{ids.commands} of {ids.cluster_id}"
    events = noted or f"{ids.events} of {ids.cluster_id}"
    return Adoption(
        ground.number,
        f"events {events}, commands {commands}",
        f"events {ids.events} of {ids.cluster_id}, commands {ids.commands} of {ids.cluster_id}",
        position.next_offset - 1 if position is not None else -1,
        known.offset if known else start,
        start,
        end,
    )
