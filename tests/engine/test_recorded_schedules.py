"""A schedule that an earlier release recorded is folded and fires as it says, though it could not be made any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.core import calendars, commands as c, events as e
from orchestrator.core.calendars import Interval, ScheduleSpec
from orchestrator.core.schedules import PREFIX, ScheduleAction
from tests.engine.rig import Rig

OFTEN = c.CreateSchedule(ScheduleSpec(intervals=(Interval(40),)), ScheduleAction("quick"))


def test_an_interval_below_the_least_goes_on_if_it_is_recorded(rig: Callable[[Orchestrator], Rig]) -> None:
    app = Orchestrator("recorded")

    @app.workflow(name="quick")
    async def quick() -> int:
        return 1

    one = rig(app)
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(calendars, "LEAST_INTERVAL_MS", 1)
        engine = one.engine()
        one.accepted(f"{PREFIX}often", OFTEN)
        one.wait_for(e.ScheduleFired, f"{PREFIX}often", 2)
        engine.stop(1.0)
    fired = len(one.bodies(e.ScheduleFired))
    # The state is folded anew from the log.
    one.engine(stores={})
    one.wait_for(e.ScheduleFired, f"{PREFIX}often", fired + 2)
    again = one.ask(f"{PREFIX}again", OFTEN)
    assert (again.outcome, again.code) == ("rejected", "bad_request")
