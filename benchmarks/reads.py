"""`python -m benchmarks.reads`: whether reading a batch's rows together would help.

Two figures, and their product: how much less a key costs when RocksDB is asked for many at once, and how many reads of
a step reach RocksDB at all, past the overlay and the cache of rows. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.__main__ import say
from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core.rows import RUNS, CurrentRow
from orchestrator.store import keys
from orchestrator.store.partition_store import PartitionStore
from tests.engine.rig import MemorySite, Rig

ROWS = 60_000
AT_ONCE = (1, 8, 32, 100)
Read = Callable[[Sequence[bytes]], object]

app = Orchestrator("reads")


@app.step(isolation="thread")
async def double(x: int) -> int:
    """A step."""
    return 2 * x


@app.workflow
async def doubles(x: int, steps: int) -> int:
    """Sequential steps."""
    for _ in range(steps):
        x = (await double(x)) % 1_000
    return x


class Counting(PartitionStore):
    """Counts what is asked of RocksDB."""

    asked = 0

    def bare(self, family: str) -> Any:
        """RocksDB's own."""
        return self._family(family)

    def _raw(self, family: str, key: bytes) -> bytes | None:
        self.asked += 1
        return super()._raw(family, key)


def microseconds_a_key(read: Read, wanted: Sequence[bytes]) -> float:
    """What one call takes, by key."""
    began = time.perf_counter()
    read(wanted)
    return (time.perf_counter() - began) / len(wanted) * 1e6


def together(directory: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """By keys a call, and whether they are there: microseconds a key one by one, and in one call."""
    store, rng = Counting(directory, Codec()), random.Random(1)
    for base in range(0, ROWS, 1_000):
        store.write({(RUNS, (f"workflow-{n}",)): CurrentRow("r" * 32) for n in range(base, base + 1_000)})
    store.flush()
    while not store.flushed():
        time.sleep(0.01)
    family = store.bare(RUNS)
    found = {}
    for size in AT_ONCE:
        for what, most in (("there", ROWS), ("missing", 10**9)):
            first = 0 if what == "there" else ROWS
            one, many = [], []
            for _ in range(rounds):
                wanted = [keys.encode((f"workflow-{rng.randrange(first, most)}",)) for _ in range(size)]
                one.append(microseconds_a_key(lambda asked: [family.get(key) for key in asked], wanted))
                wanted = [keys.encode((f"workflow-{rng.randrange(first, most)}",)) for _ in range(size)]
                many.append(microseconds_a_key(lambda asked: family.get(list(asked)), wanted))
            found[f"{size} {what}"] = (round(median(one), 2), round(median(many), 2))
    store.close()
    return found


def reads_a_step(directory: Path, runs: int, steps: int) -> float:
    """How many reads reach RocksDB, by step, with so many runs at once on one partition."""
    one, opened = Rig(app, MemorySite(app.name, 1)), list[Counting]()

    def opening(number: int, codec: Codec) -> Counting:
        opened.append(Counting(directory / str(number), codec))
        return opened[-1]

    try:
        one.engine(open_store=opening)
        before = opened[0].asked if opened else 0
        for number in range(runs):
            one.start(f"w{number}", doubles, number, steps)
        for number in range(runs):
            one.result(f"w{number}")
        return (opened[0].asked - before) / (runs * steps)
    finally:
        one.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        costs = together(Path(name) / "0", options.rounds)
        for what, (one, many) in costs.items():
            say(f"{what}: {one} us a key one by one, {many} us together")
        asked = reads_a_step(Path(name) / "engine", options.runs, options.steps)
    say(f"{asked:.2f} reads a step reach RocksDB")
    saved = max(one - many for one, many in costs.values())
    report = {"us_a_key": costs, "reads_a_step": round(asked, 3), "us_saved_a_step": round(saved * asked, 3)}
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
