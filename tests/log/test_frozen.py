"""A process that stood still for half a session is a member on its word alone: it shows itself before it claims."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.log import membership
from orchestrator.log.config import LogConfig
from orchestrator.log.membership import GroupMembership

SESSION_S = 6.0


class Clock:
    """A monotonic clock by hand."""

    now = 1_000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[GroupMembership, Clock]]:
    """A member that polls as the test says; nobody is there to answer it."""
    clock = Clock()
    monkeypatch.setattr(membership, "time", clock)
    made = GroupMembership(LogConfig("frozen", "127.0.0.1:1", session_timeout_s=SESSION_S))
    monkeypatch.setattr(made._thread, "is_alive", lambda: True)
    yield made, clock
    made._consumer.close()


def test_half_a_session_without_a_poll_is_no_health(member: tuple[GroupMembership, Clock]) -> None:
    one, clock = member
    assert one.healthy()
    clock.now += SESSION_S / 2 - 0.1
    assert one.healthy()
    clock.now += 0.2
    assert not one.healthy()


def test_who_was_frozen_polls_twice_before_it_claims(member: tuple[GroupMembership, Clock]) -> None:
    one, clock = member
    clock.now += SESSION_S / 2 + 0.1
    healthy = []
    for _ in range(3):
        one._note_poll()
        healthy.append(one.healthy())
        clock.now += 0.25
    assert healthy == [False, False, True]


def test_a_freeze_between_the_two_counts_anew(member: tuple[GroupMembership, Clock]) -> None:
    one, clock = member
    for _ in range(2):
        clock.now += SESSION_S / 2 + 0.1
        one._note_poll()
        clock.now += 0.25
        one._note_poll()
    assert not one.healthy()
