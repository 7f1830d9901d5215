"""The remote worker: nothing without a grant, reports until decided, leases kept, zombies found, a clean end."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from pathlib import Path

import pytest

from orchestrator.client.requests import Request
from orchestrator.codec.records import Codec
from orchestrator.core.commands import HeartbeatStep, ReportStep, StartStep, TopicCommand
from orchestrator.core.tasks import Reply, StopStep, TaskOffer
from orchestrator.core.values import NOTHING, BlobRef, Payload
from orchestrator.errors import LimitExceeded, ReplyTimeout
from orchestrator.sdk.execution import StepReport
from orchestrator.store.blobs import DirectoryBlobs, MemoryBlobs

from .bench import Bench, begun, refuse, work
from .rig import LONG_S, payload

pytestmark = pytest.mark.slow


def test_an_offer_is_asked_for_carried_out_and_reported() -> None:
    async def test(bench: Bench) -> None:
        token = bench.offer("echo", value="x")
        [report] = await bench.engine.wait_for(ReportStep)
        [start] = bench.engine.of(StartStep)
        assert (start.token, start.worker, start.lease_ms) == (token, "worker-1", 60_000)
        assert (report.token, json.loads(report.result.data), report.failure) == (token, "x", None)
        assert bench.engine.commands.index(start) < bench.engine.commands.index(report)

    work(test)


def test_the_offer_s_trace_context_is_the_step_s_and_its_commands() -> None:
    contexts: list[str] = []

    async def test(bench: Bench) -> None:
        context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        bench.again(TaskOffer("flow", "run", "0:1", 1, "run/0:1/1", "traced", payload({}), "key", trace=context))
        [report] = await bench.engine.wait_for(ReportStep)
        assert json.loads(report.result.data) == [context, context]
        assert contexts == [context] * 2

    work(test, decide=lambda body, request: contexts.append(request.trace))


def test_without_the_grant_nothing_happens(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("hold", file=str(tmp_path / "gate"))
        await bench.engine.wait_for(StartStep)
        bench.engine.decide = lambda body, request: None
        bench.offer("echo", value="x")
        await bench.engine.wait_for(ReportStep)
        assert not (tmp_path / "gate").exists()

    work(test, decide=refuse(StartStep, "already_granted"), slots=1)


def test_a_step_is_not_begun_after_its_lease(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("hold", file=str(tmp_path / "gate"))
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.failure is not None
        assert report.failure.type == "StepNotStarted"
        assert not (tmp_path / "gate").exists()

    work(test, lease_s=1e-6)


def test_offers_are_taken_only_with_a_free_slot(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(3):
            bench.offer("hold", file=str(tmp_path / "gate"))
        await begun(tmp_path / "gate", 2)
        assert await asyncio.to_thread(bench.source.full.wait, LONG_S)
        assert len(bench.engine.of(StartStep)) == 2
        assert bench.source.offers.qsize() == 1
        (tmp_path / "gate.go").touch()
        await bench.engine.wait_for(ReportStep, 3)

    work(test, slots=2)


def test_a_second_offer_of_a_held_attempt_is_dropped(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("hold", file=str(tmp_path / "gate"))
        await begun(tmp_path / "gate")
        bench._count -= 1
        bench.offer("hold", file=str(tmp_path / "gate"))
        bench.source.idle.clear()
        assert await asyncio.to_thread(bench.source.idle.wait, LONG_S)
        (tmp_path / "gate.go").touch()
        await bench.engine.wait_for(ReportStep)
        assert len(bench.engine.of(StartStep)) == 1

    work(test)


def test_what_is_no_offer_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.source.offers.put(b"garbage")
        bench.source.offers.put(Codec().encode(Reply("id", "flow", "run", "accepted")))
        bench.offer("echo", value="x")
        await bench.engine.wait_for(ReportStep)

    work(test, slots=1)
    assert "no offer" in caplog.text


def test_a_report_is_sent_until_somebody_decides() -> None:
    silent = 2

    def decide(body: TopicCommand, request: Request) -> None:
        nonlocal silent
        if isinstance(body, ReportStep) and silent:
            silent -= 1
            raise ReplyTimeout("nobody")

    async def test(bench: Bench) -> None:
        bench.offer("echo", value="x")
        await bench.engine.wait_for(ReportStep, 3)
        pairs = zip(bench.engine.commands, bench.engine.ids, strict=True)
        assert len({command_id for body, command_id in pairs if isinstance(body, ReportStep)}) == 1

    work(test, decide=decide)


def test_a_result_that_is_too_large_fails_the_step() -> None:
    def decide(body: TopicCommand, request: Request) -> None:
        if isinstance(body, ReportStep) and body.failure is None:
            raise LimitExceeded("2,000,000 bytes")

    async def test(bench: Bench) -> None:
        bench.offer("echo", value="x")
        reports = await bench.engine.wait_for(ReportStep, 2)
        assert reports[1].failure.type == "LimitExceeded"
        assert not reports[1].failure.retryable

    work(test, decide=decide)


def test_a_result_that_does_not_fit_into_an_event_is_kept_as_a_blob() -> None:
    blobs = MemoryBlobs()

    async def test(bench: Bench) -> None:
        bench.offer("echo", value="x" * 1_100_000)
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.failure is None
        assert (report.result.data, report.result.blob.size) == (b"", 1_100_002)
        assert blobs.get(report.result.blob) == b'"' + b"x" * 1_100_000 + b'"'

    work(test, blobs=blobs)


def test_arguments_too_large_for_an_offer_are_fetched() -> None:
    blobs = MemoryBlobs()
    large = Payload(data=b"", blob=blobs.put(payload({"value": "x" * 1_100_000}).data))

    async def test(bench: Bench) -> None:
        bench.again(TaskOffer("flow", "run", "0:1", 1, "run/0:1/1", "echo", large, "key"))
        [report] = await bench.engine.wait_for(ReportStep)
        assert blobs.get(report.result.blob) == b'"' + b"x" * 1_100_000 + b'"'

    work(test, blobs=blobs)


@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("blobs", [None, MemoryBlobs()])
def test_arguments_that_cannot_be_had_fail_the_attempt_and_hold_no_slot(
    blobs: MemoryBlobs | None, unsafe: bool
) -> None:
    lost = Payload(data=b"", blob=BlobRef("directory", "0" * 64, 5))

    async def test(bench: Bench) -> None:
        offer = TaskOffer("flow", "run", "0:1", 1, "run/0:1/1", "echo", lost, "key", on_crash=bench.on_crash)
        bench.again(offer)
        [report] = await bench.engine.wait_for(ReportStep)
        assert (report.failure.type, report.failure.retryable) == ("BlobMissing", True)
        assert "'flow', attempt 1, its arguments: " in report.failure.message
        bench.offer("echo", value="x")
        assert (await bench.engine.wait_for(ReportStep, 2))[1].failure is None

    work(test, blobs=blobs, unsafe=unsafe, slots=1)


def test_large_details_come_before_the_failure_that_follows_them() -> None:
    """Writing them takes longer than failing does."""
    blobs = MemoryBlobs()
    put, failed = blobs.put, threading.Event()

    def slow(data: bytes) -> BlobRef:
        failed.wait(LONG_S)
        return put(data)

    blobs.put = slow  # type: ignore[method-assign]

    async def test(bench: Bench) -> None:
        reported = bench.worker._reported

        def noted(report: StepReport) -> None:
            reported(report)
            if isinstance(report.body, ReportStep):
                bench.worker._loop.call_later(0, failed.set)

        bench.worker._reported = noted  # type: ignore[method-assign]
        bench.offer("beat_large_and_fail", size=1_100_000)
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.failure.type == "ValueError"
        said = [body for body in bench.engine.commands if isinstance(body, HeartbeatStep | ReportStep)]
        assert [type(body) for body in said] == [HeartbeatStep, ReportStep]
        assert said[0].details.blob.size == 1_100_002

    work(test, blobs=blobs)


def test_details_that_cannot_be_written_keep_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.worker.remote.PAYLOAD_BYTES", 5)
    (tmp_path / "file").write_bytes(b"")

    async def test(bench: Bench) -> None:
        bench.offer("beat_and_hold", file=str(tmp_path / "gate"))
        [beat] = await bench.engine.wait_for(HeartbeatStep)
        assert beat.details == NOTHING
        (tmp_path / "gate.go").touch()
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.failure is None

    work(test, blobs=DirectoryBlobs(tmp_path / "file"))


def test_details_that_are_too_large_fail_the_step(tmp_path: Path) -> None:
    def decide(body: TopicCommand, request: Request) -> None:
        if isinstance(body, HeartbeatStep):
            raise LimitExceeded("2,000,000 bytes")

    async def test(bench: Bench) -> None:
        bench.offer("beat_and_hold", file=str(tmp_path / "gate"))
        bench.offer("echo", value="the slot is free again")
        reports = await bench.engine.wait_for(ReportStep, 2)
        assert [report.failure and report.failure.type for report in reports] == ["LimitExceeded", None]
        assert "beat_and_hold" in reports[0].failure.message

    work(test, decide=decide, slots=1)


def test_a_zombies_result_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("echo", value="x")
        await bench.engine.wait_for(ReportStep)

    with caplog.at_level(logging.WARNING):
        work(test, decide=refuse(ReportStep))
    assert caplog.text.count("no longer this worker's") == 1


def test_a_lost_lease_ends_the_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("hold", file=str(tmp_path / "gate"))
        [report] = await bench.engine.wait_for(ReportStep)
        assert report.failure.type == "CancelledError"

    with caplog.at_level(logging.WARNING):
        work(test, decide=refuse(HeartbeatStep), renew_s=0.1)
    assert caplog.text.count("no longer this worker's") == 1


def stop(token: str, over: bool) -> StopStep:
    """Word from the engine that an attempt is to end."""
    run_id, step, attempt = token.split("/")
    return StopStep("flow", run_id, step, int(attempt), token, over, "why not")


@pytest.mark.parametrize("over", [True, False])
def test_an_attempt_that_is_to_end_ends_and_is_reported_only_if_that_counts(tmp_path: Path, over: bool) -> None:
    async def test(bench: Bench) -> None:
        token = bench.offer("hold", file=str(tmp_path / "gate"))
        await begun(tmp_path / "gate")
        bench.worker.stop(stop("run/0:9/1", over))
        bench.worker.stop(stop(token, over))
        bench.offer("echo", value="the slot is free again")
        reports = await bench.engine.wait_for(ReportStep, 1 if over else 2)
        assert (
            [report.failure and report.failure.type for report in reports] == [None]
            if over
            else [
                "CancelledError",
                None,
            ]
        )

    work(test, slots=1)


@pytest.mark.parametrize("over", [True, False])
@pytest.mark.parametrize("unsafe", [True, False])
def test_an_end_that_overtakes_its_grant(tmp_path: Path, over: bool, unsafe: bool) -> None:
    async def test(bench: Bench) -> None:
        granted = bench.engine.slow[StartStep] = asyncio.Event()
        token = bench.offer("hold", file=str(tmp_path / "gate"))
        await bench.engine.wait_for(StartStep)
        bench.worker.stop(stop(token, over))
        granted.set()
        bench.offer("echo", value="the slot is free again")
        reports = await bench.engine.wait_for(ReportStep, 1 if over else 2)
        assert len([report for report in reports if report.failure is None]) == 1
        assert {report.failure.type for report in reports if report.failure} == (set() if over else {"CancelledError"})
        assert not (tmp_path / "gate").exists()

    work(test, slots=1, unsafe=unsafe)


def test_an_offer_is_asked_for_once_while_the_answer_is_awaited() -> None:
    async def test(bench: Bench) -> None:
        granted = bench.engine.slow[StartStep] = asyncio.Event()
        bench.offer("echo", value="x")
        await bench.engine.wait_for(StartStep)
        bench._count -= 1
        bench.offer("echo", value="x")
        bench.source.idle.clear()
        assert await asyncio.to_thread(bench.source.idle.wait, LONG_S)
        granted.set()
        await bench.engine.wait_for(ReportStep)
        assert len(bench.engine.of(StartStep)) == 1

    work(test)


def test_the_newest_details_go_before_the_failure(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        answered = bench.engine.slow[HeartbeatStep] = asyncio.Event()
        bench.offer("beat_hold_and_fail", file=str(tmp_path / "gate"))
        await bench.engine.wait_for(HeartbeatStep)
        (tmp_path / "gate.go").touch()
        await bench.engine.wait_for(ReportStep)
        answered.set()
        beats, [report] = bench.engine.of(HeartbeatStep), bench.engine.of(ReportStep)
        assert [beat.details.data for beat in beats] == [b'"first"', b'"last"']
        assert bench.engine.commands[-1] is report

    work(test)


def test_leases_are_renewed_with_the_last_details(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("beat_and_hold", file=str(tmp_path / "gate"))
        seen: list[HeartbeatStep] = []
        while not seen or seen[-1].details.data != b'"half way"':
            seen = await bench.engine.wait_for(HeartbeatStep, len(seen) + 1)
        beats = await bench.engine.wait_for(HeartbeatStep, len(seen) + 3)
        assert {beat.details.data for beat in beats[len(seen) :]} == {b'"half way"'}
        (tmp_path / "gate.go").touch()
        await bench.engine.wait_for(ReportStep)

    work(test, renew_s=0.1)


def test_a_step_with_a_heartbeat_time_out_must_speak_itself(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("hold", heartbeat_ms=60_000, file=str(tmp_path / "silent"))
        await begun(tmp_path / "silent")
        bench.offer("hold", file=str(tmp_path / "renewed"))
        beats = await bench.engine.wait_for(HeartbeatStep, 4)
        assert {beat.step for beat in beats} == {"0:2"}
        for name in ("silent.go", "renewed.go"):
            (tmp_path / name).touch()
        await bench.engine.wait_for(ReportStep, 2)

    work(test, renew_s=0.1)


def test_unsafe_steps_have_a_process_to_themselves_and_die_uncounted_by_others(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("hold", file=str(tmp_path / "gate"))
        [pid] = await begun(tmp_path / "gate")
        token = bench.offer("die", code=3)
        [report] = await bench.engine.wait_for(ReportStep)
        assert (report.token, report.crashed, report.failure.type) == (token, True, "StepCrashed")
        (tmp_path / "gate.go").touch()
        reports = await bench.engine.wait_for(ReportStep, 2)
        assert json.loads(reports[1].result.data) == int(pid)

    work(test, unsafe=True)


def test_a_drain_finishes_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        bench.offer("hold", file=str(tmp_path / "gate"))
        await begun(tmp_path / "gate")
        bench.drain.set()
        async with asyncio.timeout(LONG_S):
            while not bench.source.closed:
                await asyncio.sleep(0.01)
        bench.offer("echo", value="late")
        (tmp_path / "gate.go").touch()
        assert await bench.end() == frozenset()
        assert [report.step for report in bench.engine.of(ReportStep)] == ["0:1"]

    work(test)


def test_a_drain_ends_after_its_grace(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        token = bench.offer("hold", file=str(tmp_path / "gate"))
        await begun(tmp_path / "gate")
        assert await bench.end() == {token}
        assert bench.engine.of(ReportStep) == []

    work(test, grace_s=0.1)


def test_an_outcome_that_nobody_takes_is_named_at_the_end() -> None:
    async def test(bench: Bench) -> None:
        def gone(body: TopicCommand, request: Request) -> None:
            if isinstance(body, ReportStep):
                raise ReplyTimeout("nobody answers")

        bench.engine.decide = gone
        token = bench.offer("echo", value="x")
        await bench.engine.wait_for(ReportStep)
        assert await bench.end() == frozenset()
        assert bench.worker.untold == [token]

    work(test, report_s=0.1)
