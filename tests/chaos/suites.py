"""Classes whose faults are tests already: a turn runs them again with another seed, and a test that passed is a fault
that fired."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree

from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults.campaign import ROOT


def suite(fault: str, *paths: str) -> Callable[[Seat, Tally], None]:
    """Turns of these tests."""

    def play(seat: Seat, tally: Tally) -> None:
        """Run them all, to the first that fails."""
        report = seat.directory / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-x", *paths, "--seed", str(seat.seed % 2**32)]
        done = subprocess.run(
            [*words, f"--junitxml={report}"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if not report.exists():
            tally.anomalies.append(f"{' '.join(paths)} did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
            return
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            name = f"{case.attrib['classname']}::{case.attrib['name']}"
            if case.find("skipped") is not None:
                tally.notes.append(f"{name} was skipped")
            elif (wrong := case.find("failure")) is not None or (wrong := case.find("error")) is not None:
                tally.anomalies.append(f"{name}: {(wrong.text or '')[-2000:]}")
            else:
                tally.faults[fault] += 1

    return play


PLUGS = (
    Plug("hole", suite("delayed end of a transaction", "tests/faults/test_hole.py", "tests/faults/test_hole_engine.py"),
         ("delayed end of a transaction",), 1.0, 40.0),
    Plug("code", suite("code that ends or blocks its process", "tests/engine/test_poison_code.py",
                       "tests/engine/test_careful.py"), ("code that ends or blocks its process",), 0.5, 120.0),
    Plug("state", suite("disk or checkpoint that fails", "tests/faults/test_disks.py",
                        "tests/faults/test_checkpoint_kills.py"), ("disk or checkpoint that fails",), 0.5, 120.0),
    Plug("storm", suite("owners in a storm", "tests/faults/test_storm.py"), ("owners in a storm",), 0.5, 90.0),
    Plug("sabotage", suite("switch that is noticed", "tests/sabotage"), ("switch that is noticed",), 0.5, 60.0),
)  # fmt: skip
