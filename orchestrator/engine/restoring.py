"""A state that the log alone cannot give, or not soon: the newest checkpoint takes the place of an empty directory.

Only a checkpoint of this very log is used: the same topic, at a footer that the log still has, which `Restored`
compares before it folds on. An empty directory is filled once: killed meanwhile, the next start goes on with what was
fetched.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING

from ..core.rows import META, POSITION_KEY, PositionRow
from ..errors import CheckpointRefused, CheckpointsUnavailable, LogReplaced, StoreError
from ..store.checkpoint import Found
from ..store.manifest import Head, Identity, Manifest
from .options import CheckpointOptions

if TYPE_CHECKING:
    from .restored import Restored

log = logging.getLogger(__name__)


def state_or_checkpoint(ground: Restored, bounds: tuple[int, int]) -> PositionRow | None:
    """What the state reflects; the newest usable checkpoint's, now restored, if there is none on the log with `bounds`.

    Raises LogReplaced when the log ends before a checkpoint, or its start is gone and there is nothing to go on from;
    StoreError when the disk is full, or the log's start is gone and checkpoints cannot be read now.
    """
    options, start = ground.options.checkpoints, bounds[0]
    position = ground.position()
    if position is not None and position.next_offset > start:
        return position
    missing = "none are kept (ORCHESTRATOR_CHECKPOINT_URL)"
    try:
        if options is not None:
            missing = _newest(ground, options, options.checkpoints.found(ground.number), bounds)
    except CheckpointsUnavailable as error:
        if start > 0:
            raise StoreError(f"{ground.where}: the log starts at offset {start}, and {error}") from error
        log.warning("%s: %s; folding the log from its start", ground.where, error)
    if missing and start > 0 and position is None:
        raise LogReplaced(
            f"{ground.where}: the log starts at offset {start} and there is no state below it, an engine never starts"
            f" empty. Its checkpoints: {missing}"
        )
    return ground.position()


def _newest(ground: Restored, options: CheckpointOptions, found: list[Found], bounds: tuple[int, int]) -> str:
    """Restore the first that is usable; why there is none, or ""."""
    refused = []
    for one in found:
        try:
            if one.manifest is None:
                raise CheckpointRefused(one.problem)
            _check(ground, one.manifest.head, bounds)
            _restore(ground, options, one.manifest)
        except CheckpointRefused as error:
            log.warning("%s: %s", ground.where, error)
            refused.append(str(error))
        else:
            return ""
    return "; ".join(refused) or f"{options.checkpoints.place.where} has none"


def _check(ground: Restored, head: Head, bounds: tuple[int, int]) -> None:
    """Raises CheckpointRefused for one that is not of this log, LogReplaced when the log ends before it."""
    assert ground.ids is not None
    ids, identity = ground.ids, head.identity
    where = f"the checkpoint at offset {head.offset}"
    if identity != Identity(ground.log.app, ground.number, ids.cluster_id, ids.events):
        raise CheckpointRefused(
            f"{where} is of {identity.app}.events/{identity.partition}, topic {identity.topic_id} of cluster"
            f" {identity.cluster_id}, and the topic is {ids.events} of {ids.cluster_id}"
        )
    start, end = bounds
    if head.offset < start:
        raise CheckpointRefused(f"{where} ends before the log, which starts at {start}")
    if head.offset >= end:
        raise LogReplaced(
            f"{ground.where}: the log was cut: {where} was taken, and the log ends at {end}."
            f" See `orchestrator partition repair {ground.number}`."
        )


def _restore(ground: Restored, options: CheckpointOptions, manifest: Manifest) -> None:
    """Raises CheckpointRefused, CheckpointsUnavailable, StoreError."""
    began = time.monotonic()
    staging = options.scratch / f"{ground.number}.restoring"
    target = options.scratch / f"{ground.number}.restored"
    options.checkpoints.fetch(manifest, staging, target)
    ground.store.replace(target)
    shutil.rmtree(staging, ignore_errors=True)
    position: PositionRow | None = ground.store.get(META, POSITION_KEY)
    head = manifest.head
    if position is None or (position.next_offset - 1, position.footer_hash) != (head.offset, head.footer_hash):
        why = f"the checkpoint at offset {head.offset} holds another state than its manifest says"
        ground.store.set_aside(f"{ground.where}: {why}")
        raise CheckpointRefused(why)
    log.info(
        "%s: checkpoint at offset %d restored: %d bytes in %.2f s",
        ground.where,
        head.offset,
        manifest.size,
        time.monotonic() - began,
    )
