"""Simulated seeds, 2,000 of them; a failure names the command that repeats it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.engine import sabotage
from tests.simulation import __main__ as command_line
from tests.simulation.course import POINTS, Course, Wrong
from tests.simulation.judging import judge
from tests.simulation.running import Tally, quietly, run_many, run_seed

pytestmark = pytest.mark.slow

PARTS = 4
SEEDS = 2_000
ENOUGH = 2_000
"""Seeds within which a safeguard that is missing must be noticed."""
ALIKE = 30


@pytest.fixture
def safe() -> Iterator[None]:
    """Whatever is switched off is on again."""
    yield
    sabotage.install()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_no_seed_loses_or_doubles_anything(seed: int, part: int) -> None:
    """Every course ends, and the oracle, the fold of the log and the meaning of every plan agree with it."""
    each = SEEDS // PARTS
    found = run_many(seed % 1_000_000 * SEEDS + part * each, each)
    print(found)
    assert found.seeds == each
    assert found.faults > each
    assert found.events > each


@pytest.mark.parametrize("failed_once", [1_470_994_495])
def test_a_seed_that_failed_once_fails_no_more(failed_once: int) -> None:
    """1470994495: fenced while it was asked to leave, a partition looked owned while it looked who had fenced it."""
    with quietly():
        run_seed(failed_once)


@pytest.mark.parametrize("point", POINTS)
def test_a_process_may_die_at_every_point(seed: int, point: str) -> None:
    """And the course goes on to its end all the same."""
    first = seed % 1_000_000 * SEEDS
    with quietly():
        for number in range(first, first + ENOUGH):
            course = Course(number)
            weather = course.weather
            weather.focus, weather.focused, weather.most = point, 0.7, 6
            # A turn is taken with care only after somebody died; elsewhere that would use up what may go wrong.
            weather.death = 0.03 if point == "careful" else 0.0
            try:
                course.run()
                judge(course)
            finally:
                course.close()
            if course.told[f"died at {point}"]:
                return
    raise AssertionError(f"in {ENOUGH} seeds from {first} no process died at {point}")


@pytest.mark.slow
@pytest.mark.parametrize("switch", sabotage.SWITCHES)
def test_a_missing_safeguard_is_noticed(safe: None, switch: str) -> None:
    """The same seeds pass with the safeguard: see the test above, and the campaign."""
    sabotage.install(switch)
    with pytest.raises(Wrong, match=r"repeat with: python -m tests\.simulation --seed \d+"):
        run_many(0, ENOUGH)


# -- a seed is all that there is -------------------------------------------------------------------------------------


def _in_another_process(hash_seed: int) -> str:
    arguments = ["--seeds", str(ALIKE), "--digest"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    found: str = json.loads(ended.stdout.splitlines()[-1])["logs"]
    return found


def test_a_seed_gives_the_same_bytes_again() -> None:
    """In this process, and in others in which every set has another order."""
    here = [run_many(0, ALIKE, hashed=True).logs for _ in range(2)]
    assert here[0] == here[1]
    assert {_in_another_process(1), _in_another_process(2)} == {here[0]}


def test_two_seeds_give_two_logs() -> None:
    assert run_many(0, 1, hashed=True).logs != run_many(1, 1, hashed=True).logs


# -- the command -----------------------------------------------------------------------------------------------------


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["simulation", *arguments])
    return command_line.main()


def test_a_campaign_goes_on_where_its_report_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = str(tmp_path / "report.json")
    assert _run(monkeypatch, "--from", "7", "--seeds", "2", "--digest", "--report", report) == 0
    assert _run(monkeypatch, "--seeds", "5", "--digest", "--report", report) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["from"], said["seeds"], said["failed"]) == (7, 5, [])
    assert said["logs"] == run_many(7, 5, hashed=True).logs
    assert json.loads(Path(report).read_text(encoding="utf-8")) == said


def test_a_seed_that_fails_is_told_and_named(
    safe: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sabotage.install("no_footer_check")
    assert _run(monkeypatch, "--seeds", "3") == 1
    *_, named, last = capsys.readouterr().out.splitlines()
    failed = json.loads(last)["failed"]
    assert named == f"python -m tests.simulation --seed {failed[-1]}"
    assert _run(monkeypatch, "--seed", str(failed[-1])) == 1
    assert "PartitionClaimed 1 by host-" in capsys.readouterr().out
    sabotage.install()
    assert _run(monkeypatch, "--seed", str(failed[-1])) == 0


def test_a_course_that_fails_counts_too(safe: None) -> None:
    sabotage.install("no_footer_check")
    tally = Tally()
    with pytest.raises(Wrong), quietly():
        run_seed(0, tally)
    assert (tally.seeds, tally.events) == (1, 0)
    assert tally.moves
