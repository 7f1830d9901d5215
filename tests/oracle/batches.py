"""The batch rule, from format.md and design.md §4 alone: buffered until the footer, void only before a claim."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from .avro import Decoded, Undecodable, decode, event_hash
from .raw import RawRecord
from .verdict import ABORTED_READ, CORRUPTION, DUPLICATE, LOST_WRITE, NONMONOTONIC, OFFSETS, TORN, Anomaly, Verdict

ZERO = b"\x00" * 32


class Fact(NamedTuple):
    """A visible event: type, fields, its raw record and hash, and the log's clock of its batch."""

    name: str
    fields: dict[str, Any]
    raw: RawRecord
    hash: bytes

    @property
    def where(self) -> str:
        """Topic, partition and offset."""
        return f"{self.raw.topic}/{self.raw.partition}@{self.raw.offset}"

    @property
    def run(self) -> tuple[str, str]:
        """(workflow id, run id)."""
        return self.fields["workflow_id"], self.fields["run_id"]


class Footer(NamedTuple):
    """A valid footer: its place, hash and fields."""

    fact: Fact
    next_offset: int
    hash: bytes


class PartitionView(NamedTuple):
    """What every reader of the partition must see."""

    facts: list[Fact]
    footers: list[Footer]
    claims: list[Fact]


