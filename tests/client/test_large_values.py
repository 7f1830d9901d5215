"""Large values as the caller sends and reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.client.caller import Caller
from orchestrator.client.calls import Calls
from orchestrator.client.requests import ClientOptions
from orchestrator.core import commands as c
from orchestrator.core.large import named
from orchestrator.core.tasks import Reply
from orchestrator.core.values import BlobRef, Payload
from orchestrator.errors import BlobMissing, BlobsUnavailable, CommandRejected, LimitExceeded
from orchestrator.store.blobs import Blobs, DirectoryBlobs, MemoryBlobs
from tests.client.fake_engine import FakeEngine, FakeTransport


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


def sent(blobs: Blobs | None, work: Callable[[Calls], Awaitable[Any]]) -> list[c.Command]:
    """What `work` sends."""
    engine = FakeEngine()

    async def inside() -> None:
        caller = Caller("shop", FakeTransport(engine), ClientOptions(timeout_s=5.0))
        await caller.open()
        try:
            with suppress(CommandRejected):
                await work(Calls(caller, blobs))
        finally:
            await caller.close()

    asyncio.run(inside())
    return [command for _, _, command in engine.received]


LARGE = Payload(data=b'"' + b"x" * 1_100_000 + b'"')
MIDDLE = Payload(data=b'"' + b"x" * 600_000 + b'"')


def test_what_fits_into_the_command_is_sent_in_it() -> None:
    [command] = sent(blobs := MemoryBlobs(), lambda calls: calls.signal("w", "go", MIDDLE))
    assert command.body.payload == MIDDLE
    assert blobs.kept == {}


def test_of_a_command_that_is_too_large_every_large_value_is_a_blob() -> None:
    start = c.StartWorkflow("order", MIDDLE, signal="go", signal_payload=MIDDLE, memo=Payload(data=b'"small"'))
    [command] = sent(blobs := MemoryBlobs(), lambda calls: calls.start("w", start))
    assert command.body.arguments == command.body.signal_payload
    assert blobs.get(command.body.arguments.blob) == MIDDLE.data
    assert command.body.memo == start.memo


@pytest.mark.parametrize(
    "work",
    [
        lambda calls: calls.update("w", "add", LARGE),
        lambda calls: calls.fork("w", c.ForkWorkflow(step="0:1", arguments=LARGE)),
        lambda calls: calls.complete_step("w", "r", "0:1", LARGE),
        lambda calls: calls.beat_step("w", "r", "0:1", LARGE),
    ],
)
def test_whatever_a_caller_says_may_be_large(work: Callable[[Calls], Awaitable[Any]]) -> None:
    [command] = sent(MemoryBlobs(), work)
    ((_, ref),) = named(command.body)
    assert ref.size == len(LARGE.data)


def test_a_large_memo_is_refused_where_it_is_given() -> None:
    with pytest.raises(LimitExceeded, match=r"StartWorkflow of w is 1,100,\d+ bytes"):
        sent(MemoryBlobs(), lambda calls: calls.start("w", c.StartWorkflow("order", memo=LARGE)))


def test_what_cannot_be_written_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BlobsUnavailable, match=r"SignalWorkflow of w: a blob of 1,100,002 bytes .* Nothing was sent"):
        sent(DirectoryBlobs(tmp_path / "file"), lambda calls: calls.signal("w", "go", LARGE))
