"""Steps that ask for a thread get one, others a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.worker.loading import load_app
from orchestrator.worker.routing import RoutedExecutor
from orchestrator.worker.threads import ThreadExecutor

from .conftest import MakeRig
from .rig import APP, lines, until

pytestmark = pytest.mark.slow


def test_each_step_goes_where_it_asks(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(guarded_slots=1)
    threads = ThreadExecutor(load_app(APP), ExecutorOptions(), rig)
    rig.executor = RoutedExecutor(rig.executor, threads, lambda name: name in ("whoami", "hold"))
    assert rig.result(rig.start("whoami")) == os.getpid()
    assert rig.result(rig.start("blocking_whoami")) != os.getpid()

    guarded = rig.call("whoami", "park")
    rig.reserve(guarded.token)
    assert not rig.executor.slot_free()
    assert rig.executor.start(guarded)
    assert rig.result(guarded) == os.getpid()
    assert rig.executor.slot_free()

    gate = tmp_path / "gate"
    held = [rig.start("hold", file=str(gate)), rig.start("blocking_hold", file=str(gate))]
    until(lambda: len(lines(gate)) == 2, "both to begin")
    assert rig.executor.running() == {call.token for call in held}
    assert not any(rig.executor.waiting(call.token) for call in held)
    rig.executor.cancel(held[0].token)
    assert rig.outcome(held[0]).failure is not None
    assert rig.executor.stop(0.1) == {held[1].token}
