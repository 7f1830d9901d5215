"""I11: a bug stops its own run alone; a poisoned message delays no other."""

from __future__ import annotations

import pytest

from orchestrator.core import events as e
from orchestrator.engine.options import EngineOptions
from orchestrator.log.partitioner import partition_of
from tests.invariants.load import Load

pytestmark = pytest.mark.slow


def test_i11_bugs_and_poison_stop_nobody_else(load: Load) -> None:
    @load.app.workflow(name="endless")
    async def endless() -> int:
        while True:
            pass

    @load.app.workflow(name="raises")
    async def raises() -> int:
        raise KeyError("a bug")

    engine = load.engine(EngineOptions(turn_s=0.4))
    load.start("broken", load.breaks)
    load.start("raises", raises)
    load.start("endless", endless)
    for number in range(load.site.partitions):
        load.send_raw(b"poison", b"\xff" * 100, number)
    load.run(3)
    assert load.outcome("broken").code == "failed"
    load.parked("raises")
    load.parked("endless")
    assert [body.kind for body in load.bodies(e.RunParked, "endless")] == ["overlong"]
    assert len(load.wait_for(e.DeadLettered, None, load.site.partitions)) == load.site.partitions
    engine.stop(1.0)


@pytest.mark.contract("bad-input")
def test_i11_a_poisoned_message_holds_up_no_other(load: Load) -> None:
    """Commands behind it are taken in their order under the same claim: nothing is tried again or waited for."""
    engine = load.engine()
    load.run(1)
    for number in range(load.site.partitions):
        for _ in range(10):
            load.send_raw(b"poison", b"\xff" * 1_000, number)
    load.start("after", load.naps, 0, 0)
    here = partition_of(b"after", load.site.partitions)
    bodies = [load.codec.decode_event(raw.key, raw.value).event.body for raw in load.records("events")[here]]
    started = bodies.index(next(body for body in reversed(bodies) if isinstance(body, e.RunStarted)))
    assert sum(isinstance(body, e.DeadLettered) for body in bodies[:started]) == 10
    assert sum(isinstance(body, e.PartitionClaimed) for body in bodies) == 1
    assert not any(isinstance(body, e.RunParked) for body in bodies)
    engine.stop(1.0)
