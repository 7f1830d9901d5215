"""The campaign of simulated seeds, and the repetition of one.

`python -m tests.simulation --seeds 100000 [--from N] [--minutes M] [--report FILE]` runs that many; its last line is
one JSON object, and it is also FILE's text. With a FILE of an earlier run it goes on behind that one's last seed.
`python -m tests.simulation --seed N` runs one and tells what happened in it. The exit code is 1 if a seed failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.simulation.course import Wrong
from tests.simulation.running import Tally, quietly, repeat, run_seed, story

SAVED_EVERY = 1_000


def campaign(given: argparse.Namespace) -> int:
    """Run seeds until their number or the time is over, and say what was seen."""
    tally, first = Tally(), given.first
    report: Path | None = given.report
    if report is not None and report.exists():
        said = json.loads(report.read_text(encoding="utf-8"))
        first = said.pop("from")
        tally = Tally(**{**{name: said[name] for name in asdict(Tally())}, "told": Counter(said["told"])})
    until = time.monotonic() + given.minutes * 60 if given.minutes else float("inf")
    with quietly():
        while tally.seeds < given.seeds and time.monotonic() < until:
            seed = first + tally.seeds
            try:
                run_seed(seed, tally, given.digest)
            except Wrong as wrong:
                tally.failed.append(seed)
                tally.lost += wrong.lost
                tally.duplicated += wrong.duplicated
                print(f"{wrong}\n", flush=True)
            if report is not None and not tally.seeds % SAVED_EVERY:
                report.write_text(json.dumps(_said(tally, first)), encoding="utf-8")
    if report is not None:
        report.write_text(json.dumps(_said(tally, first)), encoding="utf-8")
    for seed in tally.failed:
        print(repeat(seed))
    print(json.dumps(_said(tally, first)))
    return 1 if tally.failed else 0


def _said(tally: Tally, first: int) -> dict[str, Any]:
    return {"from": first, **asdict(tally), "told": dict(tally.told.most_common())}


def one(seed: int) -> int:
    """Run one seed and tell it."""
    try:
        with quietly():
            course = run_seed(seed)
    except Wrong as wrong:
        print(f"{story(wrong.course) if wrong.course else ''}\n\n{wrong}")
        return 1
    print(f"{story(course)}\n\nseed {seed}: nothing fails")
    return 0


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="run this one and tell what happened")
    parser.add_argument("--seeds", type=int, default=2_000, help="how many (2000)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (0)")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop then; 0: when all were run")
    parser.add_argument("--report", type=Path, default=None, help="file of the result; one that is there is continued")
    parser.add_argument("--digest", action="store_true", help="hash every log: two runs of the same seeds must agree")
    given = parser.parse_args()
    return campaign(given) if given.seed is None else one(given.seed)


if __name__ == "__main__":
    sys.exit(main())
