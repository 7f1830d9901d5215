"""Which payloads may be blobs: every one that is there is either named, or stays in its record for a reason."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.core.large import FIELDS, SEEN_BY_CODE, named
from orchestrator.core.values import NOTHING, BlobRef, Payload

STAY = {
    "memo": "shown by describe and in lists",
    "match": "the engine compares it with events",
    "request": "a person decides by it, and its digest is what was approved",
    "spec": "the engine reads it",
    "action": "the engine reads it",
    "policy": "the engine reads it",
}
"""Payloads that are never blobs."""
EVENTS_OF_THE_APPLICATION = {
    *(c.SendEvent, c.DeliverEvent, c.PublishEvent),
    *(e.EventSent, e.EventPublished, e.EventDelivered),
}
"""The engine matches their fields; they have a limit of their own."""
QUESTIONS = {c.QueryWorkflow}
"""Not on the log."""


@pytest.mark.parametrize("kind", [*get_args(e.Body), *get_args(c.TopicCommand), *get_args(c.TurnCommand)])
def test_every_payload_of_a_record_has_its_place(kind: type) -> None:
    payloads = {name for name, hint in get_type_hints(kind).items() if hint is Payload}
    here = set(FIELDS.get(kind, ()))
    assert here <= payloads
    if kind not in EVENTS_OF_THE_APPLICATION | QUESTIONS:
        assert payloads - here <= STAY.keys()


def test_what_code_gets_is_among_them() -> None:
    assert FIELDS.keys() >= SEEN_BY_CODE


def test_named_finds_every_blob_with_its_field() -> None:
    ref = BlobRef("memory", "0" * 64, 3)
    there = Payload(data=b"", blob=ref)
    assert list(named(e.SignalReceived("s", there))) == [("payload", ref)]
    # Also where none may be: whoever audits looks at all of them.
    assert list(named(c.StartWorkflow("w", memo=there))) == [("memo", ref)]
    assert list(named(e.SignalReceived("s", NOTHING))) == []
