"""Updates in a run's history: accepted, then completed. A validator's refusal leaves nothing."""

from __future__ import annotations

from typing import NamedTuple

from .values import NOTHING, Actor, Failure, Payload


class UpdateAccepted(NamedTuple):
    """The run's code takes this update; `update` is its id, that of its command. Its handler begins in this turn."""

    update: str
    name: str
    payload: Payload
    actor: Actor = Actor()


class UpdateCompleted(NamedTuple):
    """The handler ended: with `result`, or with `failure`."""

    turn: int
    update: str
    result: Payload = NOTHING
    failure: Failure | None = None
