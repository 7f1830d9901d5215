"""What the engine answers to questions about runs, as typed values. Each keeps the answer as it came in `raw`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.errors import UndecodableRecord

JsonObject = Mapping[str, Any]

OPEN = frozenset({"running", "parked", "waiting_for_code", "delayed", "queued", "limited", "paused"})
"""Statuses of runs that have not ended."""


class PendingStep(NamedTuple):
    """A step without a result. Times in ms of the log's clock, 0 if none."""

    step: str
    name: str
    state: str
    attempt: int
    since_ms: int
    next_at_ms: int
    failure: str


class MapProgress(NamedTuple):
    """How far a `step.map` of a running workflow is: items done, failed (`on_error="collect"`), and all."""

    name: str
    call_site: str
    done: int
    failed: int
    total: int


class Child(NamedTuple):
    """A child of a run. `status`: open, completed, failed, cancelled, terminated or rejected."""

    step: str
    workflow_type: str
    workflow_id: str
    run_id: str
    status: str


class UntakenSignal(NamedTuple):
    """A signal that the run's code has not taken. `id` is its command's."""

    seq: int
    name: str
    at_ms: int
    id: str


class Rejection(NamedTuple):
    """A command that was refused on the record. `run_id` "": it was about no run, or none that is known."""

    at_ms: int
    code: str
    message: str
    run_id: str
    command_id: str


class Fork(NamedTuple):
    """A run that began with a copy of this one's history, up to an event."""

    run_id: str
    upto: int


class RunDescription(NamedTuple):
    """A run as its partition's proven state has it. `why` says in a sentence what an open run waits for.

    `parent` is (workflow id, run id, step) of a child's parent. `previous_run_id` is the run that it continues, or was
    forked from (`forked_upto`: the last event that it was given of that one); `next_run_id` the one that continues it.
    `children` are at most the 100 newest, of a history of more than 2,000 events those that are open.
    `rejections` are the newest refused commands, None where the id had more than 2,000 commands lately.
    `untaken_signals` is None where finding out takes a replay of such a history, or code that is not there.
    `run_timeout_ms` is as it was started; `run_ends_at_ms` (of an open run) and `execution_ends_at_ms` are the moments
    when the time-outs are over. 0: there is none.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    version: int
    status: str
    started_at_ms: int
    closed_at_ms: int
    seq: int
    steps_done: int
    why: str
    pending_steps: tuple[PendingStep, ...]
    raw: JsonObject
    memo: Any = None
    attributes: JsonObject = MappingProxyType({})
    summary: str = ""
    current_summary: str = ""
    maps: tuple[MapProgress, ...] = ()
    parent: tuple[str, str, str] | None = None
    previous_run_id: str = ""
    next_run_id: str = ""
    forked_upto: int = 0
    forks: tuple[Fork, ...] = ()
    children: tuple[Child, ...] = ()
    untaken_signals: tuple[UntakenSignal, ...] | None = None
    rejections: tuple[Rejection, ...] | None = ()
    run_timeout_ms: int = 0
    run_ends_at_ms: int = 0
    execution_ends_at_ms: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the run has not ended."""
        return self.status in OPEN


class HistoryEvent(NamedTuple):
    """One event of a run's history; payloads in `body` are decoded JSON.

    `copied_at_ms`: when a fork copied it from the run that it comes from (`at_ms` is that one's moment); 0 if none did.
    """

    seq: int
    type: str
    at_ms: int
    body: JsonObject
    raw: JsonObject
    copied_at_ms: int = 0


class RunSummary(NamedTuple):
    """A line of the list of runs."""

    workflow_id: str
    run_id: str
    workflow_type: str
    status: str
    started_at_ms: int
    raw: JsonObject
    attributes: JsonObject = MappingProxyType({})
    summary: str = ""
    version: int = 0


class Outcome(NamedTuple):
    """How a run ended: `status` is completed, failed, cancelled or terminated."""

    status: str
    reply: Reply


