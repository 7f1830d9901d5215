"""What was noted outside an events topic of where it ended, against where it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..core.values import BatchId
from ..core.witness import read_note


class Witness(NamedTuple):
    """A head that was noted outside the events topic: which footer stood at the end, and its hash.

    `signed_at_ms` is 0 for notes without a signature (group offsets, a state directory); a caller that read a signed
    anchor sets it only after having checked the signature. `offset` is the footer's, -1 when it was not noted.
    """

    batch: BatchId
    footer_hash: bytes
    source: str
    signed_at_ms: int = 0
    offset: int = -1


def witness_of(note: str, source: str) -> Witness | None:
    """The witness in a group offset's metadata (`claim/batch footer-hash`); None if the text is no such note."""
    found = read_note(note)
    return Witness(found.batch, found.footer_hash, source) if found is not None else None


class Witnesses:
    """The witnesses of one partition, each heard when its footer comes, or at the end."""

    def __init__(self, witnesses: Iterable[Witness]) -> None:
        self._waiting: dict[BatchId, list[Witness]] = {}
        for witness in witnesses:
            self._waiting.setdefault(witness.batch, []).append(witness)
        self._suspects: list[tuple[BatchId, int, str]] = []
        """Those that disagree, unless a repair that came later accepted the log."""

    def footer(self, batch: BatchId, footer_hash: bytes, offset: int) -> Witness | None:
        """Hear those of a footer; the one that was signed and agrees, if any."""
        signed: Witness | None = None
        for witness in self._waiting.pop(batch, ()):
            if witness.footer_hash != footer_hash:
                detail = f"{witness.source} noted another hash of footer {name_of(batch)}: the log was rewritten"
                self._suspects.append((batch, offset, detail))
            elif witness.offset not in (-1, offset):
                seen = f"{witness.source} saw footer {name_of(batch)} at offset {witness.offset}"
                self._suspects.append((batch, offset, f"{seen}: the log was written again"))
            elif witness.signed_at_ms:
                signed = witness
        return signed

    def end(self, head: BatchId, next_offset: int, whole: bool, forgiven: int) -> Iterator[tuple[int, str]]:
        """(offset, what is wrong) once everything was read: `whole` from the log's start. Claims below `forgiven` were
        made before the last repair. What was cut off began at `next_offset`, the first offset that is not there.
        """
        suspects = list(self._suspects)
        for batch in sorted(self._waiting):
            for witness in self._waiting[batch]:
                if batch > head:
                    end = f"the log ends at {name_of(head)}: its tail was cut from offset {next_offset} on"
                    suspects.append((batch, next_offset, f"{witness.source} saw footer {name_of(batch)}, {end}"))
                elif whole:
                    missing = f"{witness.source} saw footer {name_of(batch)}, which is not on the log"
                    suspects.append((batch, -1, missing))
        return ((offset, detail) for batch, offset, detail in suspects if batch.claim_no >= forgiven)


def name_of(batch: BatchId) -> str:
    """A batch, for people."""
    return f"{batch.claim_no}/{batch.batch_no}"
