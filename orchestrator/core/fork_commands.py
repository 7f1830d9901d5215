"""The command that lets a run go on from a point of its history."""

from __future__ import annotations

from typing import NamedTuple

from .values import NOTHING, Payload


class ForkWorkflow(NamedTuple):
    """Go on as a new run of the same workflow id from before a step (its id or name), after an event, or, with neither,
    from where the run failed. `arguments` NOTHING: as they were. `signals`: those that came later are kept."""

    run_id: str = ""
    step: str = ""
    event: int = 0
    arguments: Payload = NOTHING
    signals: bool = False
