"""Commands that are not decided as others are: they met a defect of ours, or their answer is to go astray."""

from __future__ import annotations

from ..core.values import ReplyTo
from ..log.ports import Wire

MOST_PARTITIONS = 1 << 20


class PoisonedInput(Exception):
    """A command met a defect of ours. The claim ends, and with the next one the command is a dead letter."""


class Poisoned(dict[int, str]):
    """Commands whose decision failed in this process, by offset, and how."""

    def note(self, wire: Wire, error: Exception) -> PoisonedInput:
        """What it has changed so far cannot be told from what others did in its batch: what to end the claim with."""
        reason = self[wire.offset] = f"a defect of the engine: {type(error).__name__}: {error}"
        return PoisonedInput(f"{wire.topic}/{wire.partition} offset {wire.offset}: {reason}")


def astray(app: str, reply_to: ReplyTo | None) -> str:
    """Why an answer may not go there: on any other topic it would be a foreign record, in the log itself even."""
    if reply_to is None or (reply_to.topic == f"{app}.replies" and 0 <= reply_to.partition < MOST_PARTITIONS):
        return ""
    return f"its answer is to go to {reply_to.topic}/{reply_to.partition}: answers go to a partition of {app}.replies"
