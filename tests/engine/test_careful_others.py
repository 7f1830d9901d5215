"""While an owner is careful with many runs, others are served in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.engine import loop
from tests.engine.rig import Rig, kill

pytestmark = pytest.mark.slow

Make = Callable[..., Rig]

app = Orchestrator("others")
go = app.signal("go", int)
wake = app.signal("wake", bool)
DOUBTFUL = 60


@app.workflow
async def tells() -> None:
    """Its first turn after the take-over sends something that comes back as a command."""
    await wake.wait()
    go.send("listens", 1)


@app.workflow
async def listens(count: int) -> int:
    return sum([await go.wait() for _ in range(count)])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_commands_and_timers_do_not_wait_for_the_last_doubtful_run(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CAREFUL_S", 0.0)
    one = rig(app, 1)
    engine = one.engine()
    one.start("listens", listens, DOUBTFUL)
    for number in range(DOUBTFUL):
        one.start(f"w{number}", tells)
    kill(engine)
    for number in range(DOUBTFUL):
        one.send(f"w{number}", c.SignalWorkflow("wake", Payload(data=b"true")))
    one.engine()
    assert one.result("listens") == str(DOUBTFUL).encode()
    events = [event for event in one.events() if event.claim_no > 1]
    attempts = [at for at, event in enumerate(events) if isinstance(event.body, e.TurnAttempted) and event.body.attempt]
    assert len(attempts) == DOUBTFUL + 1
    heard = [at for at, event in enumerate(events) if event.workflow_id == "listens" and is_signal(event)]
    # How many turns in doubt had been announced when each came.
    between = {sum(attempt < at for attempt in attempts) for at in heard}
    assert len(between) > DOUBTFUL // 10, "they came when all doubtful runs were through"


def is_signal(event: e.Event) -> bool:
    """Whether a signal was recorded."""
    return isinstance(event.body, e.SignalReceived)
