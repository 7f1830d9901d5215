"""The hole of design.md §4 on a real broker: a delayed EndTxn of one transaction ends the next one.

A scenario takes the loop under test: the naive one follows librdkafka's manual and loses data although
`commit_transaction` returned; whatever claims to close the hole is put through the same scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from tests.faults.kafka_proxy import END_TXN, Rule
from tests.faults.naive_loop import NaiveLoop
from tests.faults.proxied import Proxied

pytestmark = pytest.mark.broker


class Loop(Protocol):
    """A loop under test: it publishes batches of records, each all or nothing."""

    def open(self, records: list[tuple[str, str]]) -> None:
        """Begin a batch and produce these (topic, value) records; return when the broker has them."""

    def add(self, records: list[tuple[str, str]]) -> None:
        """Produce more records in the open batch; return when the broker has answered for each."""

    def commit(self) -> bool:
        """Commit the open batch; whether the loop takes it as done."""

    def abort(self) -> None:
        """Give the open batch up."""

    def close(self) -> None:
        """Stop."""


@dataclass(frozen=True)
class Outcome:
    """What a scenario saw: whether the second batch was taken as committed, and its records that are visible."""

    committed: bool
    visible: list[str]


def delayed_abort(stage: Proxied, loop: Loop) -> Outcome:
    """The abort of batch 1 is delivered while batch 2 is open; batch 2 then goes on in a second topic."""
    first, second = stage.topic(), stage.topic()
    loop.open([(first, "1")])
    held = stage.proxy.add(Rule(END_TXN, "hold"))
    loop.abort()
    assert held.applied.is_set(), "no EndTxn passed through the proxy"
    loop.open([(first, "2a")])
    stage.proxy.release()
    loop.add([(second, "2b")])
    committed = loop.commit()
    return Outcome(committed, stage.visible(first) + stage.visible(second))


def delayed_commit(stage: Proxied, loop: Loop) -> Outcome:
    """The commit of batch 1 is delivered while batch 2 is open; batch 2 then goes on in the same topic."""
    first = stage.topic()
    loop.open([(first, "1")])
    held = stage.proxy.add(Rule(END_TXN, "hold"))
    assert loop.commit()
    assert held.applied.is_set(), "no EndTxn passed through the proxy"
    loop.open([(first, "2a")])
    stage.proxy.release()
    # The broker answers before it writes its markers. Until they are there, 2b would still join what is being ended.
    stage.wait_visible(first, "2a")
    loop.add([(first, "2b")])
    committed = loop.commit()
    visible = stage.visible(first)
    assert "1" in visible, "the first batch was committed and is not there"
    return Outcome(committed, [value for value in visible if value != "1"])


@pytest.fixture
def naive(stage: Proxied) -> Iterator[NaiveLoop]:
    loop = NaiveLoop(stage.proxied)
    yield loop
    loop.close()


def test_nothing_is_lost_without_delay(stage: Proxied, naive: NaiveLoop) -> None:
    topic = stage.topic()
    naive.open([(topic, "1")])
    assert naive.commit()
    naive.open([(topic, "2")])
    naive.abort()
    assert stage.visible(topic) == ["1"]


def test_delayed_abort_loses_a_record_of_a_committed_batch(stage: Proxied, naive: NaiveLoop) -> None:
    outcome = delayed_abort(stage, naive)
    assert outcome == Outcome(committed=True, visible=["2b"]), "commit said OK and 2a should be lost: is the hole shut?"


def test_delayed_commit_publishes_half_of_a_refused_batch(stage: Proxied, naive: NaiveLoop) -> None:
    outcome = delayed_commit(stage, naive)
    assert outcome == Outcome(committed=False, visible=["2a"]), "2a should be visible: is the hole shut?"
