"""I9: nothing a fenced producer wrote is visible."""

from __future__ import annotations

import pytest

from orchestrator.log.ports import Fenced, Lanes
from tests.invariants.load import Load

ZOMBIE = b"written by a zombie"


def write(lanes: Lanes) -> None:
    """One transaction through whichever lane is next."""
    lanes.begin([(b"key", ZOMBIE)])
    lanes.commit()


def test_i9_nothing_a_fenced_producer_wrote_is_visible(load: Load) -> None:
    log = load.site.log(load.app.name)
    zombie = log.lanes(0)
    zombie.init()
    zombie.begin([(b"key", ZOMBIE)])
    engine = load.engine()
    load.run(3)
    with pytest.raises(Fenced):
        zombie.commit()
    with pytest.raises(Fenced):
        write(zombie)
    zombie.close()
    load.run(2)
    engine.stop(1.0)
    shown = [raw.value for records in load.records("events").values() for raw in records]
    on_log = [raw.value for records in load.records("events", committed=False).values() for raw in records]
    assert ZOMBIE not in shown
    assert ZOMBIE in on_log, "the zombie never wrote: the test shows nothing"
    assert load.judge()["aborted_records"] >= 1
    log.close()


def test_i9_every_lane_is_fenced_not_only_the_one_in_use(load: Load) -> None:
    log = load.site.log(load.app.name)
    zombie = log.lanes(0)
    zombie.init()
    engine = load.engine()
    load.run(3)
    for _ in zombie.names:
        with pytest.raises(Fenced):
            write(zombie)
    zombie.close()
    engine.stop(1.0)
    assert ZOMBIE not in [raw.value for records in load.records("events").values() for raw in records]
    log.close()