class BatchReader:
    """Reads one partition; anomalies go to the verdict, and it reads on as well as it can."""

    def __init__(self, verdict: Verdict, quiescent: bool, log_start: int = 0) -> None:
        self.view = PartitionView([], [], [])
        self._verdict = verdict
        self._quiescent = quiescent
        self._pending: list[Fact] = []
        self._claim = 0
        self._contested = False
        self._nonces: dict[str, str] = {}
        self._chain = ZERO
        self._last = (0, 0)
        # Aborted records may come first: a first visible offset above 0 does not say that the log's start was deleted.
        self._synced = log_start == 0

    def read(self, records: Sequence[RawRecord]) -> PartitionView:
        """The whole partition, in order."""
        before = -1
        aside = _set_aside(records)
        for raw in records:
            if any(first <= raw.offset < claim for first, claim in aside):
                self._verdict.totals["set_aside"] += 1
                continue
            if raw.offset <= before:
                self._note(NONMONOTONIC, raw, f"offset {raw.offset} after {before} (I4)")
            before = raw.offset
            self._one(raw)
        if self._pending and self._quiescent:
            self._note(TORN, self._pending[0].raw, f"{len(self._pending)} events at the log's end have no footer (I4)")
        self._verdict.totals["batches"] += len(self.view.footers)
        self._verdict.totals["claims"] += len(self.view.claims)
        self._verdict.totals["events"] += len(self.view.facts)
        return self.view

    def _note(self, name: str, raw: RawRecord, detail: str) -> None:
        self._verdict.anomalies.append(Anomaly(name, f"{raw.topic}/{raw.partition}@{raw.offset}", detail))

    def _one(self, raw: RawRecord) -> None:
        try:
            decoded = decode(raw.value)
        except Undecodable as error:
            self._note(CORRUPTION, raw, f"{error} (I4)")
            return
        if decoded.kind != "events":
            self._note(CORRUPTION, raw, f"a record of schemas/{decoded.kind} on an events topic (I4)")
            return
        fact = Fact(decoded.name, decoded.fields, raw, event_hash(raw.key, raw.value))
        if not self._synced and decoded.name != "PartitionClaimed":
            # The log's start was deleted: nothing is known before the first footer.
            if decoded.name == "BatchFooter":
                self._synced, self._chain = True, fact.hash
                self._last = (decoded.fields["claim_no"], decoded.fields["batch_no"])
                self._claim = self._last[0]
            return
        {"PartitionClaimed": self._claimed, "BatchFooter": self._footer}.get(decoded.name, self._event)(fact, decoded)

    def _claimed(self, fact: Fact, decoded: Decoded) -> None:
        fields = decoded.fields
        if self._pending:
            self._verdict.totals["void_batches"] += 1
            self._verdict.totals["void_events"] += len(self._pending)
            self._pending = []
        nonce = fields["nonce"]
        if nonce in self._nonces:
            self._note(DUPLICATE, fact.raw, f"the nonce of the claim at {self._nonces[nonce]} (I4)")
        self._nonces[nonce] = fact.where
        # An equal or lower number loses: its owner must claim again before it writes.
        self._contested = fields["claim_no"] <= self._claim
        self._claim = max(self._claim, fields["claim_no"])
        self.view.claims.append(fact)

    def _event(self, fact: Fact, decoded: Decoded) -> None:
        fields = fact.fields
        if self._fenced(fact):
            return
        if self._pending:
            first = self._pending[0].fields
            if (first["claim_no"], first["batch_no"]) != (fields["claim_no"], fields["batch_no"]):
                batch = f"{first['claim_no']}/{first['batch_no']}"
                self._note(TORN, fact.raw, f"batch {batch} has no footer and no claim follows it (I4)")
                self._pending = []
        if fields["batch_index"] != len(self._pending):
            place = f"event {fields['batch_index']} of its batch where {len(self._pending)} belongs (I4)"
            self._note(TORN, fact.raw, place)
        self._pending.append(fact)

    def _fenced(self, fact: Fact) -> bool:
        claim = fact.fields["claim_no"]
        if claim == self._claim and not self._contested:
            return False
        what = "a claim that lost" if claim == self._claim else f"claim {claim} under claim {self._claim}"
        self._note(ABORTED_READ, fact.raw, f"{fact.name} of {what}: a fenced owner's write is visible (I9)")
        return True

    def _footer(self, fact: Fact, decoded: Decoded) -> None:
        fields = decoded.fields
        pending, self._pending = self._pending, []
        if self._fenced(fact):
            return
        batch = (fields["claim_no"], fields["batch_no"])
        if batch <= self._last:
            self._note(DUPLICATE, fact.raw, f"batch {batch} after {self._last}: numbers are never reused (I4)")
        if fields["prev_footer_hash"] != self._chain:
            self._note(
                LOST_WRITE,
                fact.raw,
                f"footer {batch} does not follow footer {self._last}: a batch between is gone (I4)",
            )
        whole = fields["event_count"] == len(pending) == fields["batch_index"]
        if not whole:
            self._note(
                TORN, fact.raw, f"footer {batch} covers {fields['event_count']} events, {len(pending)} are here (I4)"
            )
        elif fields["root"] != hashlib.sha256(b"".join(p.hash for p in pending)).digest():
            self._note(CORRUPTION, fact.raw, f"the root of footer {batch} is not that of its events (I4)")
        self._clock(fact, pending)
        self._position(fact, pending)
        self._chain, self._last = fact.hash, batch
        self.view.facts.extend(pending)
        self.view.footers.append(Footer(fact, fact.raw.offset + 1, fact.hash))

    def _clock(self, fact: Fact, pending: list[Fact]) -> None:
        now = fact.fields["now_ms"]
        if self.view.footers and now < self.view.footers[-1].fact.fields["now_ms"]:
            before = self.view.footers[-1].fact.fields["now_ms"]
            self._note(NONMONOTONIC, fact.raw, f"the log's clock goes back from {before} to {now} (I4)")
        for event in pending:
            if event.fields["recorded_at_ms"] > now:
                self._note(
                    NONMONOTONIC,
                    event.raw,
                    f"recorded at {event.fields['recorded_at_ms']}, after its footer {now} (I4)",
                )

    def _position(self, fact: Fact, pending: list[Fact]) -> None:
        position = fact.fields["position"]
        if self.view.footers:
            before = self.view.footers[-1].fact.fields["position"]
            if position["topic_id"] == before["topic_id"] and position["offset"] < before["offset"]:
                self._note(
                    OFFSETS,
                    fact.raw,
                    f"the input position goes back from {before['offset']} to {position['offset']} (I8)",
                )
        for event in pending:
            cause = event.fields["cause"]
            if cause["partition"] == position["partition"] and cause["offset"] >= position["offset"]:
                detail = (
                    f"reflects command offset {cause['offset']}, the footer's position is {position['offset']} (I8)"
                )
                self._note(OFFSETS, event.raw, detail)


def _set_aside(records: Sequence[RawRecord]) -> list[tuple[int, int]]:
    """What repairs set aside: from an offset up to the claim that says so."""
    found = []
    for raw in records:
        with contextlib.suppress(Undecodable):
            decoded = decode(raw.value)
            if decoded.name == "PartitionClaimed" and decoded.fields["accepts_from"] >= 0:
                found.append((decoded.fields["accepts_from"], raw.offset))
    return found
