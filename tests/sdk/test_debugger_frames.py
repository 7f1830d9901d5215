"""Asking where threads are must not stop them (CPython 3.11: a collection meanwhile could stop the process)."""

from __future__ import annotations

import gc
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
