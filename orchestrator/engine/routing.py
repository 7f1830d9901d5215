"""Commands that belong to another partition, now that the count may have grown (docs/adr/0009-routing-epochs.md)."""

from __future__ import annotations

import logging

from ..core.commands import ChangeRouting, Command, QueryWorkflow
from ..core.decide.decision import Draft
from ..core.events import CommandForwarded, CommandReturned, RoutingChanged
from ..core.limit_rows import home_key
from ..core.routing import HOP_HEADER, Hop, follows, next_place, parse_hop
from ..core.rows import (
    DEDUP,
    ENTITIES,
    EVENTS,
    LIMITS,
    META,
    ROUTING_KEY,
    RUNS,
    SCHEDULES,
    AskedRow,
    RoutingRow,
    asked_key,
    current_key,
    dedup_key,
    entity_key,
    schedule_key,
)
from ..core.signatures import SIGNATURE_HEADER
from ..core.values import Actor, Cause
from ..core.waits import topic_key
from ..log.partitioner import partition_of
from ..log.ports import Out, Wire
from .batch import Batch
from .builder import Builder
from .keyring import signed_of
from .ownership import Ground

log = logging.getLogger(__name__)

GOSSIP = "a forwarded command came from a partition that knows of the growth"


class Routing:
    """One partition's part: which commands are its own, and where the others go."""

    def __init__(self, ground: Ground, builder: Builder) -> None:
        self._ground = ground
        self._builder = builder

    @property
    def epochs(self) -> tuple[int, ...]:
        """Every partition count there was, oldest first, as this partition's log has them."""
        row: RoutingRow | None = self._builder.overlay.get(META, ROUTING_KEY)
        return row.epochs if row is not None else (self._ground.recorded,)

    def note(self) -> None:
        """The count may have changed: tell those who ask from other threads."""
        self._ground.recorded = self.epochs[-1]

    def is_here(self, batch: Batch, command: Command, wire: Wire) -> bool:
        """Whether this partition decides the command; else it is on its way to another one."""
        if not command.workflow_id:
            # Addressed to the partition itself: a listing, a change of routing.
            return True
        hop = _hop_of(wire)
        if hop is not None:
            self._learn(batch, hop, wire)
        epochs, here = self.epochs, self._ground.number
        key = command.workflow_id.encode()
        if len(epochs) == 1 and partition_of(key, epochs[0]) == here:
            return True
        places = [partition_of(key, count) for count in epochs]
        ruled = hop.ruled if hop is not None else 0
        home = places[-1]
        if here == home:
            self._note_return(batch, command, hop, wire)
        present = self._knows(command)
        if present and (here != home or hop is not None or not self._asking(command)):
            return True
        to, ruled = next_place(places, here, ruled)
        if to == here:
            return True
        asks = here == home and hop is None
        asker, asked = (here, wire.offset) if asks else (hop.asker, hop.asked) if hop is not None else (-1, -1)
        self._forward(batch, command, wire, to, Hop(epochs, ruled, asker, asked))
        return False

    def _knows(self, command: Command) -> bool:
        """Whether a run of the workflow lives here, or this very command was answered here."""
        overlay = self._builder.overlay
        return (
            overlay.get(RUNS, current_key(command.workflow_id)) is not None
            or overlay.get(ENTITIES, entity_key(command.workflow_id)) is not None
            or overlay.get(SCHEDULES, schedule_key(command.workflow_id)) is not None
            or overlay.get(LIMITS, home_key(command.workflow_id)) is not None
            or overlay.get(EVENTS, topic_key(command.workflow_id)) is not None
            or overlay.get(DEDUP, dedup_key(command.workflow_id, command.id)) is not None
        )

    def _asking(self, command: Command) -> bool:
        """Whether earlier commands of the workflow are still on their way round: this one follows them, in order."""
        if isinstance(command.body, QueryWorkflow):
            return False
        return self._builder.overlay.get(DEDUP, asked_key(command.workflow_id)) is not None

    def _note_return(self, batch: Batch, command: Command, hop: Hop | None, wire: Wire) -> None:
        if hop is None or hop.asker != self._ground.number or isinstance(command.body, QueryWorkflow):
            return
        row: AskedRow | None = self._builder.overlay.get(DEDUP, asked_key(command.workflow_id))
        if row is not None and row.offset == hop.asked:
            returned = CommandReturned(command.id, hop.asked)
            self._builder.take(batch, [Draft(command.workflow_id, "", returned, _cause(command, wire))])

    def _forward(self, batch: Batch, command: Command, wire: Wire, to: int, hop: Hop) -> None:
        if isinstance(command.body, QueryWorkflow):
            # A question leaves no event; its asker asks again if it is lost.
            headers = (
                (HOP_HEADER, hop.encode().encode()),
                *(one for one in wire.headers if one[0] == SIGNATURE_HEADER),
            )
            out = Out(wire.topic, to, wire.key, wire.value, headers)
            self._ground.log.outgoing().send(out, lambda problem: None)
            return
        asked = hop.asked if hop.asker == self._ground.number and hop.asked == wire.offset else -1
        forwarded = CommandForwarded(command.id, to, wire.key, wire.value, hop.encode(), asked, signed_of(wire))
        self._builder.take(batch, [Draft(command.workflow_id, "", forwarded, _cause(command, wire))])

    # -- epochs ------------------------------------------------------------------------------------------------------

    def _learn(self, batch: Batch, hop: Hop, wire: Wire) -> None:
        """A sender that knows of a later epoch tells it: else two partitions would send a command to and fro."""
        known = self.epochs
        if len(hop.epochs) <= len(known) or not follows(known, hop.epochs):
            return
        if hop.epochs[-1] > self._ground.log.topic_ids().partitions:
            log.warning("%s: a forward names %d partitions, which are not there", self._ground.where, hop.epochs[-1])
            return
        changed = RoutingChanged(hop.epochs[-1], hop.epochs, Actor("engine"), GOSSIP)
        self._builder.take(batch, [Draft("", "", changed, Cause("", wire.topic, wire.partition, wire.offset))])
        self.note()

    def partitions_now(self, command: Command) -> int:
        """What a change of routing is decided by: how many partitions the topics have; 0 for every other command."""
        return self._ground.log.topic_ids().partitions if isinstance(command.body, ChangeRouting) else 0


def _hop_of(wire: Wire) -> Hop | None:
    for name, value in wire.headers:
        if name == HOP_HEADER:
            return parse_hop(value.decode("ascii", errors="replace"))
    return None


def _cause(command: Command, wire: Wire) -> Cause:
    return Cause(command.id, wire.topic, wire.partition, wire.offset)
