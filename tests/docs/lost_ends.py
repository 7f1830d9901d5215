"""The end of a log that a broker lost, within a transaction: its records are there, its marker and all behind it not.

What an unclean election leaves, made by hand in a stopped broker's files: the last marker of a lane, and what follows,
is cut off. The coordinator knows that transaction as ended; nobody will ever write its marker again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.docs.hung import crc32c

HEAD = struct.Struct(">qiibIhiqqqhii")
"""Of a record batch (format 2): offset, length, …, attributes, …, the two timestamps, producer id, epoch, …"""
CRC, CHECKED, STAMPS = 17, 21, 27
CONTROL = 0x20
DERIVED = ("*.index", "*.timeindex", "*.txnindex", "*.snapshot")
"""What a broker makes anew from a log, and must, once the log is another."""


class Batch(NamedTuple):
    """A record batch: where it lies in the file, its first offset, who wrote it, whether it is a marker."""

    at: int
    size: int
    offset: int
    producer: int
    marker: bool


class Lost(NamedTuple):
    """What was cut: the log ends at `end`, in the middle of a transaction that began at `first`."""

    first: int
    end: int


def lose_end(data: Path, place: str, claim: bytes, aged_ms: int) -> Lost:
    """Cut the log `place` (`topic-partition`) of a stopped broker at the last marker of a lane that no claim used.

    `claim` is the key of claims. What is left without a marker is made older by `aged_ms`.
    """
    (path,) = (data / place).glob("*.log")
    log = bytearray(path.read_bytes())
    found = list(batches(log))
    claimed_by = next(one.producer for one in found if claim in log[one.at : one.at + one.size])
    cut = next(one for one in reversed(found) if one.marker and one.producer != claimed_by)
    open_ = [one for one in found if one.at < cut.at and not one.marker and not _ended(one, found, cut)]
    for one in open_:
        _age(log, one, aged_ms)
    path.write_bytes(log[: cut.at])
    for pattern in DERIVED:
        for derived in (data / place).glob(pattern):
            derived.unlink()
    # A broker that ended in order believes its files; one that did not looks at them.
    (data / ".kafka_cleanshutdown").unlink(missing_ok=True)
    return Lost(open_[0].offset, cut.offset)


def batches(log: bytes | bytearray) -> Iterator[Batch]:
    """The batches of a log's file."""
    at = 0
    while at + HEAD.size <= len(log):
        offset, length, _, magic, _, attributes, _, _, _, producer, *_ = HEAD.unpack_from(log, at)
        if not length:
            return
        assert magic == 2, magic
        yield Batch(at, 12 + length, offset, producer, bool(attributes & CONTROL))
        at += 12 + length


def _ended(one: Batch, found: list[Batch], cut: Batch) -> bool:
    """Whether a marker of its producer stands between a batch and the cut."""
    return any(other.marker and other.producer == one.producer and one.at < other.at < cut.at for other in found)


def _age(log: bytearray, one: Batch, by_ms: int) -> None:
    first, last = struct.unpack_from(">qq", log, one.at + STAMPS)
    struct.pack_into(">qq", log, one.at + STAMPS, first - by_ms, last - by_ms)
    checked = bytes(log[one.at + CHECKED : one.at + one.size])
    struct.pack_into(">I", log, one.at + CRC, crc32c(checked))
