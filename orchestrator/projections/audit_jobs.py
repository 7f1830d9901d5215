"""An audit of an application's topic: its partitions one after the other, or in processes of their own beside."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from ..codec.records import Codec
from ..codec.registry import codec_of
from ..config import Settings as ProcessSettings
from ..core.apply.fold import Settings
from ..errors import ConfigurationError, KafkaUnavailable, OrchestratorError, StoreError
from ..log.config import LogConfig
from ..log.reader import read_partition
from ..store.blobs import DirectoryBlobs
from ..store.partition_store import PartitionStore
from ..store.rows import state_hash
from .audit import Audit, AuditOptions, Progress, StateNotComparable, verify
from .audit_witness import Witness

READ = 10_000
"""Records of a slice: what is decoded and dropped again is a few megabytes."""
TOLD: tuple[type[OrchestratorError], ...] = (ConfigurationError, KafkaUnavailable, StateNotComparable, StoreError)


class Job(NamedTuple):
    """What to audit, in terms that another process can be handed. `blobs`, `state`: directories to look into."""

    settings: ProcessSettings
    config: LogConfig
    numbers: tuple[int, ...]
    level: Literal["chain", "full"] = "full"
    first: int = 0
    witnesses: Mapping[int, Sequence[Witness]] | None = None
    max_skew_ms: int = 0
    blobs: Path | None = None
    state: Path | None = None


def audit_topic(job: Job, processes: int, progress: Callable[[Progress], None]) -> Audit:
    """The audit of a job's partitions, in `processes` of their own if there are several of both.

    Raises KafkaUnavailable, StateNotComparable, StoreError.
    """
    audit = Audit({}, [])
    if min(processes, len(job.numbers)) > 1:
        found = _in_processes(job, min(processes, len(job.numbers)), progress)
    else:
        found = (_one(job, number, progress) for number in job.numbers)
    parts = {next(iter(one.partitions)): one for one in found}
    for number in job.numbers:
        audit.partitions.update(parts[number].partitions)
        audit.findings += parts[number].findings
    return audit


def _one(job: Job, number: int, progress: Callable[[Progress], None]) -> Audit:
    codec = codec_of(job.settings)
    with tempfile.TemporaryDirectory(prefix="orchestrator-audit-") as scratch:
        options = AuditOptions(
            level=job.level,
            starts={number: job.first} if job.first else {},
            witnesses=job.witnesses or {},
            state_hash=partial(_state_hash, job.state, codec) if job.state is not None else None,
            scratch=lambda partition: PartitionStore(Path(scratch) / str(partition), codec),
            settings=Settings(job.config.app),
            blobs=DirectoryBlobs(job.blobs) if job.blobs is not None else None,
            max_skew_ms=job.max_skew_ms,
            progress=progress,
        )
        slices = read_partition(job.config, job.config.topic("events"), number, job.first, most=READ)
        return verify({number: slices}, codec, options)


def _state_hash(directory: Path, codec: Codec, partition: int) -> bytes | None:
    """Hash of a partition's state directory, None when there is none. Raises StoreError while an engine has it open."""
    place = directory / str(partition)
    if not place.is_dir():
        return None
    store = PartitionStore(place, codec)
    try:
        return state_hash(store)
    finally:
        store.close()


# -- processes ---------------------------------------------------------------------------------------------------------


def _in_processes(job: Job, processes: int, progress: Callable[[Progress], None]) -> Iterator[Audit]:
    """Each process takes the next partition when it has done one."""
    left = list(job.numbers)
    with _started(job._replace(settings=job.settings.with_changes(kafka={})), processes) as busy:
        for place in busy:
            place.send(left.pop(0))
        while busy:
            for place in cast("list[Connection]", wait(busy)):
                said = _heard(place)
                if isinstance(said, Progress):
                    progress(said)
                    continue
                yield said
                if left:
                    place.send(left.pop(0))
                else:
                    place.send(None)
                    busy.remove(place)


def _heard(place: Connection) -> Any:
    """What a process says next. Raises what ended it."""
    try:
        said = place.recv()
    except EOFError:
        raise OrchestratorError("a process of the audit ended early: is there memory for it? Try --jobs 1") from None
    if isinstance(said, _Ended):
        raise TOLD[said.kind](said.what)
    return said


@contextmanager
def _started(job: Job, processes: int) -> Iterator[list[Connection]]:
    # What a client library keeps of its threads does not survive a fork.
    context = multiprocessing.get_context("spawn")
    places, started = list[Connection](), []
    try:
        for _ in range(processes):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, job), name="audit", daemon=True)
            process.start()
            # Its end of the pipe must be nobody else's, or its death would not be seen.
            there.close()
            places.append(here)
            started.append(process)
        yield places
    finally:
        for process in started:
            process.terminate()
            process.join()


class _Ended(NamedTuple):
    """An error of a process: which of TOLD, and its message."""

    kind: int
    what: str


def _serve(place: Connection, job: Job) -> None:
    """A process's life: numbers in, progress and audits out, until None comes."""
    try:
        while (number := place.recv()) is not None:
            place.send(_one(job, number, place.send))
    except TOLD as error:
        kind = next(at for at, one in enumerate(TOLD) if isinstance(error, one))
        place.send(_Ended(kind, str(error)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        # Whoever asked is gone.
        return
