"""The bounds of `make walls`: what is beyond one is named, and is an exit code."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.walls import BOUNDS, FLAT_FROM, broken

WITHIN: dict[str, Any] = {"steps": FLAT_FROM} | dict.fromkeys(BOUNDS, 1.0)


def test_figures_within_their_bounds_break_nothing() -> None:
    assert broken(WITHIN, BOUNDS) == {}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_figure_beyond_its_bound_is_named(name: str) -> None:
    beyond = BOUNDS[name] + 1
    assert broken(WITHIN | {name: beyond}, BOUNDS) == {name: f"{beyond} > {BOUNDS[name]}"}


def test_a_short_run_says_nothing_about_flatness() -> None:
    assert broken(WITHIN | {"steps": FLAT_FROM - 1, "flat": 9.0}, BOUNDS) == {}


def test_what_was_not_measured_is_not_judged() -> None:
    assert broken({"fair_delay_beside_asking_ms_max": 5.0}, BOUNDS) == {}
