"""Acknowledgements of a partition's outbox: each of its own row."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.codec.records import Codec
from orchestrator.codec.signatures import CommandSigner
from orchestrator.core.rows import OutboxRow
from orchestrator.core.tasks import Reply
from orchestrator.core.values import BatchId
from orchestrator.engine.inbox import Inbox
from orchestrator.engine.outbox import Outbox
from orchestrator.log.ports import Out


class Slow:
    """A log whose producer acknowledges when the test says so."""

    app = "a"

    def __init__(self) -> None:
        self.told: list[Callable[[str], None]] = []

    def outgoing(self) -> Any:
        return SimpleNamespace(send=self._send)

    def _send(self, record: Out, done: Callable[[str], None]) -> None:
        self.told.append(done)


def _row(batch: int) -> tuple[Any, OutboxRow]:
    reply = Reply(f"command {batch}", "w", "r", "accepted")
    return (f"{1:012}", f"{batch:012}", "0"), OutboxRow("replies", 0, "w", reply)


def test_what_an_owner_before_sent_acknowledges_nothing_of_this_one() -> None:
    log, inbox = Slow(), Inbox(lambda: None, lambda: None)

    def outbox() -> Outbox:
        return Outbox(cast(Any, log), Codec(), inbox, CommandSigner("a", None))

    before = outbox()
    before.send([_row(1), _row(2)])
    after = outbox()
    after.send([_row(3), _row(4)])
    log.told[0]("")
    log.told[1]("too large")
    assert after.settle(inbox.acks) == []
    assert after.upto == BatchId(0, 0), "nothing of this owner's was acknowledged"
    inbox.acks.clear()
    log.told[2]("")
    assert after.settle(inbox.acks) == []
    assert after.upto == BatchId(1, 3)
