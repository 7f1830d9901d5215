"""An events topic as engines write it, made fast: runs of ten steps, in batches with a footer, both chains whole."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Producer

from orchestrator.codec.records import Codec
from orchestrator.core import events as e
from orchestrator.core.events import Event, Record
from orchestrator.core.levels import LEVEL
from orchestrator.core.replay import NO_FOOTER, root_of
from orchestrator.core.values import NO_CAUSE, BatchId, Cause, InputPosition, Payload

STEPS = 10
OPEN_RUNS = 500
"""Runs that are open at a time in a partition."""
PAYLOAD = 60
"""Bytes of an argument or a result."""
WAIT_S = 120.0


class _Run:
    """One run: what it records turn by turn."""

    def __init__(self, log: PartitionLog, number: int) -> None:
        self._log = log
        self._name = f"order-{log.number}-{number}"
        self._run = hashlib.sha256(self._name.encode()).hexdigest()[:32]
        self._value = Payload(data=b'"' + self._name.encode().ljust(PAYLOAD, b".") + b'"')
        self._turn = 0
        self._seq = 0
        self._hash = b"\x00" * 32

    def turn(self) -> bool:
        """Record the next turn; whether more are to come."""
        if self._turn == 0:
            cause = Cause(f"start-{self._name}", "bench.commands", self._log.number, self._log.next_input(), True)
            self._add(e.RunStarted("order", 1, self._value, self._run[:16]), cause)
        else:
            self._add(e.StepCompleted(f"0:{self._turn - 1}", 1, self._value))
        self._turn += 1
        if self._turn <= STEPS:
            self._add(e.StepScheduled(self._turn, "0", self._turn - 1, "price", "shop/orders.py:41", self._value))
        else:
            self._add(e.RunCompleted(self._turn, self._value))
        return self._turn <= STEPS

    def _add(self, body: Any, cause: Cause = NO_CAUSE) -> None:
        self._seq += 1
        event = Event(self._name, self._run, self._seq, body, cause, prev_hash=self._hash)
        self._hash = self._log.add(event).hash


class PartitionLog:
    """One partition of it."""

    def __init__(self, number: int, cluster_id: str, commands_id: str, events_id: str) -> None:
        self.number = number
        self._ids = (cluster_id, commands_id, events_id)
        self._codec = Codec()
        self._footer = NO_FOOTER
        self._batch = 0
        self._input = 0
        self._open: list[Record] = []
        self._now_ms = int(time.time() * 1000)

    def next_input(self) -> int:
        """The offset of the command that is taken now."""
        self._input += 1
        return self._input - 1

    def add(self, event: Event) -> Record:
        """One event of the batch that is open."""
        place = {"claim_no": 1, "batch_no": self._batch, "batch_index": len(self._open)}
        record = self._codec.seal(event._replace(recorded_at_ms=self._now_ms, **place))
        self._open.append(record)
        return record

    def records(self, events: int, batch: int) -> Iterator[Record]:
        """About so many events in whole runs, at least so many in a batch, with claim and footers."""
        _, commands, topic = self._ids
        claim = e.PartitionClaimed("n", "i", "h", 1, "e", ("a", "b"), "exclusive", LEVEL, commands, topic, 1, 0)
        yield self._codec.seal(Event("", "", 0, claim, recorded_at_ms=self._now_ms, claim_no=1))
        numbers, left = itertools.count(), max(1, events // (2 * STEPS + 2))
        going = [_Run(self, next(numbers)) for _ in range(min(OPEN_RUNS, left))]
        left -= len(going)
        at = 0
        while going:
            at = (at + 1) % len(going)
            if not going[at].turn():
                if left:
                    going[at], left = _Run(self, next(numbers)), left - 1
                else:
                    del going[at]
            if len(self._open) >= batch:
                yield from self._close()
        if self._open:
            yield from self._close()

    def _close(self) -> Iterator[Record]:
        records, self._open = self._open, []
        cluster, commands, _ = self._ids
        position = InputPosition(cluster, commands, self.number, self._input)
        root = root_of(record.hash for record in records)
        body = e.BatchFooter(self._footer, root, len(records), position, self._now_ms, BatchId(1, self._batch), LEVEL)
        place = {"claim_no": 1, "batch_no": self._batch, "batch_index": len(records)}
        footer = self._codec.seal(Event("", "", 0, body, recorded_at_ms=self._now_ms, **place))
        self._footer = footer.hash
        self._batch += 1
        self._now_ms = max(self._now_ms, int(time.time() * 1000))
        yield from records
        yield footer


def write(bootstrap: str, topic: str, log: PartitionLog, events: int, batch: int) -> int:
    """Put a partition on its topic, without transactions: they cost the making, not the reading. How many events."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 50,
            "batch.num.messages": 10_000,
            "batch.size": 900_000,
            "queue.buffering.max.messages": 200_000,
        }
    )
    made = 0
    for record in log.records(events, batch):
        made += record.event.seq > 0
        while True:
            try:
                producer.produce(topic, record.value, record.key, log.number)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    if producer.flush(WAIT_S):
        raise SystemExit(f"{topic}/{log.number}: not everything was taken in {WAIT_S:.0f} s")
    return made
