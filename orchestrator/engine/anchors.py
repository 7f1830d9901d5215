"""Signed heads: what this engine saw proven, told to `<app>.anchors` and to a write-once directory.

A thread of its own signs and sends. A partition only notes its newest proven footer here, so that neither a slow disk
nor a lost topic can hold it up; what goes wrong is a warning and a word in the health.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Protocol

from ..codec.records import Codec
from ..core.rows import PositionRow
from ..core.tasks import Anchor
from ..core.values import BatchId
from ..log.ports import Log, Out, TopicIds
from .clock import Clock
from .options import AnchorOptions

log = logging.getLogger(__name__)

LOOK_S = 1.0
OFF = "off"


class Anchors(Protocol):
    """What a partition tells of its heads."""

    def owned(self, partition: int, ids: TopicIds, position: PositionRow | None) -> None:
        """A claim came back: heads of this partition are of these topics, and this is the newest footer before it."""

    def proven(self, partition: int, position: PositionRow) -> None:
        """A footer was read back and is state. Never waits."""


class NoAnchors:
    """No key: nothing is signed, and an audit says \"prefix only\"."""

    def owned(self, partition: int, ids: TopicIds, position: PositionRow | None) -> None:
        """Nothing."""

    def proven(self, partition: int, position: PositionRow) -> None:
        """Nothing."""


class _Head:
    """One partition's newest proven footer, and how far it was signed."""

    def __init__(self, ids: TopicIds, now: float) -> None:
        self.ids = ids
        self.position: PositionRow | None = None
        self.batches = 0
        self.signed = BatchId(0, 0)
        self.tried_at = now
        self.under_way = False


class AnchorWriter:
    """Signs a partition's head every `every_s`, or every `every_batches`, and a last time at the end."""

    def __init__(self, log_: Log, codec: Codec, clock: Clock, options: AnchorOptions) -> None:
        self.problem = ""
        """Why heads do not reach the topic or the directory now; empty while they do."""
        self._log = log_
        self._codec = codec
        self._clock = clock
        self._options = options
        self._heads: dict[int, _Head] = {}
        self._troubles: dict[str, str] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="anchors", daemon=True)

    def start(self) -> None:
        """Begin signing."""
        self._thread.start()

    def stop(self) -> None:
        """Sign what is not signed yet and end; the log's producer is still open."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    # -- from the partitions' threads --------------------------------------------------------------------------------

    def owned(self, partition: int, ids: TopicIds, position: PositionRow | None) -> None:
        with self._changed:
            head = self._heads.get(partition)
            if head is None or head.ids != ids:
                head = self._heads[partition] = _Head(ids, self._clock.monotonic())
            head.position = position

    def proven(self, partition: int, position: PositionRow) -> None:
        head = self._heads.get(partition)
        if head is None:
            return
        head.position = position
        head.batches += 1
        if head.batches == self._options.every_batches:
            with self._changed:
                self._changed.notify()

    # -- our own thread ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._changed:
                if not self._stopped:
                    self._changed.wait(min(LOOK_S, self._options.every_s))
                ending = self._stopped
                heads = list(self._heads.items())
            for partition, head in heads:
                try:
                    self._look(partition, head, ending)
                except Exception as error:
                    # Whatever it is, the partitions go on: an anchor that is missing is told, not raised.
                    self._trouble("anchors", f"{type(error).__name__}: {error}")
            if ending:
                return

    def _look(self, partition: int, head: _Head, ending: bool) -> None:
        position = head.position
        waited = self._clock.monotonic() - head.tried_at
        if head.under_way and not ending:
            if waited > 2 * self._options.every_s:
                self._trouble(self._topic, f"{self._topic}: not acknowledged for {waited:.0f} s")
            return
        due = ending or waited >= self._options.every_s or head.batches >= self._options.every_batches
        if position is None or position.batch <= head.signed or not due:
            return
        head.tried_at = self._clock.monotonic()
        head.batches = 0
        self._sign(partition, head, position)

    @property
    def _topic(self) -> str:
        return f"{self._log.app}.anchors"

    def _sign(self, partition: int, head: _Head, position: PositionRow) -> None:
        unsigned = Anchor(
            cluster_id=head.ids.cluster_id,
            topic_id=head.ids.events,
            partition=partition,
            offset=position.next_offset - 1,
            claim_no=position.batch.claim_no,
            batch_no=position.batch.batch_no,
            footer_hash=position.footer_hash,
            time_ms=self._clock.wall_ms(),
        )
        value = self._codec.encode(self._options.signer.sign(unsigned))
        head.under_way = True

        def done(problem: str) -> None:
            head.under_way = False
            if not problem:
                head.signed = max(head.signed, position.batch)
            self._trouble(self._topic, problem and f"{self._topic}: {problem}")

        self._log.outgoing().send(Out(self._topic, 0, str(partition).encode(), value), done)
        if self._options.directory is not None:
            self._keep(self._options.directory, partition, position.batch, value)

    def _keep(self, directory: Path, partition: int, batch: BatchId, value: bytes) -> None:
        """A file a head, never opened again: the directory may be write-once storage."""
        place = directory / self._log.app / str(partition) / f"{batch.claim_no:010d}-{batch.batch_no:010d}.anchor"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
            with os.fdopen(handle, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            # The same head, kept before a send that failed.
            pass
        except OSError as error:
            self._trouble("directory", f"{place}: {error.strerror}")
            return
        self._trouble("directory", "")

    def _trouble(self, what: str, problem: str) -> None:
        """Note, or clear, what is wrong with one of the places; said once when it changes."""
        before = self._troubles.get(what, "")
        if problem:
            self._troubles[what] = problem
        else:
            self._troubles.pop(what, None)
        self.problem = "; ".join(self._troubles.values())
        if bool(problem) != bool(before):
            if problem:
                log.warning("heads are not witnessed: %s; the partitions go on", problem)
            else:
                log.info("heads are witnessed again")
