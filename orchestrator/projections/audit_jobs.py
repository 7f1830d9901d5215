"""An audit of an application's topic: its partitions one after the other, or in processes of their own beside."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..errors import OrchestratorError
from .audit import Audit, Progress
from .audit_job import Job, audit_partition
from .audit_lines import job_line, said_in

HEARD = 1 << 16


def audit_topic(job: Job, processes: int, progress: Callable[[Progress], None]) -> Audit:
    """The audit of a job's partitions, in `processes` of their own if there are several of both.

    Raises KafkaUnavailable, StateNotComparable, StoreError; OrchestratorError when a process dies.
    """
    audit = Audit({}, [])
    processes = min(processes, len(job.numbers))
    with tempfile.TemporaryDirectory(prefix="orchestrator-audit-") as made:
        scratch = Path(made)
        found: Generator[Audit]
        if processes > 1:
            found = _in_processes(job, scratch, processes, progress)
        else:
            found = (audit_partition(job.of(number), scratch, progress) for number in job.numbers)
        with closing(found):
            parts = {next(iter(one.partitions)): one for one in found}
    for number in job.numbers:
        audit.partitions.update(parts[number].partitions)
        audit.findings += parts[number].findings
    return audit


def _in_processes(job: Job, scratch: Path, processes: int, progress: Callable[[Progress], None]) -> Generator[Audit]:
    """Each process takes the next partition when it has done one."""
    left = list(job.numbers)
    with _started(processes) as children, selectors.DefaultSelector() as busy:
        for child in children:
            busy.register(child.answers, selectors.EVENT_READ, child)
            child.audit(job.of(left.pop(0)), scratch)
        while busy.get_map():
            for key, _ in busy.select():
                child = key.data
                for said in child.heard():
                    if isinstance(said, Progress):
                        progress(said)
                        continue
                    yield said
                    if left:
                        child.audit(job.of(left.pop(0)), scratch)
                    else:
                        busy.unregister(child.answers)


@contextmanager
def _started(processes: int) -> Iterator[list[_Child]]:
    children: list[_Child] = []
    try:
        for _ in range(processes):
            children.append(_Child())
        yield children
    finally:
        for child in children:
            child.end()


class _Child:
    """A process of the audit. In a process group of its own: Ctrl-C is for this process, which then ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.projections.audit_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks, self.answers = self._process.stdin, self._process.stdout
        self._partition = -1
        self._rest = bytearray()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def audit(self, job: Job, scratch: Path) -> None:
        """Ask for a job's one partition; the one before it must be done."""
        (self._partition,) = job.numbers
        try:
            with memoryview(job_line(job, scratch)) as line:
                at = 0
                while at < len(line):
                    at += self._asks.write(line[at:])
        except BrokenPipeError:
            raise self._died() from None

    def heard(self) -> Iterator[Progress | Audit]:
        """What it has said. Raises the error that ended its audit, or OrchestratorError when it is dead."""
        data = os.read(self.answers.fileno(), HEARD)
        if not data:
            raise self._died()
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole, self._rest = bytes(self._rest) + line, bytearray()
            yield said_in(whole)
        self._rest += rest

    def _died(self) -> OrchestratorError:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return OrchestratorError(
            f"the process that audits partition {self._partition} {how}; the audit says nothing. If memory was short,"
            f" run it with fewer processes (--jobs 1), or that partition alone (--partition {self._partition})"
        )

    def end(self) -> None:
        """Make sure that it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._asks, self.answers):
            with suppress(BrokenPipeError):
                pipe.close()
