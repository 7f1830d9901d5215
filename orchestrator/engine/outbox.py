"""The outbox of one partition.

Proven rows go out in order; `upto` is the last batch whose every row was acknowledged or failed.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from ..codec.records import Codec
from ..codec.signatures import CommandSigner, Headers
from ..core.commands import Command
from ..core.routing import HOP_HEADER
from ..core.rows import Key, OutboxRow
from ..core.signatures import SIGNATURE_HEADER
from ..core.tasks import Forward, TaskOffer
from ..core.values import BatchId
from ..log.ports import Log, Out
from ..store.blobs import Blobs
from ..store.large import carried
from .inbox import Inbox
from .options import CARRIED_BYTES

_numbers = itertools.count()
"""Of rows that were sent, in this process: what an owner before sent is acknowledged into the same inbox."""


class Unsent(NamedTuple):
    """A row that can never be sent, and why."""

    key: Key
    row: OutboxRow
    reason: str


class Outbox:
    """Sends rows; acknowledgements come back through the inbox and are settled by the partition's thread."""

    def __init__(self, log: Log, codec: Codec, inbox: Inbox, sign: CommandSigner, blobs: Blobs | None = None) -> None:
        self.upto = BatchId(0, 0)
        self._app = log.app
        self._codec = codec
        self._outgoing = log.outgoing()
        self._inbox = inbox
        self._sign = sign
        self._blobs = blobs
        self._waiting: dict[int, tuple[Key, OutboxRow]] = {}
        self._order: deque[tuple[int, BatchId]] = deque()

    def send(self, rows: Iterable[tuple[Key, OutboxRow]]) -> None:
        """Queue rows for sending, in key order."""
        for key, row in rows:
            number = next(_numbers)
            self._waiting[number] = (key, row)
            self._order.append((number, BatchId(int(key[0]), int(key[1]))))
            self._outgoing.send(self._out(row), partial(self._inbox.put_ack, number))

    def nothing_in(self, batch: BatchId) -> None:
        """A proven batch without rows: `upto` may pass it."""
        if not self._order:
            self.upto = batch

    def settle(self, acks: Iterable[tuple[int, str]]) -> list[Unsent]:
        """Take acknowledgements; returns the rows that can never be sent."""
        problems = []
        for number, problem in acks:
            entry = self._waiting.pop(number, None)
            if entry is not None and problem:
                problems.append(Unsent(*entry, problem))
        while self._order and self._order[0][0] not in self._waiting:
            _, batch = self._order.popleft()
            if not self._order or self._order[0][1] != batch:
                self.upto = max(self.upto, batch)
        return problems

    @property
    def empty(self) -> bool:
        """Whether everything was acknowledged."""
        return not self._order

    def _out(self, row: OutboxRow) -> Out:
        body = row.body
        key, headers = row.key, Headers()
        if isinstance(body, Forward):
            value = body.value
            found = ((HOP_HEADER, body.hop), (SIGNATURE_HEADER, body.signed))
            headers = tuple((name, text.encode()) for name, text in found if text)
        else:
            body = carried(body, self._blobs, CARRIED_BYTES) if isinstance(body, TaskOffer) else body
            value = self._codec.encode(body)
        if isinstance(body, Command):
            key, headers = body.workflow_id, self._sign.headers(value)
        return Out(f"{self._app}.{row.topic}", row.partition, key.encode(), value, headers)
