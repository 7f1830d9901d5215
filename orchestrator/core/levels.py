"""The feature level of a log: what may stand in it (docs/adr/0025-the-level-in-force.md).

A release reads and can write every level up to its own, `LEVEL`. It writes the level *in force*: a partition's is that
of its last footer, in a new log one below the release's own. So the release before it reads whatever it writes, and a
rollback is safe, until `orchestrator upgrade finalize` raises the level in force by an event of every partition.
"""

from __future__ import annotations

from .rows import PositionRow

LEVEL = 1
"""The highest level that this release reads and can write."""


def in_force(position: PositionRow | None) -> int:
    """What a partition is written at, by the footer that its state reflects."""
    return position.level if position is not None else max(1, LEVEL - 1)


def beyond(level: int) -> str:
    """Why this release cannot read what was written at a level; "" if it can."""
    if level <= LEVEL:
        return ""
    return (
        f"level {level} is in force, this release reads up to level {LEVEL}: `orchestrator upgrade finalize` was run"
        " with a newer release, and there is no way back; upgrade before reading on (`orchestrator upgrade status`"
        " names the owners' releases)"
    )
