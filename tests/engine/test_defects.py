"""A defect of ours parks its partition, and its directory is let go of: the next try, in the same process, opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.engine.loop import PartitionLoop
from orchestrator.engine.ownership import Ground
from orchestrator.engine.partition import State
from orchestrator.engine.queries import Queries
from orchestrator.engine.run import Engine
from orchestrator.store.partition_store import open_or_rebuild
from orchestrator.store.rows import Store
from tests.engine.rig import Rig, until

pytestmark = pytest.mark.slow

Make = Callable[[Orchestrator], Rig]
COUNT = 2


class Defect(Exception):
    """What nobody thought of."""


def half_way(store: Store) -> None:
    """Raises in the middle of a scan, whose iterator the traceback holds."""
    for _ in store.scan("meta", ()):
        raise Defect("in the middle of a scan")
    raise AssertionError("there are rows")


def break_(where: str, code: pytest.MonkeyPatch) -> None:
    """From here on a part of the way to a claim has a defect."""
    if where == "the loop is made":
        code.setattr(PartitionLoop, "__init__", lambda self, ground, shared: half_way(ground.store))
    elif where == "begin":
        code.setattr(PartitionLoop, "begin", lambda self: half_way(self.ground.store))
    else:
        code.setattr(Ground, where, lambda self: half_way(self.store))


def all_are(engine: Engine, state: State) -> bool:
    """Whether every partition is in a state."""
    return [partition.state for partition in list(engine.partitions.values())] == [state] * COUNT


@pytest.mark.parametrize("where", ["the loop is made", "restore", "take_over", "begin"])
@pytest.mark.parametrize("twice", [False, True])
def test_a_defect_on_the_way_to_a_claim_leaves_the_directory_to_the_next_try(
    rig: Make, tmp_path: Path, where: str, twice: bool
) -> None:
    """`twice`: what lets go of the partition meets the defect again."""
    one = rig(Orchestrator("defects"))

    def start() -> Engine:
        return one.engine(open_store=lambda number, codec: open_or_rebuild(tmp_path / str(number), codec))

    engine = start()
    until(lambda: all_are(engine, State.OWNED))
    engine.stop(5.0)
    with pytest.MonkeyPatch.context() as code:
        break_(where, code)
        if twice:
            code.setattr(Queries, "dismiss", lambda self: half_way(self._view))
        engine = start()
        until(lambda: all_are(engine, State.PARKED))
        until(lambda: all(partition.join(0.0) for partition in engine.partitions.values()))
        assert {partition.problem for partition in engine.partitions.values()} == {"Defect: in the middle of a scan"}
    for number in range(COUNT):
        # The group takes the partition away, and gives it back.
        engine._revoked([number], False)
        engine._assigned([number])
    until(lambda: all_are(engine, State.OWNED))
