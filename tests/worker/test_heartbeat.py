"""Heartbeats on the wire: the first at once, then the newest once an interval."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.values import Payload
from orchestrator.worker.heartbeat import Heartbeat, interval_s

FIRST, SECOND, THIRD = (Payload(data=str(number).encode()) for number in range(3))


class Later:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        assert 0 < seconds <= 3600
        self.calls.append(call)


def test_the_newest_details_follow_once_an_interval() -> None:
    sent: list[Payload] = []
    later = Later()
    heartbeat = Heartbeat(3600.0, sent.append, later)
    for details in (FIRST, SECOND, THIRD):
        heartbeat.beat(details)
    assert sent == [FIRST]
    [due] = later.calls
    due()
    assert sent == [FIRST, THIRD]


def test_a_failed_attempt_tells_its_last_details_and_a_completed_one_does_not() -> None:
    for flush, told in ((True, [FIRST, SECOND]), (False, [FIRST])):
        sent: list[Payload] = []
        later = Later()
        heartbeat = Heartbeat(3600.0, sent.append, later)
        heartbeat.beat(FIRST)
        heartbeat.beat(SECOND)
        heartbeat.close(flush)
        heartbeat.beat(THIRD)
        for due in later.calls:
            due()
        assert sent == told


def test_without_interval_everything_is_told() -> None:
    sent: list[Payload] = []
    heartbeat = Heartbeat(0.0, sent.append, Later())
    heartbeat.beat(FIRST)
    heartbeat.beat(SECOND)
    assert sent == [FIRST, SECOND]


def test_the_interval_lies_well_inside_the_time_out() -> None:
    assert interval_s(10_000) < 5.0
    assert interval_s(0) == 30.0
