"""What leaves without a row: answers to queries and duplicates, repeated offers.

A lost one is asked for, or made, again.
"""

from __future__ import annotations

from ..codec.records import Codec
from ..core import machine
from ..core.tasks import Reply, TaskOffer
from ..core.values import ReplyTo
from ..log.ports import Log, Out
from ..store.blobs import Blobs
from ..store.large import carried
from .batch import Batch
from .options import CARRIED_BYTES


class Answers:
    """One partition's direct sends. `late` waits until nothing is unproven."""

    def __init__(self, log_: Log, codec: Codec, blobs: Blobs | None = None) -> None:
        self.late: list[tuple[ReplyTo, Reply]] = []
        self._log = log_
        self._codec = codec
        self._blobs = blobs

    def send(self, reply_to: ReplyTo, reply: Reply) -> None:
        """Answer now."""
        value = self._codec.encode(carried(reply, self._blobs, CARRIED_BYTES))
        out = Out(reply_to.topic, reply_to.partition, reply.command_id.encode(), value)
        self._log.outgoing().send(out, _ignore)

    def flush(self) -> None:
        """What the late answers speak of is proven."""
        for reply_to, reply in self.late:
            self.send(reply_to, reply)
        self.late.clear()

    def early(self, batch: Batch) -> None:
        """Sabotage only (`reply_before_commit`)."""
        for record in batch.records:
            cause = record.event.cause
            if cause.answers and cause.reply_to is not None:
                self.send(cause.reply_to, machine.answer_of(record.event))

    def offer(self, queue: str, offer: TaskOffer) -> None:
        """Offer a step to the workers of a queue once more, unrecorded."""
        value = self._codec.encode(carried(offer, self._blobs, CARRIED_BYTES))
        out = Out(f"{self._log.app}.tasks.{queue}", -1, offer.workflow_id.encode(), value)
        self._log.outgoing().send(out, _ignore)


def _ignore(problem: str) -> None:
    """An answer that cannot be sent: its asker asks again."""
