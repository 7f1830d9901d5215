"""I1: no (workflow, run, step) has two committed results."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from tests.invariants.load import Load

pytestmark = pytest.mark.slow


def test_i1_no_step_has_two_committed_results(load: Load) -> None:
    load.fail_commits(seed=1)
    engine = load.engine()
    load.run(3)
    engine = load.take_over(engine)
    load.run(3)
    # What was recorded is reported again, as a zombie would.
    for event in [event for event in load.events() if isinstance(event.body, e.StepCompleted)][:10]:
        body = event.body
        assert isinstance(body, e.StepCompleted)
        token = f"{event.run_id}/{body.step}/{body.attempt}"
        again = c.ReportStep(event.run_id, body.step, body.attempt, token, Payload(data=b"0"))
        assert load.ask(event.workflow_id, again).code == "stale_attempt"
    load.heal()
    engine.stop(1.0)
    ends = (e.StepCompleted, e.StepFailed, e.StepCancelled)
    results = Counter(
        (event.workflow_id, event.run_id, event.body.step) for event in load.events() if isinstance(event.body, ends)
    )
    scheduled = len(load.bodies(e.StepScheduled))
    assert set(results.values()) == {1}
    assert len(results) == scheduled == load.judge()["step_results"]
