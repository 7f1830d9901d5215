"""Asking where threads are must not stop them (CPython 3.11: a collection meanwhile could stop the process)."""

from __future__ import annotations

import gc
import subprocess
import sys
from types import FrameType

import pytest

from orchestrator.sdk import debugger


def test_frames_are_asked_for_without_a_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def frames() -> dict[int, FrameType]:
        seen.append(gc.isenabled())
        return {}

    assert gc.isenabled()
    monkeypatch.setattr(sys, "_current_frames", frames)
    debugger.debugged()
    assert seen in ([False], [])  # []: a tracer of this very run was found first
    assert gc.isenabled()


def test_who_collects_not_at_all_is_left_so() -> None:
    gc.disable()
    try:
        debugger.debugged()
        assert not gc.isenabled()
    finally:
        gc.enable()


WALKS = """
import gc, os, sys, threading, time
from orchestrator.sdk.debugger import debugged

sys.setswitchinterval(1e-6)
gc.callbacks.append(lambda *_: time.sleep(0))
gc.set_threshold(1)

def deep(left):
    return deep(left - 1) if left else [object() for _ in range(3)]

def work():
    while True:
        deep(900)

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
for _ in range(500):
    debugged()
os._exit(0)
"""
"""Threads go up and down their stacks, and every collection gives the GIL away, as the callbacks of engines may."""


@pytest.mark.slow
def test_no_thread_goes_on_under_who_walks_its_frames() -> None:
    """It died of SIGSEGV within a hundred looks: `f_back` makes an object, which collects, of a frame that is gone."""
    assert subprocess.run([sys.executable, "-c", WALKS], timeout=300, check=False).returncode == 0
