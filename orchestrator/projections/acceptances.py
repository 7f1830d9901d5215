"""What a person accepted of a log, in words."""

from __future__ import annotations

from ..core.events import InputLost, LogAccepted, TopicsAdopted
from ..core.values import Actor


def accepted_words(body: LogAccepted | TopicsAdopted | InputLost, offset: int) -> str:
    """One sentence; `offset` is the record's own."""
    return f"{_what(body)} (offset {offset}, by {_who(body.actor)}: {body.reason or 'no reason given'})"


def _what(body: LogAccepted | TopicsAdopted | InputLost) -> str:
    if isinstance(body, InputLost):
        behind = f"commands {body.from_offset} to {body.to_offset - 1} are lost"
        # Another commands topic may end below what was read of the one before.
        return behind if body.from_offset < body.to_offset else f"commands from {body.from_offset} on are lost"
    if isinstance(body, TopicsAdopted):
        return (
            f"the log goes on in topic {body.events_topic_id} of cluster {body.cluster_id}, commands are read from"
            f" offset {body.input_offset} of {body.commands_topic_id}"
        )
    runs = f"{body.runs_parked} runs were parked, {body.runs_gone} are not on the log"
    return f"{body.wrong}; offsets {body.from_offset} to {body.to_offset - 1} are set aside, {runs}"


def _who(actor: Actor) -> str:
    return f"{actor.kind} {actor.id} ({actor.authn})" if actor.id else actor.kind
