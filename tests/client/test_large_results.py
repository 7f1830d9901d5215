"""A result that is kept as a blob, as the caller reads it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from orchestrator.client.caller import Caller
from orchestrator.client.calls import Calls
from orchestrator.core.tasks import Reply
from orchestrator.core.values import BlobRef, Payload
from orchestrator.errors import BlobMissing
from orchestrator.store.blobs import MemoryBlobs


def calls(blobs: MemoryBlobs | None) -> Any:
    # Nothing is sent: the reply is there.
    return Calls(cast(Caller, None), blobs)


def reply(ref: BlobRef) -> Reply:
    return Reply("c", "w", "r", outcome="answered", result=Payload(data=b"", blob=ref))


def test_the_bytes_are_fetched() -> None:
    blobs = MemoryBlobs()
    assert calls(blobs)._whole(reply(blobs.put(b'"large"'))).result == Payload(data=b'"large"')


@pytest.mark.parametrize(("blobs", "says"), [(None, "ORCHESTRATOR_BLOB_DIR"), (MemoryBlobs(), "w/r")])
def test_a_result_that_cannot_be_had_is_named(blobs: MemoryBlobs | None, says: str) -> None:
    with pytest.raises(BlobMissing, match=says):
        calls(blobs)._whole(reply(BlobRef("directory", "0" * 64, 5)))
