"""Commands of runs that the cluster refuses for a while: kept by the engine, and with the log by whoever comes next."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.log.ports import Out
from orchestrator.testing import memory_log
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryOutgoing
from tests.engine.rig import Rig, kill, until

Make = Callable[[Orchestrator], Rig]
Done = Callable[[str], None]
MISSING = "the login engine lacks the right Write on topic kept.commands"


class Guarded(MemoryOutgoing):
    """What a producer does that is refused: commands wait in it, in order, and everything else goes."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(cluster)
        self.may_write = True
        self.kept: list[tuple[Out, Done]] = []

    def send(self, record: Out, done: Done) -> None:
        if self.may_write or not record.topic.endswith(".commands"):
            super().send(record, done)
        else:
            self.kept.append((record, done))

    def refused(self) -> str:
        return MISSING if self.kept else ""

    def allow(self) -> None:
        """The right is there."""
        self.may_write = True
        while self.kept:
            super().send(*self.kept.pop(0))


app = Orchestrator("kept")
word = app.signal("word", str)


@app.workflow
async def younger() -> str:
    return await word.wait()


@app.workflow
async def elder() -> str:
    return await younger.options(id="young")()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("end", ["the right is given", "the engine is stopped", "the engine is killed"])
def test_a_childs_outcome_reaches_its_parent_once_it_may(rig: Make, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(memory_log, "MemoryOutgoing", Guarded)
    one = rig(app)
    engine = one.engine()
    outgoing = engine.log.outgoing()
    assert isinstance(outgoing, Guarded)
    one.start("old", elder)
    one.wait_for(e.ChildStarted, "old")
    outgoing.may_write = False
    one.signal("young", "word", b'"pen"')
    assert one.result("young") == b'"pen"'
    until(lambda: bool(outgoing.kept))
    health = engine.health()
    assert (health.ready, health.started, health.rights) == (False, True, MISSING)
    if end == "the right is given":
        outgoing.allow()
    else:
        engine.stop(1.0) if end == "the engine is stopped" else kill(engine)
        engine = one.engine()
    assert one.result("old") == b'"pen"'
    assert engine.health().rights == "ok"
    assert len(one.bodies(e.ChildCompleted, "old")) == 1
    assert not one.bodies(e.SendFailed)
