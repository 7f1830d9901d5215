"""The partition's own records: claims, footers, rejections, dead letters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from ..commands import ReportChild
from ..events import (
    BatchFooter,
    CommandAccepted,
    CommandForwarded,
    CommandRejected,
    CommandReturned,
    DeadLettered,
    InputLost,
    LevelChanged,
    LogAccepted,
    PartitionClaimed,
    PartitionReleased,
    RoutingChanged,
    RunPurged,
    SendFailed,
    TopicsAdopted,
    TurnAttempted,
)
from ..ids import looks_sent, sent_command_id
from ..invariants import CLOSED
from ..rows import (
    CLAIM_KEY,
    DEDUP,
    HISTORY,
    INDEX,
    META,
    OUTBOX,
    POSITION_KEY,
    ROUTING_KEY,
    RUNS,
    AskedRow,
    ClaimRow,
    CurrentRow,
    DedupRow,
    ExpiryRow,
    Key,
    PositionRow,
    RoutingRow,
    RunRow,
    asked_key,
    current_key,
    dedup_key,
    expiry_key,
    index_key,
    outbox_key,
    run_key,
)
from ..tasks import DeadLetter, Forward
from ..values import BatchId, Failure
from . import update
from .fold import Fold

EXPIRED_PER_FOOTER = 2_000
LAST_INDEX = 2**63 - 1


def partition_claimed(fold: Fold, body: PartitionClaimed) -> None:
    # Whether a claim came to anything is not known here: every lane that was ever named stays to be fenced.
    before = fold.state.get(META, CLAIM_KEY)
    lanes = tuple(sorted({*body.lanes, *(before.lanes if before else ())}))
    row = ClaimRow(
        fold.event.claim_no,
        body.nonce,
        body.instance,
        body.host,
        lanes,
        released=False,
        partitions=body.partitions,
        accepts_from=body.accepts_from,
        generation=max(body.generation, before.generation if before else 0),
    )
    fold.state.put(META, CLAIM_KEY, row)
    if fold.state.get(META, ROUTING_KEY) is None:
        fold.state.put(META, ROUTING_KEY, RoutingRow((body.partitions,)))


def partition_released(fold: Fold, body: PartitionReleased) -> None:
    fold.state.put(META, CLAIM_KEY, fold.state.get(META, CLAIM_KEY)._replace(released=True))


def recorded(
    fold: Fold, body: CommandAccepted | InputLost | LevelChanged | LogAccepted | SendFailed | TopicsAdopted
) -> None:
    """Nothing but the record itself; an answer, if one is due, is stored for every event alike."""


def command_rejected(fold: Fold, body: CommandRejected) -> None:
    """A refused child start is its parent's to know."""
    if body.parent is None:
        return
    event, command_id = fold.event, ""
    if not event.cause.answers:
        # Its command had its answer before; what is said of it now is no duplicate of what was said then.
        again = f"{event.cause.command_id}/{event.claim_no}/{event.batch_no}"
        command_id = sent_command_id(event.workflow_id, again, event.batch_index, 0)
    failure = Failure(body.code, body.message, retryable=False)
    report = ReportChild(body.parent.run_id, body.parent.step, "", "rejected", failure=failure)
    fold.send_command(body.parent.workflow_id, report, command_id=command_id)


def turn_attempted(fold: Fold, body: TurnAttempted) -> None:
    event = fold.event
    key = run_key(event.workflow_id, event.run_id)
    run: RunRow = fold.state.get(RUNS, key)
    fold.state.put(RUNS, key, run._replace(attempts=body.attempt, turn=max(run.turn, body.seen)))


def dead_lettered(fold: Fold, body: DeadLettered) -> None:
    letter = DeadLetter(body.topic, body.partition, body.offset, body.reason, body.key, body.value)
    fold.send("dead-letters", f"{body.topic}/{body.partition}/{body.offset}", letter)


def command_forwarded(fold: Fold, body: CommandForwarded) -> None:
    forward = Forward(body.value, body.hop, body.signed)
    fold.send("commands", body.key.decode(errors="replace"), forward, partition=body.to_partition)
    if body.asked < 0:
        return
    event = fold.event
    key = asked_key(event.workflow_id)
    before: AskedRow | None = fold.state.get(DEDUP, key)
    expires = before.expires_at_ms if before else event.recorded_at_ms + fold.settings.dedup_horizon_ms
    fold.state.put(DEDUP, key, AskedRow(body.asked, expires))
    fold.state.put(DEDUP, expiry_key(expires, event.workflow_id, ""), ExpiryRow(""))


