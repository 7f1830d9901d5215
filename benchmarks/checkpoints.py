"""`python -m benchmarks.checkpoints`: how long a partition stands still for a checkpoint, and what a restore takes.

A thread writes batches of rows, as a partition's does, while checkpoints of the growing state go to a directory.
Another wakes every millisecond, as any other partition's would. Compared are RocksDB's checkpoint alone, which flushes
while it holds the GIL, and the engine's way: flushed before, by RocksDB's threads. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.__main__ import quantile, say
from orchestrator.codec.records import Codec
from orchestrator.core.rows import META, POSITION_KEY, RUNS, STEPS, TIMERS, CurrentRow, Key, PositionRow
from orchestrator.core.values import BatchId, InputPosition
from orchestrator.engine.checkpoints import CheckpointTaker
from orchestrator.engine.clock import SystemClock
from orchestrator.engine.options import CheckpointOptions
from orchestrator.log.ports import TopicIds
from orchestrator.store.checkpoint import Checkpoints
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.places import DirectoryPlace

ROWS, ROW_BYTES = 60, 300
FAMILIES = (RUNS, STEPS, TIMERS)


class AtOnce(PartitionStore):
    """Nothing is flushed before the copy."""

    def flush(self) -> None:
        """Nothing: the copy does it."""

    def flushed(self) -> bool:
        return True


class Other:
    """A thread that has a millisecond to wait, again and again."""

    def __init__(self) -> None:
        self.worst_ms = 0.0
        self._over = False
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Other:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()

    def _serve(self) -> None:
        while not self._over:
            began = time.perf_counter()
            time.sleep(0.001)
            self.worst_ms = max(self.worst_ms, (time.perf_counter() - began) * 1000 - 1)


class Paused(NamedTuple):
    """Milliseconds that a batch took, with what was done for checkpoints before the next; of another thread, too."""

    p50: float
    p99: float
    worst: float
    others_worst: float
    files: int
    megabytes: float
    restore_s: float


class Load(NamedTuple):
    """Rows a second, and seconds: of the whole, and between checkpoints."""

    rows: float
    seconds: float
    every: float


def rows_of(rng: random.Random, batch_no: int) -> dict[tuple[str, Key], Any]:
    """A batch's rows, random, and the position behind it."""
    batch, at = BatchId(1, batch_no), InputPosition("cluster", "commands", 0, batch_no)
    texts = [rng.randbytes(ROW_BYTES // 2).hex() for _ in range(ROWS)]
    changes: dict[tuple[str, Key], Any] = {
        (FAMILIES[n % 3], (text[:20], text[20:40], text[40:60])): CurrentRow(text) for n, text in enumerate(texts)
    }
    changes[META, POSITION_KEY] = PositionRow(batch_no * ROWS, batch, rng.randbytes(32), at, batch_no, batch, 1)
    return changes


def written(store: PartitionStore, look: Callable[[], None], load: Load) -> list[float]:
    """Milliseconds of each batch."""
    rng, took = random.Random(1), []
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + load.seconds:
        changes = rows_of(rng, len(took) + 1)
        wait = began + len(took) * ROWS / load.rows - now
        if wait > 0:
            time.sleep(wait)
        start = time.perf_counter()
        store.write(changes)
        look()
        took.append((time.perf_counter() - start) * 1000)
    return took


def measured(make: Callable[[Path, Codec], PartitionStore], place: Path, load: Load) -> Paused:
    """Write for so long, a checkpoint every so often; then restore the newest."""
    store = make(place / "state" / "0", Codec())
    kept = Checkpoints(DirectoryPlace(place / "kept"))
    told = CheckpointOptions(kept, place / "state", 1 << 62, load.every, 0.05)
    taker = CheckpointTaker("bench", SystemClock(), told)
    taker.start()
    taker.owned(0, TopicIds("cluster", "commands", "events", 1), store)
    with Other() as other:
        took = written(store, lambda: taker.look(0), load)
    taker.released(0)
    taker.stop()
    store.close()
    manifest = kept.found(0)[0].manifest
    assert manifest is not None
    began = time.perf_counter()
    kept.fetch(manifest, place / "staging", place / "target")
    PartitionStore(place / "target", Codec()).close()
    restore_s = time.perf_counter() - began
    return Paused(
        quantile(took, 0.5),
        quantile(took, 0.99),
        max(took),
        other.worst_ms,
        len(manifest.files),
        manifest.size / 1e6,
        restore_s,
    )


def main() -> None:
    """Measure both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=20_000, help="a second: four or five are a step")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long rows are written, each way")
    parser.add_argument("--every", type=float, default=3.0, metavar="SECONDS", help="between checkpoints")
    options = parser.parse_args()
    found = {}
    for name, make in (("at_once", AtOnce), ("flushed_first", PartitionStore)):
        with tempfile.TemporaryDirectory(prefix="checkpoints-") as place:
            found[name] = measured(make, Path(place), Load(options.rows, options.seconds, options.every))
        say(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found[name]._asdict().items()))
    print(json.dumps({name: {k: round(v, 3) for k, v in one._asdict().items()} for name, one in found.items()}))


if __name__ == "__main__":
    main()
