"""Results above what an event takes: kept as blobs, fetched when awaited; a lost one parks its run and no other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.engine.options import EngineOptions
from orchestrator.log.ports import Wire
from orchestrator.projections.audit import AuditOptions, verify
from orchestrator.sdk.execution import ExecutorOptions, Report
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.worker.executor import Executor
from tests.engine.rig import Rig, kill

Make = Callable[[Orchestrator], Rig]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
LARGE = 10_000_000
app = Orchestrator("large-results")
go = app.signal("go", int)


@app.step
async def large(size: int) -> str:
    """A result of any size."""
    return "x" * size


let_go = threading.Event()


@app.step
def held(size: int, fails: bool) -> str:
    """Ends when the test lets go."""
    let_go.wait(20)
    if fails:
        raise RuntimeError("y" * size)
    return "x" * size


@app.workflow
async def holds(size: int, fails: bool) -> str:
    try:
        return str(len(await held.options(retry=1)(size, fails)))
    except RuntimeError as error:
        return str(error)[-60:]


@app.workflow
async def measures(size: int) -> int:
    return len(await large(size))


@app.workflow
async def waits_after(size: int) -> int:
    text = await large(size)
    return len(text) + await go.wait()


@app.workflow
async def returns(size: int) -> str:
    return await large(size)


def options(directory: Path) -> EngineOptions:
    return EngineOptions(blobs=DirectoryBlobs(directory))


def processes(code: Orchestrator, told: ExecutorOptions, report: Report) -> Any:
    return Executor("tests.engine.test_large_results:app", told, report)


def waiting(rig: Make, directory: Path) -> tuple[Rig, Path]:
    """A run that has its large result and waits, its engine killed; and the blob's file."""
    one = rig(app)
    engine = one.engine(options(directory))
    one.start("w", waits_after, 2_000_000)
    ref = one.wait_for(e.StepCompleted, "w")[0].result.blob
    assert ref.size == 2_000_002
    kill(engine)
    return one, directory / ref.name[:2] / ref.name


@pytest.mark.slow
def test_ten_megabytes_from_a_step_process(rig: Make, tmp_path: Path) -> None:
    one = rig(app)
    one.engine(options(tmp_path), executor=processes)
    one.start("w", measures, LARGE)
    assert one.result("w") == b"10000000"
    result = one.bodies(e.StepCompleted, "w")[0].result
    assert (result.data, result.blob.size) == (b"", LARGE + 2)


def test_a_restart_without_state_needs_the_blobs_alone(rig: Make, tmp_path: Path) -> None:
    one, _ = waiting(rig, tmp_path)
    one.engine(options(tmp_path), stores={})
    one.signal("w", "go", b"1")
    assert one.result("w") == b"2000001"


@pytest.mark.parametrize("harm", ["missing", "altered"])
def test_a_lost_blob_parks_its_run_alone_until_it_is_back(rig: Make, tmp_path: Path, harm: str) -> None:
    one, path = waiting(rig, tmp_path)
    data = path.read_bytes()
    path.unlink() if harm == "missing" else path.write_bytes(data[:-1] + b"X")
    one.engine(options(tmp_path), stores={})
    one.signal("w", "go", b"1")
    message = one.parked("w")
    assert path.name in message
    assert "result of" in message
    one.start("v", measures, 5)
    assert one.result("v") == b"5"
    path.write_bytes(data)
    one.accepted("w", c.RetryWorkflow())
    assert one.until("w", lambda reply: reply.code == "completed").result.data == b"2000001"


def test_without_room_for_blobs_the_attempt_fails_and_names_the_step(rig: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    one = rig(app)
    one.engine(options(tmp_path / "file"))
    one.start("w", measures, 2_000_000)
    failure = one.wait_for(e.StepAttemptFailed, "w")[0].failure
    assert failure.type == "BlobsUnavailable"
    assert "result of step" in failure.message


def test_a_large_result_of_a_run_is_named_in_the_reply(rig: Make, tmp_path: Path) -> None:
    one = rig(app)
    one.engine(options(tmp_path))
    one.start("w", returns, 2_000_000)
    payload: Payload = one.outcome("w").result
    assert payload.blob is not None
    assert DirectoryBlobs(tmp_path).get(payload.blob) == b'"' + b"x" * 2_000_000 + b'"'


@pytest.mark.parametrize("fails", [False, True])
def test_an_outcome_that_ends_elsewhere_is_carried_there(
    rig: Make, tmp_path: Path, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A step was handed over and ends in its old process: what it has to say goes to the new owner by command."""
    let_go.clear()
    one = rig(app)
    first = one.engine(options(tmp_path))
    one.start("w", holds, 2_000_000, fails)
    leaving = threading.Thread(target=first.stop, args=(15.0,))
    while not first.executor.running():
        one.site.wait(0.01)
    leaving.start()
    one.wait_for(e.StepHandedOver, None)
    one.engine(options(tmp_path), stores={})
    one.ask("w", c.QueryWorkflow("describe"))
    let_go.set()
    result = one.result("w").decode()
    leaving.join()
    assert "too large for an event" in result if fails else result == '"2000000"'
    assert len(one.bodies(e.StepHandedOver)) == 1
    assert one.bodies(e.StepInterrupted) == []
    assert "could not be sent" not in caplog.text


@pytest.mark.contract("audit-verify")
@pytest.mark.parametrize("harm", ["", "missing", "altered"])
def test_the_audit_looks_at_every_blob_and_names_the_offset(rig: Make, tmp_path: Path, harm: str) -> None:
    one, path = waiting(rig, tmp_path)
    if harm == "missing":
        path.unlink()
    elif harm:
        path.write_bytes(b"X" + path.read_bytes()[1:])
    logs = one.records("events")
    audit = verify(
        {number: [[Wire(*raw) for raw in raws]] for number, raws in logs.items()},
        one.codec,
        AuditOptions(blobs=DirectoryBlobs(tmp_path)),
    )
    assert sum(part.blobs for part in audit.partitions.values()) == 1
    if not harm:
        assert audit.ok
        return
    (finding,) = audit.findings
    place = next(raw for raws in logs.values() for raw in raws if path.name.encode() in raw.value)
    assert (finding.kind, finding.partition, finding.offset) == ("blob", place.partition, place.offset)
    assert path.name in finding.detail
