"""A run is replayed in pieces, and so is its history read: one whose turns are far apart holds nobody up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.core import events as e
from orchestrator.core.commands import StartWorkflow
from orchestrator.engine import turns
from orchestrator.engine.options import EngineOptions
from tests.engine.rig import Rig

Make = Callable[..., Rig]

SIGNALS, PAGE = 200, 20

app = Orchestrator("in-pieces")
go = app.signal("go", int)


@app.workflow
async def listens(signals: int) -> int:
    """Its turns issue nothing: only the history's end tells that the first of them is whole."""
    return sum([await go.wait() for _ in range(signals)])


@app.workflow
async def passes() -> int:
    """Somebody else's run."""
    return 1


def test_others_are_served_while_a_history_is_read(rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig(app, 1)
    engine = one.engine()
    one.start("w", listens, SIGNALS)
    for _ in range(SIGNALS - 1):
        one.signal("w", "go", b"1")
    engine.stop()
    monkeypatch.setattr(turns, "REPLAY_S", -1.0)
    monkeypatch.setattr(turns, "HISTORY_PAGE", PAGE)
    cut: list[bool] = []
    whole = turns.Turns.next

    def watched(self: turns.Turns, view: Any, key: turns.RunKey, *args: Any) -> turns.Taken | None:
        taken = whole(self, view, key, *args)
        if key[0] == "w":
            cut.append(self.replaying(key))
        if len(cut) == 3:
            # Amid the replay: it is answered before the other's history was read to its end.
            one.send("other", StartWorkflow("passes", passes.code.signature.bind((), {})))
        return taken

    monkeypatch.setattr(turns.Turns, "next", watched)
    one.engine(EngineOptions(batch_ms=0))
    one.signal("w", "go", b"1")
    assert one.result("w") == str(SIGNALS).encode()
    assert cut.count(True) > SIGNALS // PAGE
    ended = [event.workflow_id for event in one.events() if isinstance(event.body, e.RunCompleted)]
    assert ended == ["other", "w"]
