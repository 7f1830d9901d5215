"""Grants that come late, or never: asked for until somebody decides, renewed before anything begins."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from orchestrator.client.requests import Request
from orchestrator.core.commands import HeartbeatStep, ReportStep, StartStep, TopicCommand
from orchestrator.core.retry import NOT_STARTED
from orchestrator.errors import CommandRejected, ReplyTimeout

from .bench import Bench, begun, work
from .rig import LONG_S

pytestmark = pytest.mark.slow


class Away:
    """Engines that are away for as many questions as they are told, for one attempt; its id's first answer counts."""

    def __init__(self, token: str, questions: int) -> None:
        self.token = token
        self.questions = questions
        self.asked_with: list[str] = []
        self.lost = False

    def __call__(self, body: TopicCommand, request: Request) -> None:
        if isinstance(body, StartStep) and body.token == self.token:
            self.asked_with.append(request.command_id)
            self.questions -= 1
            if self.questions >= 0:
                raise ReplyTimeout("nobody is there")
        if isinstance(body, HeartbeatStep) and body.token == self.token and self.lost:
            raise CommandRejected("not yours any more", code="stale_attempt")


async def asked_in_vain(bench: Bench, gate: Path, heartbeat_ms: int = 0) -> Away:
    """Nobody answers for the first attempt; a second one has the only slot."""
    away = bench.engine.decide = Away("run/0:1/1", 10**9)
    bench.offer("echo", value="x", heartbeat_ms=heartbeat_ms)
    bench.offer("hold", file=str(gate))
    await begun(gate)
    return away


@pytest.mark.parametrize("unsafe", [False, True])
def test_a_grant_that_comes_after_its_lease_is_renewed_before_anything_begins(unsafe: bool) -> None:
    async def test(bench: Bench) -> None:
        away = bench.engine.decide = Away("run/0:1/1", 3)
        bench.offer("echo", value="x")
        [report] = await bench.engine.wait_for(ReportStep)
        assert json.loads(report.result.data) == "x"
        assert len(away.asked_with) == 4
        assert len(set(away.asked_with)) == 1, "the engine takes it once"
        [beat] = bench.engine.of(HeartbeatStep)
        assert bench.engine.commands.index(beat) > bench.engine.commands.index(bench.engine.of(StartStep)[3])

    work(test, unsafe=unsafe, slots=1)


