"""What an audit and its processes say to each other: JSON, a line a message.

To a process: the partition to audit, with all that it needs for it. From it: how far it is, then the audit or the error
that ended it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import Settings
from ..core.values import BatchId
from ..errors import ConfigurationError, KafkaUnavailable, OrchestratorError, RegistryUnavailable, StoreError
from ..log.config import LogConfig
from .audit import Audit, Finding, PartitionAudit, Progress, StateNotComparable
from .audit_job import Job
from .audit_witness import Witness

KINDS: dict[str, type[OrchestratorError]] = {
    kind.__name__: kind
    for kind in (ConfigurationError, KafkaUnavailable, RegistryUnavailable, StateNotComparable, StoreError)
}
"""Errors that mean the same on both sides. Any other is a defect of the process that it ended."""
SETTINGS = ("wire", "registry_url", "registry_auth", "log_level")
"""The settings that an audit of a partition reads."""


def _line(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


# -- to a process ------------------------------------------------------------------------------------------------------


def job_line(job: Job, scratch: Path) -> bytes:
    """Audit this job's one partition; fold state in `scratch`."""
    (number,) = job.numbers
    return _line(
        {
            "partition": number,
            "scratch": str(scratch),
            "settings": {name: getattr(job.settings, name) for name in SETTINGS},
            "log": asdict(job.config),
            "level": job.level,
            "first": job.first,
            "witnesses": [_told(witness) for witness in (job.witnesses or {}).get(number, ())],
            "max_skew_ms": job.max_skew_ms,
            "blobs": str(job.blobs) if job.blobs is not None else None,
            "state": str(job.state) if job.state is not None else None,
        }
    )


def job_of(line: bytes) -> tuple[Job, Path]:
    """The job and the scratch directory of a line."""
    said = json.loads(line)
    number, log = said["partition"], said["log"]
    job = Job(
        settings=Settings(**said["settings"]),
        config=LogConfig(**{**log, "assignment": tuple(log["assignment"])}),
        numbers=(number,),
        level=said["level"],
        first=said["first"],
        witnesses={number: [_witness(one) for one in said["witnesses"]]},
        max_skew_ms=said["max_skew_ms"],
        blobs=Path(said["blobs"]) if said["blobs"] is not None else None,
        state=Path(said["state"]) if said["state"] is not None else None,
    )
    return job, Path(said["scratch"])


def _told(witness: Witness) -> list[Any]:
    batch, footer_hash, *rest = witness
    return [batch, footer_hash.hex(), *rest]


def _witness(said: list[Any]) -> Witness:
    batch, footer_hash, *rest = said
    return Witness(BatchId(*batch), bytes.fromhex(footer_hash), *rest)


# -- from a process ----------------------------------------------------------------------------------------------------


def progress_line(progress: Progress) -> bytes:
    """How far a partition was read."""
    return _line({"progress": progress})


def audit_line(audit: Audit) -> bytes:
    """The audit of one partition."""
    (part,) = audit.partitions.values()
    witness = part.complete_to
    told = {
        **vars(part),
        "head_hash": part.head_hash.hex(),
        "complete_to": _told(witness) if witness is not None else None,
    }
    return _line({"audit": told, "findings": audit.findings})


def error_line(error: Exception) -> bytes:
    """What ended an audit."""
    return _line({"error": type(error).__name__, "what": str(error)})


def said_in(line: bytes) -> Progress | Audit:
    """What a process said. Raises the error that it told of."""
    said = json.loads(line)
    if "progress" in said:
        return Progress(*said["progress"])
    if "error" in said:
        kind, what = said["error"], said["what"]
        if kind in KINDS:
            raise KINDS[kind](what)
        raise OrchestratorError(f"a process of the audit failed with {kind}: {what}; --debug shows where")
    told = said["audit"]
    witness = told["complete_to"]
    part = PartitionAudit(
        **{
            **told,
            "head": BatchId(*told["head"]),
            "head_hash": bytes.fromhex(told["head_hash"]),
            "complete_to": _witness(witness) if witness is not None else None,
        }
    )
    return Audit({part.partition: part}, [Finding(*one) for one in said["findings"]])
