"""The decision to raise the level in force."""

from __future__ import annotations

from .. import levels
from ..commands import ChangeLevel, Command
from ..events import LevelChanged
from .decision import Context, Draft, View, accepted, caused, rejected


def change_level(view: View, command: Command, body: ChangeLevel, context: Context) -> list[Draft]:
    """A higher level, if this release has it; asked again, it is fulfilled already. It never falls."""
    if body.level == context.level:
        return accepted(command, context, "already_changed", f"level {body.level} is in force already", "")
    if body.level < context.level:
        message = (
            f"level {context.level} is in force, and levels never fall: the log may hold what level {body.level} lacks"
        )
        return rejected(command, context, "lower_level", message)
    if body.level > levels.LEVEL:
        message = (
            f"the engine that owns this partition has levels up to {levels.LEVEL}, not {body.level}: deploy the newer"
            " release everywhere first"
        )
        return rejected(command, context, "release_too_old", message)
    return [Draft("", "", LevelChanged(body.level, command.actor, command.reason), caused(command, context))]
