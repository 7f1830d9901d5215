"""What an audit is to look at, and one partition of it: in this process, or in one that was told of it in a line."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from ..codec.records import Codec
from ..codec.registry import codec_of
from ..config import Settings as ProcessSettings
from ..core.apply.fold import Settings
from ..log.config import LogConfig
from ..log.reader import read_partition
from ..store.blobs import DirectoryBlobs
from ..store.partition_store import PartitionStore
from ..store.rows import state_hash
from .audit import Audit, AuditOptions, Progress, verify
from .audit_witness import Witness

READ = 10_000
"""Records of a slice: what is decoded and dropped again is a few megabytes."""


class Job(NamedTuple):
    """What to audit, in terms that another process can be told. `blobs`, `state`: directories to look into."""

    settings: ProcessSettings
    config: LogConfig
    numbers: tuple[int, ...]
    level: Literal["chain", "full"] = "full"
    first: int = 0
    witnesses: Mapping[int, Sequence[Witness]] | None = None
    max_skew_ms: int = 0
    blobs: Path | None = None
    state: Path | None = None

    def of(self, number: int) -> Job:
        """The same for one of its partitions, with that partition's witnesses alone."""
        witnesses = (self.witnesses or {}).get(number, ())
        return self._replace(numbers=(number,), witnesses={number: witnesses})


def audit_partition(job: Job, scratch: Path, progress: Callable[[Progress], None]) -> Audit:
    """The audit of a job of one partition; state is folded into a directory in `scratch`, which is gone afterwards.

    Raises KafkaUnavailable, StateNotComparable, StoreError.
    """
    (number,) = job.numbers
    codec = codec_of(job.settings)
    with tempfile.TemporaryDirectory(dir=scratch) as folded:
        options = AuditOptions(
            level=job.level,
            starts={number: job.first} if job.first else {},
            witnesses=job.witnesses or {},
            state_hash=partial(_state_hash, job.state, codec) if job.state is not None else None,
            scratch=lambda partition: PartitionStore(Path(folded) / str(partition), codec),
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
