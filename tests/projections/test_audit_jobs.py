"""The processes of an audit: what they are told and say, and that none is left, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from types import MappingProxyType

import pytest

from orchestrator.config import Settings
from orchestrator.core.values import BatchId
from orchestrator.devkafka import DevKafka
from orchestrator.errors import ConfigurationError, KafkaUnavailable, OrchestratorError, StoreError
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from orchestrator.projections.audit import Audit, Finding, PartitionAudit, Progress
from orchestrator.projections.audit_job import Job
from orchestrator.projections.audit_jobs import _Child
from orchestrator.projections.audit_lines import (
    audit_line,
    error_line,
    job_line,
    job_of,
    progress_line,
    said_in,
)
from orchestrator.projections.audit_witness import Witness
from tests.architecture.source import ROOT
from tests.devkafka.processes import wait_gone

PATIENCE_S = 60.0
NOBODY = "127.0.0.1:1"
WITNESS = Witness(BatchId(3, 7), bytes(range(32)), "the anchor", 1_700_000_100_000, 41)


def job(number: int = 2) -> Job:
    """One partition of a log that cannot be reached."""
    secret = MappingProxyType({"sasl.password": "s3cret"})
    settings = Settings(app_name="shop", bootstrap=NOBODY, kafka=secret, log_level="WARNING")
    config = LogConfig.of(settings, "shop")
    everything = Job(
        settings, config, (1, number), "chain", 5, {1: [WITNESS], number: [WITNESS] * 2}, 300_000, Path("b"), Path("s")
    )
    return everything.of(number)


def test_a_job_is_understood_as_it_was_meant(tmp_path: Path) -> None:
    asked = job()
    line = job_line(asked, tmp_path)
    understood, scratch = job_of(line)
    assert line.count(b"\n") == 1
    assert scratch == tmp_path
    assert understood._replace(settings=asked.settings) == asked
    assert understood.witnesses == {2: [WITNESS, WITNESS]}, "those of its own partition alone"
    assert understood.settings == Settings(log_level="WARNING")


def test_what_is_said_is_understood_as_it_was_meant() -> None:
    part = PartitionAudit(2, 0, 9, 8, 7, 1, 2, head=BatchId(3, 7), head_hash=bytes(range(32)), complete_to=WITNESS)
    part.accepted.append("by somebody")
    audit = Audit({2: part}, [Finding(2, 5, "gap", "a line\nand another, naïvely")])
    assert said_in(audit_line(audit)) == audit
    part.complete_to = None
    assert said_in(audit_line(audit)) == audit
    assert said_in(progress_line(Progress(2, 9, 8))) == Progress(2, 9, 8)


@pytest.mark.parametrize("kind", [ConfigurationError, KafkaUnavailable, StoreError])
def test_an_error_is_raised_as_itself(kind: type[OrchestratorError]) -> None:
    with pytest.raises(kind, match="what to do") as told:
        said_in(error_line(kind("what to do")))
    assert type(told.value) is kind


def test_a_defect_is_named_without_a_traceback() -> None:
    with pytest.raises(OrchestratorError, match="failed with TypeError: not so; --debug shows where"):
        said_in(error_line(TypeError("not so")))


@pytest.fixture
def child() -> Iterator[_Child]:
    made = _Child()
    yield made
    made.end()


def test_one_that_is_killed_is_named(child: _Child, tmp_path: Path) -> None:
    child.audit(job(), tmp_path)
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(OrchestratorError, match=r"partition 2 was killed by SIGKILL.*--jobs 1") as died:
        list(child.heard())
    assert type(died.value) is OrchestratorError
    with pytest.raises(OrchestratorError, match="partition 1 was killed by SIGKILL"):
        child.audit(job(1), tmp_path)


def test_one_whose_reader_is_gone_ends_in_the_middle(child: _Child, tmp_path: Path) -> None:
    """Nothing can be read where it looks, and it would wait half a minute for that."""
    child.audit(job(), tmp_path)
    child._asks.close()
    wait_gone(child.pid)


def test_a_defect_of_its_own_is_told(child: _Child, tmp_path: Path) -> None:
    child.audit(job(), tmp_path / "nowhere")
    wait([child.answers])
    with pytest.raises(OrchestratorError, match="failed with FileNotFoundError"):
        list(child.heard())


HANGS = """
import os, pathlib, sys, time
if "orchestrator.projections.audit_process" in sys.orig_argv:
    pathlib.Path(os.environ["HUNG"], str(os.getpid())).touch()
    time.sleep(3600)
"""
"""What every interpreter loads first: the audit's processes get no further than that."""


HEARS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from orchestrator.cli.main import main
sys.exit(main())
"""
"""As at a terminal: background jobs of a shell ignore it, and so does whatever they begin."""


@pytest.fixture
def hung(kafka: DevKafka, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """`audit verify --jobs 2` whose processes never answer, and those."""
    name, place = f"audited-{uuid.uuid4().hex[:8]}", tmp_path / "hung"
    init_topics(LogConfig(name, kafka.bootstrap), 2)
    place.mkdir()
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = subprocess.Popen(
        [sys.executable, "-c", HEARS, "--app-name", name, "audit", "verify", "--jobs", "2"],
        cwd=tmp_path,
        env={**os.environ, "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap, "PYTHONPATH": path, "HUNG": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        while len(pids := [int(one.name) for one in place.iterdir()]) < 2:
            assert command.poll() is None, command.communicate()
            time.sleep(0.02)
        yield command, pids
    finally:
        command.kill()
        command.wait()


@pytest.mark.broker
@pytest.mark.contract("audit-verify")
def test_ctrl_c_leaves_no_process_and_no_traceback(hung: tuple[subprocess.Popen[str], list[int]]) -> None:
    """As at a terminal, which tells the whole group of processes."""
    command, pids = hung
    os.killpg(command.pid, signal.SIGINT)
    said, _ = command.communicate(timeout=PATIENCE_S)
    assert (command.returncode, said.strip()) == (130, "interrupted")
    wait_gone(*pids)


@pytest.mark.broker
def test_one_that_dies_ends_the_audit_and_the_others(hung: tuple[subprocess.Popen[str], list[int]]) -> None:
    command, pids = hung
    os.kill(pids[0], signal.SIGKILL)
    said, _ = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 1
    assert "was killed by SIGKILL" in said
    assert "--jobs 1" in said
    assert "Traceback" not in said
    wait_gone(*pids)
