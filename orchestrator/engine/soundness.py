"""Whether what was restored can be gone on with: the log whole and uncut, the topics the same. If not, what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..codec.records import CLAIM_KEY, Codec
from ..core.events import PartitionClaimed
from ..core.levels import beyond, in_force
from ..core.replay import Batch
from ..core.rows import ClaimRow, PositionRow
from ..core.witness import Note
from ..errors import LogGap, LogReplaced, OrchestratorError, UndecodableRecord
from ..log.ports import TopicIds, Wire
from .sabotage import sabotaged

FORMAT = 1
"""Of the rows in a state directory: raised when they mean something else, so that the log is folded anew."""


class ClaimLost(OrchestratorError):
    """Another owner claimed the partition: this one stops, it never fences back."""


class HangingTransaction(OrchestratorError):
    """The events log does not go on: an open transaction of another owner hides what follows."""


@dataclass
class Repair:
    """A person accepts the log as it is.

    `above`: claims go on above this number, which was given before the log was cut. `rewritten`: a footer that differs
    from what was noted, if one was met.
    """

    above: int = 0
    rewritten: str = ""


def check_generation(where: str, before: ClaimRow, generation: int) -> None:
    """Nobody claims by an older static map than was claimed by before; 0 is no map. Raises ClaimLost."""
    if 0 < generation < before.generation:
        raise ClaimLost(
            f"{where}: it was claimed by generation {before.generation} of the static map, and this engine has"
            f" generation {generation}: give it the newer map (ORCHESTRATOR_ASSIGNMENT, ORCHESTRATOR_GENERATION)"
        )


def check_not_claimed(where: str, before: ClaimRow, claim_no: int) -> None:
    """Nobody but a group can say that a partition is still ours: another's newer claim wins. Raises ClaimLost."""
    if 0 < claim_no < before.claim_no and not before.released:
        raise ClaimLost(
            f"{where}: claimed by {before.instance} (claim {before.claim_no}), after claim {claim_no} of this engine;"
            " this engine stops working on it"
        )


def check_level(where: str, position: PositionRow | None) -> None:
    """A state that a newer release folded is not this one's to read. Raises LogGap."""
    if problem := beyond(in_force(position)):
        raise LogGap(f"{where}: the state: {problem}")


def check_bounds(where: str, number: int, at: int, log: tuple[int, int]) -> None:
    """The log still has the footer that the state reflects, at offset `at` (-1: no state). Raises LogReplaced."""
    start, end = log
    if at >= 0 and not start <= at < end and not sabotaged("store_trusted"):
        raise LogReplaced(
            f"{where}: state reflects offset {at}, the log has {start}..{end}: it was cut or replaced."
            f" See `orchestrator partition repair {number}`."
        )


def check_whole(app: str, number: int, gap: LogGap | None, claim: ClaimRow | None) -> None:
    """No gap, and no repair that was begun and not finished. Raises LogGap."""
    if gap is not None:
        raise LogGap(f"{gap}. See `orchestrator partition repair {number}`.")
    if claim is not None and claim.accepts_from >= 0 and not claim.released:
        raise LogGap(
            f"{app}.events/{number}: a repair was begun and not finished: orchestrator partition repair {number} --yes"
        )


def check_input(app: str, position: PositionRow | None, ids: TopicIds) -> None:
    """Commands are read from the topic that the last footer's position is of. Raises LogReplaced."""
    if position is None:
        return
    known = position.position
    if (known.cluster_id, known.topic_id) != (ids.cluster_id, ids.commands):
        raise LogReplaced(
            f"{app}.commands: commands were read from topic {known.topic_id} of cluster {known.cluster_id}, it is now"
            f" {ids.commands} of {ids.cluster_id}. Moved, mirrored, or lost: orchestrator topics adopt"
        )


def cut_off(where: str, noted: Note | None, position: PositionRow | None) -> str:
    """What to say when the log, as restored, ends before what a group offset noted; "" when it does not."""
    if noted is None or (position is not None and position.batch >= noted.batch):
        return ""
    return (
        f"{where}: the log was cut: footer {noted.batch.claim_no}/{noted.batch.batch_no} was proven, as the group"
        " offset notes, and the log ends before it."
    )


def rewritten(where: str, offset: int, noted: Note | None, batch: Batch) -> str:
    """What to say when this is the footer that a group offset noted, with another hash; "" when it is not."""
    event = batch.footer.event
    if noted is None or noted.batch != (event.claim_no, event.batch_no) or noted.footer_hash == batch.footer.hash:
        return ""
    return f"{where} offset {offset}: not the footer that a group offset noted: the log was rewritten."


def claimed_by(codec: Codec, wire: Wire) -> str:
    """Whose claim a foreign record is; "" if it is none, or cannot be read."""
    if wire.key != CLAIM_KEY:
        return ""
    try:
        event = codec.decode_event(wire.key, wire.value).event
    except UndecodableRecord:
        return ""
    instance = getattr(event.body, "instance", "") if isinstance(event.body, PartitionClaimed) else ""
    return instance and f"{instance} (claim {event.claim_no}, offset {wire.offset})"


def not_mine(where: str, found: dict[str, Any], app: str, number: int) -> str:
    """Why a directory is another partition's, or another release's; "" if it is neither."""
    if (found["app"], found["partition"]) != (app, number):
        return f"{where}: the directory holds {found['app']}/{found['partition']}"
    if found.get("format", FORMAT) != FORMAT:
        return f"{where}: the directory is of format {found['format']}, this release's is {FORMAT}"
    return ""


def identity(app: str, number: int, ids: TopicIds) -> bytes:
    """What a directory notes of whose it is."""
    mine = {"app": app, "partition": number, "cluster": ids.cluster_id, "events": ids.events, "format": FORMAT}
    return json.dumps(mine).encode()


def other_log(where: str, number: int, found: dict[str, Any], ids: TopicIds) -> str:
    """What to say when a directory was folded from another topic than the one that is there now."""
    return (
        f"{where}: this state was folded from topic {found['events']} of cluster {found['cluster']},"
        f" the topic is now {ids.events} of {ids.cluster_id}. The same log, moved or mirrored:"
        f" orchestrator topics adopt. Another one: orchestrator partition repair {number}"
    )
