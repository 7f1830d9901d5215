"""I11: a bug stops its own run alone; a poisoned message delays no other."""

from __future__ import annotations

import time

from orchestrator.core import events as e
from orchestrator.engine.options import EngineOptions
from tests.invariants.load import Load


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


def test_i11_a_poisoned_message_delays_no_other_by_more_than_a_second(load: Load) -> None:
    engine = load.engine()
    load.run(1)
    for number in range(load.site.partitions):
        for _ in range(10):
            load.send_raw(b"poison", b"\xff" * 1_000, number)
    began = time.monotonic()
    load.start("after", load.naps, 0, 0)
    assert time.monotonic() - began < 5, "ten poisoned messages held up the command behind them"
    engine.stop(1.0)