def test_a_grant_whose_lease_ran_out_before_it_was_heard_of_begins_nothing(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        away = bench.engine.decide = Away("run/0:1/1", 1)
        away.lost = True
        bench.offer("hold", file=str(tmp_path / "gate"))
        await bench.engine.wait_for(HeartbeatStep)
        bench.offer("echo", value="x")
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.token == "run/0:2/1"
        assert not (tmp_path / "gate").exists()

    work(test, slots=1)


@pytest.mark.parametrize("unsafe", [False, True])
def test_what_is_asked_for_in_vain_keeps_nobody_from_a_slot(unsafe: bool) -> None:
    async def test(bench: Bench) -> None:
        away = bench.engine.decide = Away("run/0:1/1", 10**9)
        bench.offer("echo", value="x")
        bench.offer("echo", value="y")
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.token == "run/0:2/1"
        away.questions = 0
        assert [one.token for one in await bench.engine.wait_for(ReportStep, 2)] == ["run/0:2/1", "run/0:1/1"]

    work(test, unsafe=unsafe, slots=1)


@pytest.mark.parametrize("unsafe", [False, True])
def test_a_late_grant_waits_for_a_slot_keeps_its_lease_and_goes_before_new_offers(tmp_path: Path, unsafe: bool) -> None:
    async def test(bench: Bench) -> None:
        away = await asked_in_vain(bench, tmp_path / "gate")
        bench.offer("echo", value="z")
        away.questions = 0
        await bench.engine.wait_for_beats("run/0:1/1", 3)
        (tmp_path / "gate.go").touch()
        reports = await bench.engine.wait_for(ReportStep, 3)
        assert [one.token for one in reports] == ["run/0:2/1", "run/0:1/1", "run/0:3/1"]

    work(test, unsafe=unsafe, slots=1, renew_s=0.05)


def test_what_may_be_asked_for_in_vain_is_as_much_as_there_are_slots() -> None:
    async def test(bench: Bench) -> None:
        def nobody(body: TopicCommand, request: Request) -> None:
            raise ReplyTimeout("nobody is there")

        bench.engine.decide = nobody
        for _ in range(9):
            bench.offer("echo", value="x")
        async with asyncio.timeout(LONG_S), bench.engine.changed:
            await bench.engine.changed.wait_for(lambda: len({one.token for one in bench.engine.of(StartStep)}) == 4)
        bench.source.full.clear()
        assert await asyncio.to_thread(bench.source.full.wait, LONG_S)
        await bench.engine.wait_for(StartStep, len(bench.engine.of(StartStep)) + 20)
        assert len({one.token for one in bench.engine.of(StartStep)}) == 4
        bench.engine.decide = lambda body, request: None
        reports = await bench.engine.wait_for(ReportStep, 9)
        assert [one for one in reports if one.failure is not None] == []

    work(test, slots=2)


def test_a_late_grant_without_a_place_is_given_back_unbegun(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        away = await asked_in_vain(bench, tmp_path / "gate")
        away.questions = 0
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.token == "run/0:1/1"
        assert report.failure is not None
        assert (report.failure.type, report.failure.retryable, report.crashed) == (NOT_STARTED, True, False)
        assert bench.engine.beats("run/0:1/1") >= 2
        (tmp_path / "gate.go").touch()
        await bench.engine.wait_for(ReportStep, 2)

    work(test, slots=1, lease_s=5.0)


@pytest.mark.parametrize("unsafe", [False, True])
def test_a_drain_gives_a_late_grant_back_at_once(tmp_path: Path, unsafe: bool) -> None:
    async def test(bench: Bench) -> None:
        away = await asked_in_vain(bench, tmp_path / "gate")
        away.questions = 0
        await bench.engine.wait_for_beats("run/0:1/1", 1)
        bench.drain.set()
        [report] = await bench.engine.wait_for(ReportStep)
        assert (report.token, report.failure.type, report.crashed) == ("run/0:1/1", NOT_STARTED, False)
        (tmp_path / "gate.go").touch()
        assert await bench.end() == frozenset()

    work(test, unsafe=unsafe, slots=1)


@pytest.mark.parametrize("kind", ["unanswered", "cut"])
def test_a_drain_gives_back_what_was_granted_late_and_could_not_be_renewed(kind: str) -> None:
    async def test(bench: Bench) -> None:
        away = Away("run/0:1/1", 1)

        def decide(body: TopicCommand, request: Request) -> None:
            away(body, request)
            if isinstance(body, HeartbeatStep) and kind == "unanswered":
                raise ReplyTimeout("gone again")

        bench.engine.decide = decide
        if kind == "cut":
            bench.engine.slow[HeartbeatStep] = asyncio.Event()
        bench.offer("echo", value="x")
        await bench.engine.wait_for(HeartbeatStep)
        assert await bench.end() == frozenset()
        [report] = bench.engine.of(ReportStep)
        assert (report.token, report.failure.type) == ("run/0:1/1", NOT_STARTED)

    work(test, grace_s=0.0)


def test_a_late_grant_of_a_step_with_a_heartbeat_is_renewed_within_it(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        away = await asked_in_vain(bench, tmp_path / "gate", heartbeat_ms=150)
        away.questions = 0
        await bench.engine.wait_for_beats("run/0:1/1", 4)
        (tmp_path / "gate.go").touch()
        reports = await bench.engine.wait_for(ReportStep, 2)
        assert {one.failure for one in reports} == {None}

    work(test, slots=1, renew_s=3_600.0)


def test_a_worker_that_ends_while_nobody_answers_asks_no_more(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.engine.decide = Away("run/0:1/1", 10**9)
        bench.offer("echo", value="x")
        await bench.engine.wait_for(StartStep, 2)
        assert await bench.end() == frozenset()
        assert "no grant for step 'echo' of workflow 'flow': nobody is there" in caplog.text

    work(test)


def test_a_worker_that_ends_before_it_is_answered_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.engine.slow[StartStep] = asyncio.Event()
        bench.offer("echo", value="x")
        await bench.engine.wait_for(StartStep)
        assert await bench.end() == frozenset()
        assert "run/0:1/1 was asked for, and ends here unbegun" in caplog.text

    work(test, grace_s=0.0)
