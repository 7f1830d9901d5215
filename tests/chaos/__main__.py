"""`make chaos`: the long campaign. Its last line is one JSON object.

`python -m tests.chaos --minutes 50 --directory chaos` plays one slice (50 minutes at most) and writes its report to the
directory; called again it goes on from there. Slices that run beside each other need a directory each; `--merge
DIRECTORY ...` only adds up what is there. `--classes kills,brokers` chooses among the classes, `--turn CLASS --seed N`
repeats one turn, `--fault NAME` chooses among the faults of some classes. The exit code is 1 if anything was lost,
duplicated or otherwise wrong, or if a fault that a chosen class announces never fired.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

from tests.chaos.frame import MOST_MINUTES, Campaign, merge, sound
from tests.chaos.plugs import Seat, all_plugs
from tests.chaos.tally import Tally


def turn(given: argparse.Namespace) -> int:
    """One turn, in this process. What it leaves is removed if nothing is wrong."""
    plug = all_plugs()[given.turn]
    directory = Path(given.directory or tempfile.mkdtemp(prefix="chaos-"))
    logging.basicConfig(level=logging.ERROR)
    tally, broker, bootstrap = Tally(), None, given.bootstrap
    work = directory / "work"
    work.mkdir(parents=True)
    try:
        if plug.needs_broker and not bootstrap:
            from orchestrator.devkafka import DevKafka

            broker = DevKafka.start()
            bootstrap = broker.bootstrap
        plug.play(Seat(given.seed, work, bootstrap, given.scale, given.fault), tally)
    except Exception as error:
        traceback.print_exc()
        tally.anomalies.append(f"{plug.name} with seed {given.seed}: {type(error).__name__}: {str(error)[:2000]}")
    finally:
        if broker is not None:
            broker.stop()
    if not tally.anomalies:
        shutil.rmtree(work, ignore_errors=True)
    aside = directory / "tally.new"
    aside.write_text(json.dumps(tally.said()), encoding="utf-8")
    aside.rename(directory / "tally.json")
    print(f"{directory}", file=sys.stderr)
    print(json.dumps(tally.said()))
    return 1 if tally.anomalies else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=MOST_MINUTES, help=f"of this slice ({MOST_MINUTES:g}, the most)"
    )
    parser.add_argument(
        "--directory", type=Path, default=None, help="where slices are written, and gone on from (chaos)"
    )
    parser.add_argument("--classes", default="", help="only these, separated by commas")
    parser.add_argument("--seed", type=int, default=None, help="of the campaign; one that is gone on from has its own")
    parser.add_argument("--turns", type=int, default=0, help="of this slice at most (0: as many as fit)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of turns; 1 is the campaign's")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], metavar="DIRECTORY", help="only add up the slices of these"
    )
    parser.add_argument("--turn", default="", metavar="CLASS", help="one turn of this class, with --seed")
    parser.add_argument("--bootstrap", default="", help="the broker of one turn (its own if none is named)")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME", help="of one turn; repeat for more")
    given = parser.parse_args()
    if given.turn:
        plug = all_plugs()[given.turn]
        if given.fault and not (plug.chooses and set(given.fault) <= set(plug.faults)):
            parser.error(f"faults of {plug.name} to choose from: {', '.join(plug.faults) if plug.chooses else 'none'}")
        given.seed = time.time_ns() % 2**31 if given.seed is None else given.seed
        return turn(given)
    plugs = all_plugs()
    if unknown := set(filter(None, given.classes.split(","))) - plugs.keys():
        parser.error(f"no such class: {', '.join(sorted(unknown))}; there are {', '.join(plugs)}")
    chosen = {name: plug for name, plug in plugs.items() if not given.classes or name in given.classes.split(",")}
    seed = time.time_ns() % 2**31 if given.seed is None else given.seed
    campaign = Campaign(given.directory or Path("chaos"), chosen, seed, given.scale)
    if not given.merge:
        print(f"seed {seed}, directory {campaign.directory}", flush=True)
        campaign.slice(given.minutes, given.turns)
    homes = given.merge or [campaign.directory]
    merged = merge(chosen, [report for home in homes for report in replace(campaign, directory=home).reports()])
    print(json.dumps(merged))
    return 0 if sound(merged) else 1


if __name__ == "__main__":
    raise SystemExit(main())
