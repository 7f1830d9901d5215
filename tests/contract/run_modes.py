"""`make modes`: the contract's suite in every engine mode; the last line is one JSON object, per mode passed, failed,
skipped.

`--ci` runs the modes that every CI runs beside the default one. Exit code 1 when a test failed in any mode.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from tests.contract.modes import MODES

SUITE = "tests/contract"


def counts(report: Path) -> dict[str, int]:
    """What pytest's report says."""
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    ran, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return {"passed": ran - skipped - failed, "failed": failed, "skipped": skipped}


def run(mode: str, scratch: Path) -> dict[str, int]:
    """The suite in one mode."""
    report = scratch / f"{mode}.xml"
    print(f"== {mode}: {MODES[mode].what}", flush=True)
    words = [sys.executable, "-m", "pytest", "-q", SUITE, "--mode", mode, f"--junitxml={report}"]
    code = subprocess.run(words, check=False).returncode
    return counts(report) if report.exists() else {"passed": 0, "failed": 1, "skipped": 0, "exit": code}


def main() -> int:
    """Run the modes and print what came of them."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--ci", action="store_true", help="those of CI alone, but the default one")
    ci = given.parse_args().ci
    chosen = [name for name, mode in MODES.items() if not ci or (mode.in_ci and name != "default")]
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: run(name, Path(scratch)) for name in chosen}
    print(json.dumps(found))
    return int(any(result["failed"] for result in found.values()))


if __name__ == "__main__":
    sys.exit(main())