def json_payload(value: Any) -> Payload:
    """A value as the JSON payload of a command."""
    return Payload(data=json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def json_value(payload: Payload, what: str) -> Any:
    """The JSON of a payload. Raises UndecodableRecord."""
    if payload.blob is not None:
        raise UndecodableRecord(
            f"{what} is kept in blob {payload.blob.name} ({payload.blob.size:,} bytes), not in the reply"
        )
    if payload.codec != "json":
        raise UndecodableRecord(f"{what} is encoded as {payload.codec!r}, which this client cannot read")
    try:
        return json.loads(payload.data)
    except ValueError as error:
        raise UndecodableRecord(f"{what} is not JSON: {error}") from error


def json_object(reply: Reply, what: str) -> JsonObject:
    """The JSON object that a query was answered with. Raises UndecodableRecord."""
    value = json_value(reply.result, what)
    if not isinstance(value, dict):
        raise UndecodableRecord(
            f"{what} is a {type(value).__name__} where an object belongs: is the engine of another release?"
        )
    return value


def description(raw: JsonObject) -> RunDescription:
    """A `describe` answer."""
    return RunDescription(
        workflow_id=str(raw["workflow_id"]),
        run_id=str(raw["run_id"]),
        workflow_type=str(raw["workflow_type"]),
        version=int(raw["version"]),
        status=str(raw["status"]),
        started_at_ms=int(raw["started_at_ms"]),
        closed_at_ms=int(raw.get("closed_at_ms") or 0),
        seq=int(raw["seq"]),
        steps_done=int(raw.get("steps_done") or 0),
        why=str(raw.get("why") or ""),
        pending_steps=tuple(_pending_step(step) for step in raw.get("pending_steps") or ()),
        raw=raw,
        memo=raw.get("memo"),
        attributes=raw.get("attributes") or {},
        summary=str(raw.get("summary") or ""),
        current_summary=str(raw.get("current_summary") or ""),
        maps=tuple(_map_progress(one) for one in raw.get("maps") or ()),
        run_timeout_ms=int(raw.get("run_timeout_ms") or 0),
        run_ends_at_ms=int(raw.get("run_ends_at_ms") or 0),
        execution_ends_at_ms=int(raw.get("execution_ends_at_ms") or 0),
        **_relatives(raw),
    )


def _relatives(raw: JsonObject) -> dict[str, Any]:
    parent, untaken, refused = raw.get("parent"), raw.get("untaken_signals"), raw.get("rejections", ())
    return {
        "parent": (str(parent["workflow_id"]), str(parent["run_id"]), str(parent["step"])) if parent else None,
        "previous_run_id": str(raw.get("previous_run_id") or ""),
        "next_run_id": str(raw.get("next_run_id") or ""),
        "forked_upto": int(raw.get("forked_upto") or 0),
        "forks": tuple(Fork(**one) for one in raw.get("forks") or ()),
        "children": tuple(Child(**one) for one in raw.get("children") or ()),
        "untaken_signals": None if untaken is None else tuple(UntakenSignal(**one) for one in untaken),
        "rejections": None if refused is None else tuple(map(rejection_view, refused)),
    }


def rejection_view(raw: JsonObject) -> Rejection:
    """A refused command."""
    run_id, command_id = str(raw.get("run_id") or ""), str(raw["command_id"])
    return Rejection(int(raw["at_ms"]), str(raw["code"]), str(raw["message"]), run_id, command_id)


def _map_progress(raw: JsonObject) -> MapProgress:
    return MapProgress(str(raw["name"]), str(raw["call_site"]), int(raw["done"]), int(raw["failed"]), int(raw["total"]))


def _pending_step(raw: JsonObject) -> PendingStep:
    return PendingStep(
        step=str(raw["step"]),
        name=str(raw["name"]),
        state=str(raw["state"]),
        attempt=int(raw["attempt"]),
        since_ms=int(raw.get("since_ms") or 0),
        next_at_ms=int(raw.get("next_at_ms") or 0),
        failure=failure_text(raw.get("failure")),
    )


def failure_text(raw: Any) -> str:
    """A failure on one line: `type: message`."""
    if not isinstance(raw, dict):
        return str(raw or "")
    return ": ".join(part for part in (str(raw.get("type") or ""), str(raw.get("message") or "")) if part)


def history_event(raw: JsonObject) -> HistoryEvent:
    """An entry of a `history` answer."""
    copied_at_ms = int(raw.get("copied_at_ms") or 0)
    return HistoryEvent(int(raw["seq"]), str(raw["type"]), int(raw["at_ms"]), raw.get("body") or {}, raw, copied_at_ms)


def run_summary(raw: JsonObject) -> RunSummary:
    """An entry of a `list` answer."""
    return RunSummary(
        str(raw["workflow_id"]),
        str(raw["run_id"]),
        str(raw.get("workflow_type") or ""),
        str(raw["status"]),
        int(raw.get("started_at_ms") or 0),
        raw,
        raw.get("attributes") or {},
        str(raw.get("current_summary") or raw.get("summary") or ""),
        int(raw.get("version") or 0),
    )
