"""I12: with the key passed on, an external effect happens once."""

from __future__ import annotations

from orchestrator.core import events as e
from tests.invariants.load import Load


def test_i12_with_the_key_passed_on_an_effect_happens_once(load: Load) -> None:
    load.fail_commits(seed=12)
    engine = load.engine()
    load.run(3)
    # A step that is cut off in the middle of its effect runs again at the next owner, under the same key.
    load.hold.clear()
    load.start("cut", load.holds, 77)
    load.wait_for(e.StepScheduled, "cut")
    while not any(key.startswith("cut/") for key in load.receipts):
        load.site.wait(0.01)
    engine = load.take_over(engine, grace_s=0.0)
    while sum(key.startswith("cut/") for key in load.receipts) < 2:
        load.site.wait(0.01)
    load.hold.set()
    assert load.result("cut") == b"77"
    load.heal()
    engine.stop(1.0)
    sent = [key for key in load.receipts if key.startswith("cut/")]
    assert len(sent) >= 2, "the step never ran twice: the test shows nothing"
    assert len(set(sent)) == 1
    steps = {(event.workflow_id, event.run_id, f"{event.body.path}:{event.body.n}")
             for event in load.events() if isinstance(event.body, e.StepScheduled)}  # fmt: skip
    assert len(load.effects) == len(steps)
    assert load.effects[sent[0]] == 77
