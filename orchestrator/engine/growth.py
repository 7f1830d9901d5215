"""Which partition count an owner goes by: the log's own, never what the topics happen to have."""

from __future__ import annotations

import logging

from ..codec.records import Codec
from ..core.decide.decision import View
from ..core.events import PartitionClaimed
from ..core.rows import META, ROUTING_KEY, RoutingRow
from ..errors import ConfigurationError, UndecodableRecord
from ..log.ports import Log, TopicIds

log = logging.getLogger(__name__)


def count_to_claim(view: View, log_: Log, codec: Codec, ids: TopicIds) -> int:
    """The partition count that a claim names: as recorded in this log; the topics' in an application's first claims.

    A partition that holds nothing while the others began with another count was added behind our back, or its growth
    was not finished: raises ConfigurationError. A recorded count that the topics outgrew is kept, and told.
    """
    row: RoutingRow | None = view.get(META, ROUTING_KEY)
    if row is not None:
        if row.epochs[-1] != ids.partitions:
            log.error("%s", outgrown(log_.app, row.epochs[-1], ids.partitions))
        return row.epochs[-1]
    body = _first(log_, codec)
    if isinstance(body, PartitionClaimed) and body.partitions != ids.partitions:
        raise ConfigurationError(outgrown(log_.app, body.partitions, ids.partitions))
    return ids.partitions


def _first(log_: Log, codec: Codec) -> object:
    first = log_.first_event()
    try:
        return codec.decode_event(first.key, first.value).event.body if first is not None else None
    except UndecodableRecord:
        # Its own partition parks for that; it says nothing of the count.
        return None


def outgrown(app: str, recorded: int, found: int) -> str:
    """What to say of a count that changed behind our back."""
    return (
        f"{app}.commands has {found} partitions, the log was written for {recorded}: commands go on being routed by"
        f" {recorded}, and new partitions are refused, until the growth is recorded: orchestrator topics grow {found}"
    )
