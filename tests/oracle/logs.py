"""Hand-made logs: built with fastavro and the schemas alone, so that anomalies can be put into them on purpose."""

from __future__ import annotations

import hashlib
from typing import Any

from .avro import encode, event_hash
from .batches import ZERO
from .raw import RawRecord

NOW = 1_700_000_000_000
NULL = {"codec": "json", "key_id": "", "data": b"null", "blob": None}
SECOND = 1_000
ACTOR = {"kind": "service", "id": "a", "on_behalf_of": "", "via": "", "authn": "claimed"}


def payload(data: bytes) -> dict[str, Any]:
    """A user value."""
    return {**NULL, "data": data}


def cause(command_id: str = "", offset: int = -1, answers: bool = True) -> dict[str, Any]:
    """Caused by a command of partition 0."""
    return {
        "command_id": command_id,
        "topic": "app.commands" if offset >= 0 else "",
        "partition": 0 if offset >= 0 else -1,
        "offset": offset,
        "answers": answers and bool(command_id),
        "reply_to": None,
    }


class EventLog:
    """One events partition being written; every public number may be bent before the next call."""

    def __init__(self, partition: int = 0) -> None:
        self.partition = partition
        self.records: list[RawRecord] = []
        self.claim_no = 0
        self.batch_no = 0
        self.chain = ZERO
        self.position = 0
        self.now = NOW
        self.pending: list[bytes] = []
        self.heads: dict[str, tuple[int, bytes]] = {}
        self.offset = 0

    def append(self, name: str, key: bytes, fields: dict[str, Any]) -> bytes:
        """One raw record; its hash."""
        value = encode("events", name, fields)
        place = RawRecord("app.events", self.partition, self.offset, self.now, key, value)
        self.records.append(place)
        self.offset += 1
        return event_hash(key, value)

    def claim(self, claim_no: int | None = None, nonce: str = "") -> None:
        """A take-over."""
        self.claim_no = self.claim_no + 1 if claim_no is None else claim_no
        self.pending = []
        body = {
            "nonce": nonce or f"n{self.offset}", "instance": "i", "host": "h", "pid": 1, "engine": "e",
            "lanes": ["a", "b"], "mode": "exclusive", "level": 1, "commands_topic_id": "c",
            "events_topic_id": "e", "partitions": 1, "generation": 0,
        }  # fmt: skip
        self.append("PartitionClaimed", b"\x00claim", self._head("", "", 0, ZERO) | body)
        self.offset += 1  # the transaction's marker

    def _head(self, workflow: str, run: str, seq: int, prev: bytes) -> dict[str, Any]:
        return {
            "workflow_id": workflow, "run_id": run, "seq": seq, "prev_hash": prev, "recorded_at_ms": self.now,
            "claim_no": self.claim_no, "batch_no": self.batch_no, "batch_index": len(self.pending),
        }  # fmt: skip

    def event(self, name: str, body: dict[str, Any], workflow: str = "w", run: str = "r", **bent: Any) -> None:
        """An event of a run; `bent` overrides fields of its head; the chain goes on from what was written."""
        seq, prev = self.heads.get(run, (0, ZERO))
        fields = self._head(workflow, run, seq + 1, prev) | body | bent
        hashed = self.append(name, workflow.encode(), fields)
        self.heads[run] = (seq + 1, hashed)
        self.pending.append(hashed)

    def record(self, name: str, body: dict[str, Any], workflow: str = "") -> None:
        """A record of the partition, without `seq`."""
        hashed = self.append(name, workflow.encode() or b"\x00partition", self._head(workflow, "", 0, ZERO) | body)
        self.pending.append(hashed)

    def footer(self, **bent: Any) -> None:
        """Close the batch."""
        position = {"cluster_id": "k", "topic_id": "c", "partition": self.partition, "offset": self.position}
        body = {
            "prev_footer_hash": self.chain, "root": hashlib.sha256(b"".join(self.pending)).digest(),
            "event_count": len(self.pending), "position": position, "now_ms": self.now,
            "outbox_upto": {"claim_no": 0, "batch_no": 0}, "level": 1,
        }  # fmt: skip
        self.chain = self.append("BatchFooter", b"\x00footer", self._head("", "", 0, b"") | body | bent)
        self.pending = []
        self.batch_no += 1
        self.offset += 1


