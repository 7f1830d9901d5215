"""Whether what was restored can be gone on with: the log whole and uncut, the topics the same. If not, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.levels import beyond, in_force
from ..core.replay import Batch
from ..core.rows import ClaimRow, PositionRow
from ..core.witness import Note
from ..errors import LogGap, LogReplaced, OrchestratorError
from ..log.ports import TopicIds
from .sabotage import sabotaged


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