def command_returned(fold: Fold, body: CommandReturned) -> None:
    event = fold.event
    row: AskedRow | None = fold.state.get(DEDUP, asked_key(event.workflow_id))
    if row is not None:
        fold.state.put(DEDUP, asked_key(event.workflow_id), None)
        fold.state.put(DEDUP, expiry_key(row.expires_at_ms, event.workflow_id, ""), None)


def routing_changed(fold: Fold, body: RoutingChanged) -> None:
    claim = fold.state.get(META, CLAIM_KEY)
    fold.state.put(META, CLAIM_KEY, claim._replace(partitions=body.partitions))
    fold.state.put(META, ROUTING_KEY, RoutingRow(body.epochs))


def run_purged(fold: Fold, body: RunPurged) -> None:
    """A closed run leaves the state: head, history, index; the log keeps all of it."""
    event = fold.event
    key = run_key(event.workflow_id, event.run_id)
    run: RunRow | None = fold.state.get(RUNS, key)
    fold.clear_timer("purge|")
    update.forget_all(fold)
    for history, _ in list(fold.state.scan(HISTORY, key)):
        fold.state.put(HISTORY, history, None)
    fold.state.put(RUNS, key, None)
    if run is not None:
        fold.state.put(INDEX, index_key(run.status, run.started_at_ms, event.workflow_id, event.run_id), None)
    current: CurrentRow | None = fold.state.get(RUNS, current_key(event.workflow_id))
    if current is not None and current.run_id == event.run_id:
        fold.state.put(RUNS, current_key(event.workflow_id), None)


def batch_footer(fold: Fold, body: BatchFooter, footer_hash: bytes, next_offset: int) -> None:
    """The position moves; what the outbox sent and what deduplication need no longer remember goes."""
    event = fold.event
    before: PositionRow | None = fold.state.get(META, POSITION_KEY)
    row = PositionRow(
        next_offset,
        BatchId(event.claim_no, event.batch_no),
        footer_hash,
        body.position,
        body.now_ms,
        body.outbox_upto,
        body.level,
    )
    fold.state.put(META, POSITION_KEY, row)
    if before is None or body.outbox_upto > before.outbox_upto:
        _forget_sent(fold, before.outbox_upto if before else BatchId(0, 0), body.outbox_upto)
    # Once a second of the log's clock: the scan would otherwise cost every batch.
    if before is None or body.now_ms // 1_000 > before.now_ms // 1_000:
        _forget_expired(fold, body.now_ms)


def _forget_sent(fold: Fold, after: BatchId, upto: BatchId) -> None:
    # What lies up to `after` went with an earlier footer: to begin below it would be to walk over every tombstone.
    gone = outbox_key(after.claim_no, after.batch_no, LAST_INDEX, 0)
    for key, _ in list(_while(fold, OUTBOX, (), lambda key: (key[0], key[1]) <= upto, gone)):
        fold.state.put(OUTBOX, key, None)


def _forget_expired(fold: Fold, now_ms: int) -> None:
    due = _while(fold, DEDUP, (1,), lambda key: int(key[1]) <= now_ms)
    for key, row in list(itertools.islice(due, EXPIRED_PER_FOOTER)):
        fold.state.put(DEDUP, key, None)
        workflow_id = str(key[2])
        if looks_sent(row.command_id) and _may_come_again(fold, workflow_id, row.command_id):
            later = now_ms + fold.settings.dedup_horizon_ms
            fold.state.put(DEDUP, expiry_key(later, workflow_id, row.command_id), row)
            continue
        gone = dedup_key(workflow_id, row.command_id) if row.command_id else asked_key(workflow_id)
        fold.state.put(DEDUP, gone, None)


def _may_come_again(fold: Fold, workflow_id: str, command_id: str) -> bool:
    """Whether what an engine sent could still be taken twice: by the run that took it, or by the one after it.

    A partition may stand still for longer than any horizon between its outbox and the footer that says so; its next
    owner sends all of that again. Bounded by the run's row, so that a workflow that continues as new for ever, or an
    entity that is always called, does not keep every answer that it ever gave.
    """
    kept: DedupRow | None = fold.state.get(DEDUP, dedup_key(workflow_id, command_id))
    run: RunRow | None = fold.state.get(RUNS, run_key(workflow_id, kept.reply.run_id)) if kept is not None else None
    if run is None or run.status not in CLOSED:
        return run is not None
    current: CurrentRow | None = fold.state.get(RUNS, current_key(workflow_id))
    newest: RunRow | None = fold.state.get(RUNS, run_key(workflow_id, current.run_id)) if current is not None else None
    return newest is not None and newest.status not in CLOSED


def _while(
    fold: Fold, family: str, prefix: Key, holds: Callable[[Key], bool], after: Key | None = None
) -> Iterator[tuple[Key, Any]]:
    return itertools.takewhile(lambda item: holds(item[0]), fold.state.scan(family, prefix, after))