def started(command_id: str = "s1", offset: int = 0) -> dict[str, Any]:
    """Body of RunStarted."""
    return {
        "workflow_type": "t", "version": 1, "arguments": NULL, "seed": "s", "cause": cause(command_id, offset),
    }  # fmt: skip


def scheduled(n: int, **options: Any) -> dict[str, Any]:
    """Body of StepScheduled of step `0:n`."""
    retry = {"initial_interval_ms": 1, "backoff": 2.0, "max_interval_ms": 0, "max_attempts": 0, "non_retryable": []}
    given = {
        "queue": "", "on_crash": "retry", "retry": retry, "start_to_close_ms": 0, "schedule_to_close_ms": 0,
        "schedule_to_start_ms": 0, "heartbeat_ms": 0, "cancellation": "try",
    } | options  # fmt: skip
    return {"turn": 1, "path": "0", "n": n, "name": "step", "call_site": "f.py:1", "arguments": NULL, "options": given}


def completed(n: int, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """Body of StepCompleted of step `0:n`."""
    return {"step": f"0:{n}", "attempt": attempt, "result": payload(str(n).encode()), **more}


def failure(kind: str, message: str = "m") -> dict[str, Any]:
    """A Failure."""
    return {
        "type": kind, "message": message, "details": NULL, "traceback": "", "retryable": True, "retry_after_ms": -1,
    }  # fmt: skip


def command(name: str, command_id: str, body: dict[str, Any], offset: int, at_ms: int = NOW) -> RawRecord:
    """A command on partition 0."""
    head = {"id": command_id, "workflow_id": "w", "actor": ACTOR}
    value = encode("commands", name, head | body)
    return RawRecord("app.commands", 0, offset, at_ms, b"w", value)


def start_command(command_id: str = "s1", offset: int = 0) -> RawRecord:
    """StartWorkflow."""
    return command("StartWorkflow", command_id, {"workflow_type": "t"}, offset)


def signal_command(command_id: str, offset: int) -> RawRecord:
    """SignalWorkflow."""
    return command("SignalWorkflow", command_id, {"name": "go"}, offset)


def reply(command_id: str, run: str = "r", outcome: str = "accepted") -> RawRecord:
    """An answer."""
    fields = {"command_id": command_id, "workflow_id": "w", "run_id": run, "outcome": outcome, "code": "RunStarted"}
    return RawRecord("app.replies", 0, 0, NOW, command_id.encode(), encode("tasks", "Reply", fields))


def clean(steps: int = 3) -> EventLog:
    """One run of `steps` steps, a timer and two signals, under two claims, with a void batch between them."""
    log = EventLog()
    log.claim()
    log.position = 1
    log.event("RunStarted", started())
    log.event("StepScheduled", scheduled(0))
    log.footer()
    for n in range(steps):
        log.now += SECOND
        log.event("StepCompleted", completed(n))
        if n + 1 < steps:
            log.event("StepScheduled", scheduled(n + 1))
        log.footer()
    head = log.heads["r"]
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 90, "due_at_ms": log.now, "call_site": "f"})
    log.heads["r"] = head
    log.claim()
    log.event("TimerSet", {"turn": 1, "path": "0", "n": 90, "due_at_ms": log.now + SECOND, "call_site": "f"})
    for index, name in enumerate(("g1", "g2")):
        log.event("SignalReceived", {"name": "go", "payload": NULL, "cause": cause(name, 1 + index)})
    log.position = 3
    log.footer()
    log.now += SECOND
    log.event("TimerFired", {"timer": "0:90", "due_at_ms": log.now})
    log.event("RunCompleted", {"turn": 1, "result": payload(b"42")})
    log.footer()
    return log


def clean_commands() -> list[RawRecord]:
    """What led to `clean`."""
    return [start_command(), signal_command("g1", 1), signal_command("g2", 2)]
