"""What waits for a partition is bounded, in number and in bytes; nobody who was paused is forgotten."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence

import pytest

from orchestrator import Orchestrator
from orchestrator.core.commands import SignalWorkflow, StartWorkflow
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.engine.inbox import Inbox, Room
from orchestrator.log.ports import Wire
from tests.engine.rig import KafkaSite, Rig

LARGE = 700_000
ROOM = Room(commands=40, bytes=4_000)


class Reader:
    """Gives what it has, while it may, in deliveries of ten; keeps account of how much waited at most."""

    def __init__(self, sizes: list[int]) -> None:
        self.left = [Wire("app.commands", 0, n, 0, b"", bytes(size)) for n, size in enumerate(sizes)]
        self.paused = False
        self.most = (0, 0)
        self.inbox = Inbox(self.pause, self.resume, ROOM)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def read(self) -> None:
        while self.left and not self.paused:
            some, self.left = self.left[:10], self.left[10:]
            self.inbox.put_commands(some)
            waiting = self.inbox.commands
            self.most = max(self.most[0], len(waiting)), max(self.most[1], sum(len(one.value) for one in waiting))


def taken(reader: Reader) -> list[int]:
    """Everything, as a partition takes it."""
    offsets = []
    reader.read()
    while reader.inbox.commands:
        command = reader.inbox.commands.popleft()
        offsets.append(command.offset)
        reader.inbox.took_command(command)
        reader.read()
    return offsets


@pytest.mark.parametrize(("size", "most"), [(1, (50, 50)), (100, (50, 5_000)), (1_000, (10, 10_000))])
def test_commands_wait_with_their_reader_when_they_are_many_or_large(size: int, most: tuple[int, int]) -> None:
    reader = Reader([size] * 300)
    assert taken(reader) == list(range(300))
    assert reader.most <= most
    assert reader.most[1] <= ROOM.bytes + 10 * size
    assert not reader.paused


def test_a_dropped_backlog_is_not_counted_any_more() -> None:
    reader = Reader([1_000] * 30)
    reader.read()
    assert reader.paused
    reader.inbox.drop_commands()
    assert not reader.paused
    assert len(taken(reader)) == 20


def test_a_reader_is_not_resumed_before_it_is_paused() -> None:
    """The partition takes everything while the reader's thread stands between deciding to pause, and pausing."""
    order: list[str] = []
    within, go = threading.Event(), threading.Event()

    def pause() -> None:
        within.set()
        assert go.wait(30)
        order.append("pause")

    inbox = Inbox(pause, lambda: order.append("resume"), ROOM)
    wires = Reader([1_000] * 5).left
    reader = threading.Thread(target=inbox.put_commands, args=(wires,))
    reader.start()
    assert within.wait(30)

    def take() -> None:
        while inbox.commands:
            inbox.took_command(inbox.commands.popleft())

    partition = threading.Thread(target=take)
    partition.start()
    partition.join(0.2)
    go.set()
    reader.join()
    partition.join()
    assert order == ["pause", "resume"]


@pytest.mark.broker
def test_a_backlog_of_large_commands_does_not_fill_the_memory(kafka: DevKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than what may wait and what the reader may have fetched, together: an engine would fall to it again and
    again."""
    room, fetched = Room(), 17 << 20
    count = 2 * (room.bytes + fetched) // LARGE
    app = Orchestrator(f"backlog-{uuid.uuid4().hex[:8]}")
    word = app.signal("word", str)

    @app.workflow
    async def listens(n: int) -> int:
        return sum([len(await word.wait()) for _ in range(n)])

    most = 0
    put = Inbox.put_commands

    def watched(inbox: Inbox, records: Sequence[Wire]) -> None:
        nonlocal most
        put(inbox, records)
        most = max(most, sum(len(one.value) for one in list(inbox.commands)))

    monkeypatch.setattr(Inbox, "put_commands", watched)
    rig = Rig(app, KafkaSite(app.name, kafka.bootstrap, 1))
    try:
        arguments = listens.code.signature.bind((count,), {})
        rig.send("w", StartWorkflow(listens.code.workflow_type, arguments))
        for _ in range(count):
            rig.send("w", SignalWorkflow("word", Payload(data=b'"' + b"x" * LARGE + b'"')))
        rig.engine()
        assert rig.result("w") == str(count * LARGE).encode()
        assert 0 < most <= room.bytes + fetched
    finally:
        rig.close()
