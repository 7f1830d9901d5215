"""`make modes`: the contract's suite in every engine mode; the last line is one JSON object, per mode passed, failed,
skipped.

`--ci` runs the modes that every CI runs beside the default one. Exit code 1 when a test failed in any mode, or was left
out for a reason that is not in the table of `modes.py`: it counts as failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from tests.contract.modes import MODES, reasons

SUITE = "tests/contract"
AT_ONCE, PROCESSES = 2, 2
"""Modes, and processes of each with brokers of their own: most of what a test does is to wait, for engines and time."""


def counts(report: Path, mode: str) -> dict[str, int]:
    """What pytest's report says. A test that was left out for a reason of its own has failed, and is named."""
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    ran, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    unexplained = list(left_out(suite, mode))
    for name in unexplained:
        print(f"{mode}: {name}", flush=True)
    bad = failed + len(unexplained)
    return {"passed": ran - skipped - failed, "failed": bad, "skipped": skipped - len(unexplained)}


def left_out(suite: ElementTree.Element, mode: str) -> Iterator[str]:
    """Tests that did not run, and their reasons, if the table has none of those."""
    allowed = reasons(mode)
    for case in suite.iter("testcase"):
        for skip in case.iter("skipped"):
            if skip.attrib.get("type") != "pytest.skip" or skip.attrib.get("message") not in allowed:
                said = skip.attrib.get("message") or skip.attrib.get("type")
                yield f"{case.attrib['name']} was left out, and no table says why: {said}"


def run(mode: str, scratch: Path) -> dict[str, int]:
    """The suite in one mode; what it printed is shown when it is over."""
    report, said = scratch / f"{mode}.xml", scratch / f"{mode}.log"
    beside = ["-n", str(PROCESSES), "--dist", "load"]
    words = [sys.executable, "-m", "pytest", "-q", SUITE, "--mode", mode, *beside, f"--junitxml={report}"]
    with said.open("wb") as out:
        code = subprocess.run(words, check=False, stdout=out, stderr=subprocess.STDOUT).returncode
    print(f"== {mode}: {MODES[mode].what}", said.read_text(encoding="utf-8"), sep="\n", flush=True)
    return counts(report, mode) if report.exists() else {"passed": 0, "failed": 1, "skipped": 0, "exit": code}


def main() -> int:
    """Run the modes and print what came of them."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--ci", action="store_true", help="those of CI alone, but the default one")
    ci = given.parse_args().ci
    chosen = [name for name, mode in MODES.items() if not ci or (mode.in_ci and name != "default")]
    print(f"{', '.join(chosen)}: {AT_ONCE} at a time ...", flush=True)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(chosen, pool.map(lambda name: run(name, Path(scratch)), chosen), strict=True))
    print(json.dumps(found))
    return int(any(result["failed"] for result in found.values()))


if __name__ == "__main__":
    sys.exit(main())
