"""Records with their large payloads beside them, and with their bytes again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from orchestrator.core.commands import SignalWorkflow, StartWorkflow
from orchestrator.core.tasks import TaskOffer
from orchestrator.core.values import BlobRef, Payload
from orchestrator.errors import BlobMissing, BlobsUnavailable
from orchestrator.store.blobs import DirectoryBlobs, MemoryBlobs
from orchestrator.store.large import bytes_of, carried, kept, light, whole

SMALL, LARGE = Payload(data=b'"small"'), Payload(data=b'"' + b"x" * 100 + b'"')


def offer(arguments: Payload, details: Payload) -> TaskOffer:
    return TaskOffer("w", "r", "0:1", 1, "t", "step", arguments, "key", details=details)


def named(field: str) -> str:
    return f"w, its {field}"


def test_what_is_above_the_inline_size_is_a_blob() -> None:
    blobs = MemoryBlobs()
    keep = partial(kept, blobs=blobs, inline=50, most=1_000)
    start = StartWorkflow("w", LARGE, memo=LARGE, signal="s", signal_payload=SMALL)
    there = light(start, keep)
    assert (there.arguments.data, there.arguments.blob and there.arguments.blob.size) == (b"", 102)
    assert (there.memo, there.signal_payload) == (LARGE, SMALL), "a memo is never one"
    assert whole(there, blobs, named) == start
    assert light(there, keep) is there
    assert light(SignalWorkflow("s", SMALL), keep) == SignalWorkflow("s", SMALL)


def test_exactly_the_inline_size_stays() -> None:
    blobs = MemoryBlobs()
    assert kept(LARGE, blobs, inline=102, most=1_000) is LARGE
    assert kept(LARGE, blobs, inline=101, most=1_000).blob is not None
    assert kept(LARGE, None, inline=1, most=1) is LARGE


def test_codec_and_key_go_with_the_reference() -> None:
    secret = LARGE._replace(codec="cbor", key_id="k1")
    held = kept(secret, blobs := MemoryBlobs(), inline=50, most=50)
    assert (held.codec, held.key_id) == ("cbor", "k1")
    assert bytes_of(held, blobs, "w") == secret


def test_without_room_for_blobs_what_fits_stays_in_its_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    blobs = DirectoryBlobs(tmp_path / "file")
    assert kept(LARGE, blobs, inline=50, most=102) is LARGE
    assert "102 bytes stays in its record" in caplog.text
    with pytest.raises(BlobsUnavailable):
        kept(LARGE, blobs, inline=50, most=101)


@pytest.mark.parametrize("blobs", [None, MemoryBlobs()])
def test_bytes_that_cannot_be_had_name_their_place(blobs: MemoryBlobs | None) -> None:
    ref = BlobRef("directory", "0" * 64, 5)
    with pytest.raises(BlobMissing, match=f"w, its details: .*{ref.name}"):
        whole(offer(SMALL, Payload(data=b"", blob=ref)), blobs, named)


def test_as_many_bytes_are_carried_as_there_is_room_for() -> None:
    blobs = MemoryBlobs()
    keep = partial(kept, blobs=blobs, inline=50, most=1_000)
    there = light(offer(LARGE, LARGE), keep)
    assert carried(there, blobs, 204) == offer(LARGE, LARGE)
    assert carried(there, blobs, 203) == there._replace(arguments=LARGE)
    assert carried(there, blobs, 101) is there
    assert carried(there, None, 1_000) is there
    assert carried(there, MemoryBlobs(), 1_000) is there, "its reader finds out, and says so"
