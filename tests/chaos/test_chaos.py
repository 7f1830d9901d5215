"""The campaign's frame: slices are gone on from and merged; what fails or never fires is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.frame import GOALS, Campaign, Slice, Turn, merge, sound, tally_of
from tests.chaos.plugs import Plug, all_plugs
from tests.chaos.tally import Tally
from tests.faults.campaign import ROOT

pytestmark = pytest.mark.slow


def chaos(*words: str) -> tuple[int, dict[str, Any], list[str]]:
    """The command: its exit code, its last line, and the lines before."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    *lines, last = done.stdout.splitlines()
    return done.returncode, json.loads(last), lines


def test_two_slices_and_their_sum(tmp_path: Path) -> None:
    plugs = all_plugs()
    Campaign(tmp_path, {"simulation": plugs["simulation"]}, 7, 0.004).slice(5, 1)
    words = ("--directory", str(tmp_path), "--scale", "0.004", "--turns", "1", "--seed", "8")
    code, said, lines = chaos(*words, "--classes", "simulation")
    assert code == 0, said
    assert "seed 8" in lines[0]
    assert any("--turn simulation --seed" in line for line in lines), "how to repeat a turn"
    slices = [json.loads(path.read_text("utf-8")) for path in sorted(tmp_path.glob("slice-*.json"))]
    assert [one["seed"] for one in slices] == said["seeds"] == [7, 8]
    assert len({turn["seed"] for one in slices for turn in one["turns"]}) == said["turns"] == 2
    assert said["faults"]["simulation"]["simulated course"] == 2 * 4
    assert {"commit", "kafka", "librdkafka", "python"} <= slices[0]["versions"].keys()
    # A class that had no turn fails the campaign, however clean the others were.
    merged = merge({name: plugs[name] for name in ("simulation", "flow")}, slices)
    assert merged["classes_never_fired"] == ["flow"]
    assert not sound(merged)


def made(tmp_path: Path, *turns: Turn) -> Campaign:
    """A campaign of one slice."""
    campaign = Campaign(tmp_path, {name: Plug(name, lambda seat, tally: None, ("boom",)) for name in "ab"}, 1)
    Slice(campaign, 1, [], list(turns))._write()
    return campaign


def test_every_finding_fails_the_campaign_and_names_its_turn(tmp_path: Path) -> None:
    fired = Tally(kills=1_000, runs=50_000, steps=500_000)
    fired.faults["boom"] = 3
    wrong = Tally(lost=1, anomalies=["lost write: w0: gone"])
    campaign = made(tmp_path, Turn("a", 5, 1.0, fired), Turn("b", 6, 2.0, wrong))
    merged = merge(campaign.plugs, campaign.reports())
    assert (merged["lost"], merged["anomalies"], merged["failed_turns"]) == (1, 1, ["--turn b --seed 6"])
    assert merged["faults_never_fired"] == ["b: boom"]
    assert not merged["short_of_goals"]
    assert GOALS.keys() <= merged.keys()
    assert not sound(merged)
    wrong.lost, wrong.anomalies = 0, []
    campaign = made(tmp_path, Turn("a", 5, 1.0, fired), Turn("b", 6, 2.0, wrong))
    assert not sound(merge(campaign.plugs, campaign.reports())), "a fault that was announced never fired"
    wrong.faults["boom"] += 1
    campaign = made(tmp_path, Turn("a", 5, 1.0, fired), Turn("b", 6, 2.0, wrong))
    assert sound(merge(campaign.plugs, campaign.reports()))


def test_slices_of_several_directories_are_added_up(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "other")):
        (tmp_path / name).mkdir()
        made(tmp_path / name, Turn("a", number, 1.0, Tally(kills=1, runs=2, steps=3)))
    code, said, _ = chaos("--classes", "simulation", "--merge", str(tmp_path / "one"), str(tmp_path / "other"))
    assert (said["slices"], said["kills"], said["runs"], said["steps"]) == (2, 2, 4, 6)
    assert said["versions"]["commit"], "of what code the figures are"
    assert code == 1, "simulation never fired"


def test_the_class_furthest_behind_its_share_that_still_fits_is_next(tmp_path: Path) -> None:
    long = Plug("long", lambda seat, tally: None, (), share=3.0, takes_s=100)
    short = Plug("short", lambda seat, tally: None, (), share=1.0, takes_s=10)
    campaign = Campaign(tmp_path, {plug.name: plug for plug in (long, short)}, 1)
    turns = [Turn("long", 0, 100.0, Tally()), Turn("short", 1, 50.0, Tally())]
    assert campaign.next([], 200.0) is long
    assert campaign.next([], 99.0) is short
    assert campaign.next([], 9.0) is None
    assert campaign.next(turns, 200.0) is long
    assert campaign.next(turns, 60.0) is short
    assert campaign.next(turns, 40.0) is None, "the short one was measured, and takes longer than it said"


@pytest.mark.parametrize(("code", "what"), [(-9, "did not end in time"), (1, "ended with code 1")])
def test_a_turn_that_dies_is_an_anomaly(tmp_path: Path, code: int, what: str) -> None:
    (tmp_path / "said").write_text("no such thing", encoding="utf-8")
    (found,) = tally_of(tmp_path, code).anomalies
    assert what in found
    assert "no such thing" in found


@pytest.mark.parametrize("plug", all_plugs().values(), ids=all_plugs())
def test_classes_say_what_they_bring_about(plug: Plug) -> None:
    assert plug.faults
    assert plug.share > 0
    assert plug.takes_s <= 600
    assert plug.play.__doc__
