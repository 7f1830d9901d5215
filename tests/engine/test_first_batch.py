"""Owners that come and go quickly: each takes what was there when it came."""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrator import Orchestrator, failpoints
from orchestrator.core import commands as c, events as e
from tests.engine.rig import Rig, until

app = Orchestrator("hasty")


@app.workflow
async def word() -> str:
    return "done"


def test_an_owner_that_has_to_go_before_it_took_a_command_takes_those_that_were_there(
    rig: Callable[[Orchestrator], Rig],
) -> None:
    one = rig(app)
    one.send("w", c.StartWorkflow("word", word.code.signature.bind((), {})))
    claimed, go_on = threading.Event(), threading.Event()

    def hook(point: str) -> None:
        if point == "K22":
            claimed.set()
            assert go_on.wait(20)

    failpoints.watch(hook)
    try:
        engine = one.engine()
        assert claimed.wait(20)
        leaving = threading.Thread(target=engine.stop, args=(20.0,))
        leaving.start()
        until(lambda: all(owned.inbox.request.release for owned in list(engine.partitions.values())))
    finally:
        failpoints.watch(None)
        go_on.set()
    leaving.join()
    assert [body.workflow_type for body in one.bodies(e.RunStarted)] == ["word"]
