"""The contract, "Bad input": what no run can take is on record, with its bytes, and holds up nobody."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.core import events as e
from orchestrator.core.commands import CancelWorkflow, Command
from orchestrator.core.values import Payload
from orchestrator.store.blobs import DirectoryBlobs
from tests.contract.forced import home
from tests.contract.world import CODEC, World

app = Orchestrator("contract-bad-input")
UNKNOWN = b"\xc3\x01" + bytes(range(8)) + b"body"
WHOLE = CODEC.encode_command(Command("cut", "after", CancelWorkflow()))
EVENT = CODEC.seal(e.Event("w", "r", 1, e.TimerFired("0:1", 1))).value
UNUSABLE = {
    b"": "",
    b"hello, world": "",
    b"\xff" * 100: "",
    UNKNOWN: "unknown schema 0001020304050607",
    WHOLE[:-3]: "",
    EVENT: "schemas/events",
    CODEC.encode_command(Command("", "after", CancelWorkflow())): "1 to 1,024 characters",
    CODEC.encode_command(Command("c" * 1_025, "after", CancelWorkflow())): "1 to 1,024 characters",
}
"""What lies on the commands topic, and what of the reason is said in so many words."""
LARGE = b"\xff" * 1_020_000
LARGE_KEY = b"k" * 20_000


@app.workflow
async def says(word: str) -> str:
    return word


def letters(world: World) -> list[tuple[int, e.DeadLettered]]:
    """What was set aside, each with the place of its event among those of its partition."""
    assert world.ground is not None
    found = []
    for records in world.ground.records("events"):
        for at, record in enumerate(records):
            body = CODEC.decode_event(record.key, record.value).event.body
            if isinstance(body, e.DeadLettered):
                found.append((at, body))
    return found


async def sent(client: Client, world: World, *records: tuple[bytes, bytes]) -> None:
    """As any producer would, to the partition of the workflow "after"; returns when Kafka has acknowledged them."""
    done: list[str] = []
    for key, value in records:
        client.calls.caller._transport.send(home(world, "after"), key, value, done.append)
    while len(done) < len(records):
        await asyncio.sleep(0.01)
    assert done == [""] * len(records)


def carried(body: Payload, blobs: DirectoryBlobs | None) -> bytes:
    """The bytes of a letter."""
    if body.blob is None:
        return body.data
    assert blobs is not None
    return blobs.get(body.blob)


@pytest.mark.contract("bad-input")
@pytest.mark.parametrize("blobs", ["", "engines"])
def test_what_is_no_command_is_an_event_with_its_bytes_and_a_dead_letter_and_delays_nobody(
    world: World, blobs: str
) -> None:
    """Undecodable, of an unknown schema, cut, without a usable id, too large: each once, also for the next owner."""
    records = [*((b"poison", value) for value in UNUSABLE), (LARGE_KEY, LARGE)]

    async def scenario(client: Client) -> None:
        await sent(client, world, *records)
        assert await client.execute(says.options(id="after"), "moved on") == "moved on"
        await world.restart()
        assert await client.execute(says.options(id="after"), "and on") == "and on"
        found = [body for _, body in letters(world)]
        assert [(one.topic, one.partition) for one in found] == [(f"{app.name}.commands", home(world, "after"))] * len(
            records
        )
        assert [one.offset for one in found] == sorted({one.offset for one in found})
        for (key, value), one in zip(records, found, strict=True):
            assert one.reason
            assert UNUSABLE.get(value, "") in one.reason
            assert one.key == key[: len(one.key)] != b""
            kept = carried(one.value, world.blobs)
            assert kept == value if value != LARGE or blobs else value.startswith(kept) and len(kept) >= 1_000
        assert blobs or f"{len(LARGE):,} bytes" in found[-1].reason
        # Its event comes before what lay behind it on the topic, whose outcome the position has passed with it.
        assert world.ground is not None
        events = [
            CODEC.decode_event(one.key, one.value).event for one in world.ground.records("events")[home(world, "after")]
        ]
        started = next(at for at, event in enumerate(events) if isinstance(event.body, e.RunStarted))
        assert max(at for at, _ in letters(world)) < started
        # At least once: a new owner sends again what it cannot know to have left.
        passed_on = [CODEC.decode(one.value) for one in world.ground.records("dead-letters")[0]]
        assert list(dict.fromkeys((one.reason, one.offset) for one in passed_on)) == [
            (one.reason, one.offset) for one in found
        ]

    world.run(app, scenario, blobs=blobs)
