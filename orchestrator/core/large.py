"""Which payloads may lie beside the log, as blobs (docs/adr/0031-every-users-value-may-be-a-blob.md).

What the engine itself has to read, or shows to people, stays in its record: memos, attributes, what is waited for,
application-wide events, what is to be approved, schedules, and the details of errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from . import commands as c, events as e, tasks as t
from .values import BlobRef, Payload

FIELDS: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {
        c.StartWorkflow: ("arguments", "signal_payload"),
        c.SignalWorkflow: ("payload",),
        c.UpdateWorkflow: ("payload",),
        c.ForkWorkflow: ("arguments",),
        c.HeartbeatStep: ("details",),
        c.ReportStep: ("result",),
        c.ResolveStep: ("result",),
        c.ReportChild: ("result",),
        c.ScheduleStep: ("arguments",),
        c.StartChild: ("arguments",),
        c.SendSignal: ("payload",),
        c.CompleteUpdate: ("result",),
        c.ChangeEntity: ("state",),
        c.CompleteRun: ("result",),
        c.ContinueAsNew: ("arguments",),
        e.RunStarted: ("arguments",),
        e.StepScheduled: ("arguments",),
        e.StepHeartbeat: ("details",),
        e.StepCompleted: ("result",),
        e.SignalReceived: ("payload",),
        e.UpdateAccepted: ("payload",),
        e.UpdateCompleted: ("result",),
        e.ChildScheduled: ("arguments",),
        e.ChildCompleted: ("result",),
        e.SignalSent: ("payload",),
        e.EntityAdmitted: ("state",),
        e.EntityChanged: ("state",),
        e.RunCompleted: ("result",),
        e.RunContinuedAsNew: ("arguments",),
        e.DeadLettered: ("value",),
        t.TaskOffer: ("arguments", "details"),
        t.Reply: ("result",),
    }
)
"""By kind of record, its payloads that may be blobs."""

SEEN_BY_CODE = frozenset(
    {
        *(e.RunStarted, e.StepCompleted, e.SignalReceived, e.UpdateAccepted, e.ChildCompleted, e.EntityAdmitted),
        *(e.StepScheduled, e.ChildScheduled, e.EntityChanged),
    }
)
"""Events whose payloads workflow code gets, or a replay compares with what the code does now."""


def named(body: Any) -> Iterator[tuple[str, BlobRef]]:
    """The blobs that a record names, with the field that does."""
    for at, value in enumerate(body):
        if type(value) is Payload and value.blob is not None:
            yield body._fields[at], value.blob
