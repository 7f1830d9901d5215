"""Checkpoints of owned partitions, taken while they work.

RocksDB holds what was read back and nothing else, so that its state is at a footer whenever the partition's thread is
between two writes. That thread asks for a flush, goes on, and later makes a copy of links, which takes milliseconds;
hashing and uploading are done by a thread of their own, one partition at a time. What goes wrong there is a warning and
a word in the health: no partition waits for it.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import shutil
import threading
from pathlib import Path
from typing import NamedTuple, Protocol

from ..core.rows import META, POSITION_KEY, PositionRow
from ..errors import StoreError
from ..log.ports import TopicIds
from ..store.checkpoint import Abandoned
from ..store.manifest import Head, Identity
from ..store.rows import Store
from .clock import Clock
from .options import CheckpointOptions

log = logging.getLogger(__name__)

STOP_S = 10.0
COPY = ".checkpoint-"
LEFT = (".restoring", ".restored")
"""How names end beside the state directories: copies that are uploaded, and parts of a restore."""


class Takes(Protocol):
    """What a partition's thread tells of its state."""

    def owned(self, partition: int, ids: TopicIds, store: Store) -> None:
        """A claim came back: this is the state of a partition of these topics."""

    def look(self, partition: int) -> None:
        """Nothing is being written to the partition's store: take a step towards a checkpoint if one is due."""

    def released(self, partition: int) -> None:
        """The store is about to be closed."""


class NoCheckpoints:
    """None are wanted."""

    def owned(self, partition: int, ids: TopicIds, store: Store) -> None:
        """Nothing."""

    def look(self, partition: int) -> None:
        """Nothing."""

    def released(self, partition: int) -> None:
        """Nothing."""


class _Subject:
    """One partition, as its own thread sees it. `under_way`: a copy of it waits for the upload, or is uploaded."""

    def __init__(self, identity: Identity, store: Store, now: float, reached: int) -> None:
        self.identity = identity
        self.store = store
        self.flushing = False
        self.under_way = False
        self.look_at = now
        self.due_at = now
        self.reached = reached
        """The next offset of the last checkpoint, or of where the claim found the state."""


class _Copy(NamedTuple):
    subject: _Subject
    head: Head
    directory: Path


class CheckpointTaker:
    """A process's checkpoints. `owned`, `look` and `released` are called by the partitions' threads."""

    def __init__(self, app: str, clock: Clock, options: CheckpointOptions) -> None:
        self.problem = ""
        """Why the last checkpoint was not taken; empty if it was."""
        self._app = app
        self._clock = clock
        self._options = options
        self._subjects: dict[int, _Subject] = {}
        self._live: set[Path] = set()
        self._number = itertools.count()
        self._copies: queue.SimpleQueue[_Copy | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Begin uploading what is copied."""
        self._thread.start()

    def stop(self) -> None:
        """End; an upload that is under way is given up after the file at hand, and its files are used again."""
        self._stopping.set()
        self._copies.put(None)
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    # -- from the partitions' threads --------------------------------------------------------------------------------

    def owned(self, partition: int, ids: TopicIds, store: Store) -> None:
        now = self._clock.monotonic()
        identity = Identity(self._app, partition, ids.cluster_id, ids.events)
        position: PositionRow | None = store.get(META, POSITION_KEY)
        subject = self._subjects.get(partition)
        if subject is None or subject.identity != identity or subject.store is not store:
            subject = _Subject(identity, store, now, position.next_offset if position else 0)
            subject.due_at += self._options.every_s
            self._subjects[partition] = subject
            self._clear(partition)
        subject.flushing = False

    def look(self, partition: int) -> None:
        subject = self._subjects.get(partition)
        now = self._clock.monotonic()
        if subject is None or subject.under_way or (now < subject.look_at and not subject.flushing):
            return
        subject.look_at = now + self._options.look_s
        position: PositionRow | None = subject.store.get(META, POSITION_KEY)
        if position is None:
            return
        try:
            self._step(subject, position, now)
        except StoreError as error:
            self._trouble(partition, str(error))

    def _step(self, subject: _Subject, position: PositionRow, now: float) -> None:
        if not subject.flushing:
            events = position.next_offset - subject.reached
            if events >= self._options.every_events or (events > 0 and now >= subject.due_at):
                subject.flushing = True
                subject.store.flush()
        elif subject.store.flushed():
            subject.flushing = False
            subject.due_at = now + self._options.every_s
            self._copy(subject, position)

    def released(self, partition: int) -> None:
        self._subjects.pop(partition, None)

    def _clear(self, partition: int) -> None:
        """Remove what a process that was killed left of copies and restores of a partition that is ours now."""
        for left in self._options.scratch.glob(f"{partition}.*"):
            if left.suffix in LEFT or (left.suffix.startswith(COPY) and left not in self._live):
                shutil.rmtree(left, ignore_errors=True)

    def _copy(self, subject: _Subject, position: PositionRow) -> None:
        """Milliseconds, with the partition's thread standing still: links, and what was written since the flush."""
        directory = self._options.scratch / f"{subject.identity.partition}{COPY}{os.getpid()}-{next(self._number)}"
        head = Head(
            subject.identity,
            position.next_offset - 1,
            position.footer_hash,
            position.batch,
            self._clock.wall_ms(),
            position.level,
        )
        began = self._clock.monotonic()
        subject.store.snapshot(directory)
        log.debug("partition %d: copied in %.1f ms", head.identity.partition, (self._clock.monotonic() - began) * 1000)
        self._live.add(directory)
        subject.under_way = True
        self._copies.put(_Copy(subject, head, directory))

    # -- our own thread ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (copy := self._copies.get()) is not None and not self._stopping.is_set():
            partition = copy.head.identity.partition
            try:
                self._upload(copy)
                self._trouble(partition, "")
            except Abandoned as error:
                log.info("partition %d: %s", partition, error)
            except Exception as error:
                # Whatever it is, the partitions go on: a checkpoint that is missing is told, not raised.
                self._trouble(partition, f"{type(error).__name__}: {error}")
            finally:
                shutil.rmtree(copy.directory, ignore_errors=True)
                self._live.discard(copy.directory)
                copy.subject.under_way = False

    def _upload(self, copy: _Copy) -> None:
        began = self._clock.monotonic()
        written = self._options.checkpoints.write(copy.head, copy.directory, self._stopping.is_set)
        copy.subject.reached = copy.head.offset + 1
        log.info(
            "partition %d: checkpoint at offset %d: %d of %d files new, %d bytes, in %.2f s",
            copy.head.identity.partition,
            copy.head.offset,
            written.uploaded,
            written.files,
            written.uploaded_bytes,
            self._clock.monotonic() - began,
        )

    def _trouble(self, partition: int, problem: str) -> None:
        """Note, or clear, what is wrong; said once when it changes."""
        before, self.problem = self.problem, problem
        if problem and not before:
            log.warning("partition %d: no checkpoint: %s; the partitions go on", partition, problem)
        elif before and not problem:
            log.info("checkpoints are taken again")
