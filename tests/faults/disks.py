"""Injuries to a state directory: whatever becomes of its files, the state is the log's or there is none.

`python -m tests.faults.disks --injuries 400 --seed 7` is the campaign; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.codec.records import Codec
from orchestrator.core.rows import META, POSITION_KEY, PositionRow
from orchestrator.engine import restored
from orchestrator.engine.ownership import Ground
from orchestrator.engine.visiting import ground_of
from orchestrator.errors import StoreDamaged
from orchestrator.log.ports import Out, Wire
from orchestrator.store import partition_store
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import PartitionStore, open_or_rebuild
from orchestrator.store.rows import Store, state_hash
from orchestrator.testing.memory_cluster import MARKER, Entry, MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics
from tests.engine.rig import MemorySite, Rig
from tests.faults.poison_app import app, doubles

KINDS = ("*.sst", "*.log", "MANIFEST-*", "CURRENT", "OPTIONS-*", "IDENTITY", "rocksdict-config.json", "LOG")
"""Every kind of file that RocksDB keeps in a directory; `*.log` is its write-ahead log, `LOG` what it says."""
INJURIES = ("flip", "truncate", "delete", "empty", "zeros")
CODEC = Codec()
PATIENCE_S = 30.0


class Disks(dict[int, Any]):
    """A rig's stores, on disk."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def setdefault(self, number: int, default: Any = None) -> Any:
        """Open the directory of a partition, as an engine process does."""
        self[number] = open_or_rebuild(self.root / str(number), CODEC)
        return self[number]


class Played:
    """An application's log, and two images of its state: of a closed directory, and of one whose engine was killed."""

    def __init__(self, root: Path, runs: int = 12) -> None:
        self.closed, self.killed = root / "closed", root / "killed"
        self.rig = Rig(app, MemorySite(app.name, 1))
        first = self.rig.engine(stores=Disks(root / "work"))
        self._play("a", runs)
        first.stop(5.0)
        # A second life, so that there is a file in its last state and one that is behind.
        second = self.rig.engine(stores=Disks(root / "work"))
        self._play("b", runs)
        second.stop(5.0)
        shutil.copytree(root / "work" / "0", self.closed)
        third = self.rig.engine(stores=Disks(root / "work"))
        self._play("c", runs)
        time.sleep(0.1)
        shutil.copytree(root / "work" / "0", self.killed)
        third.stop(5.0)
        fresh = MemoryStore(CODEC)
        self.restore(fresh).give_up()
        self.hash = state_hash(fresh)

    def _play(self, name: str, runs: int) -> None:
        for number in range(runs):
            self.rig.start(f"{name}{number}", doubles, number)
        for number in range(runs):
            assert self.rig.result(f"{name}{number}") == b"%d" % (8 * number)

    def restore(self, store: Store) -> Ground:
        """Fold what the log has and the state has not."""
        ground = ground_of(self.rig.site.log(app.name), store, CODEC, 0)
        try:
            restore_whole(ground)
        finally:
            ground.give_up()
            ground.log.close()
        return ground

    def outcome(self, directory: Path) -> str:
        """What a restore upon an injured directory comes to. `!` is a state that is not the log's."""
        # A copy's blocks have the names of the original's in the process's cache, where they are whole.
        partition_store._shared.cache_clear()
        store = open_or_rebuild(directory, CODEC)
        found = "open" if _aside(directory) else ""
        damage = ""
        try:
            try:
                self.restore(store)
                found = found or "harmless"
                same = state_hash(store) == self.hash
            except StoreDamaged as error:
                damage, found = str(error), "read"
            if damage:
                store.set_aside(damage)
                self.restore(store)
                same = state_hash(store) == self.hash
        finally:
            store.close()
        return found if same else f"! not the log's state ({found})"


def restore_whole(ground: Ground) -> None:
    """Fold to the log's end; what a busy machine has not read by then, an engine folds until its claim comes back."""
    ground.restore()
    last = ground.log.tail().bounds(0)[1]
    # The last batch is followed by its transaction's marker alone.
    while (position := ground.position()) is None or position.next_offset < last - 1:
        assert ground.inbox.wait_tail(PATIENCE_S), (position, last)
        ground._fold_slice()


def _aside(directory: Path) -> list[Path]:
    return list(directory.parent.glob(f"{directory.name}.aside-*"))


def injure(directory: Path, kind: str, injury: str, rng: random.Random) -> bool:
    """Do something to one file of a kind; False if there is none, or nothing in it to change."""
    files = sorted(path for path in directory.glob(kind) if injury == "delete" or path.stat().st_size)
    if not files:
        return False
    path = rng.choice(files)
    data = bytearray(path.read_bytes())
    if injury == "delete":
        path.unlink()
        return True
    at = rng.randrange(len(data))
    if injury == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif injury == "truncate":
        del data[at:]
    elif injury == "empty":
        data.clear()
    else:
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)
    return True


def campaign(played: Played, root: Path, rng: random.Random, cases: Sequence[tuple[str, str]]) -> Counter[str]:
    """Injure copies of both images; what became of each, by kind and injury."""
    found: Counter[str] = Counter()
    for number, (kind, injury) in enumerate(cases):
        for image in (played.closed, played.killed):
            directory = root / f"{number}-{image.name}"
            shutil.copytree(image, directory)
            if injure(directory, kind, injury, rng):
                found[f"{kind} {injury}: {played.outcome(directory)}"] += 1
            for left in (directory, *_aside(directory)):
                shutil.rmtree(left)
    return found


# -- a restore that is killed ------------------------------------------------------------------------------------------


def save(played: Played, path: Path) -> None:
    """The log of events as a file, for another process."""
    wires = [(raw.offset, raw.key.hex(), raw.value.hex()) for raw in played.rig.records("events")[0]]
    log_ = played.rig.site.log(app.name)
    ids = log_.topic_ids()
    log_.close()
    path.write_text(json.dumps([[ids.cluster_id, ids.commands, ids.events], wires]), encoding="utf-8")


def load(path: Path) -> MemoryCluster:
    """A cluster that has such a log: the same topics by their ids."""
    (cluster_id, commands, events), wires = json.loads(path.read_text(encoding="utf-8"))
    cluster = MemoryCluster()
    create_topics(cluster, app.name, 1)
    cluster.id = cluster_id
    cluster.topics[f"{app.name}.commands"].id = commands
    cluster.topics[f"{app.name}.events"].id = events
    for offset, key, value in wires:
        log_ = cluster.partition(f"{app.name}.events", 0)
        while log_.end < offset:
            log_.entries.append(Entry(Wire("", 0, log_.end, 0, b"", b""), MARKER))
        cluster.send(Out(f"{app.name}.events", 0, bytes.fromhex(key), bytes.fromhex(value)))
    return cluster


def restore(log_file: Path, directory: Path, slice_: int) -> int:
    """Restore as an engine does, `slice_` records a write; the number of events that were folded."""
    restored.RESTORE_SLICE, restored.NEAR_WAIT_S = slice_ - 1, 0.02
    log_ = MemoryLog(load(log_file), app.name, MemoryGroup(1))
    store = open_or_rebuild(directory, CODEC)
    ground = ground_of(log_, store, CODEC, 0)
    restore_whole(ground)
    ground.give_up()
    log_.close()
    store.close()
    return ground.restored_events


def position(directory: Path) -> PositionRow | None:
    """The last footer that a closed directory reflects."""
    store = PartitionStore(directory, CODEC)
    try:
        row: PositionRow | None = store.get(META, POSITION_KEY)
        return row
    finally:
        store.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--injuries", type=int, default=400)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    print(f"seed {options.seed}", file=sys.stderr)
    rng, began = random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        played = Played(root / "played")
        cases = [(rng.choice(KINDS), rng.choice(INJURIES)) for _ in range(options.injuries // 2)]
        found = campaign(played, root, rng, cases)
        played.rig.close()
    outcomes: Counter[str] = Counter()
    for name, count in found.items():
        outcomes[name.partition(": ")[2]] += count
    wrong = sum(count for name, count in outcomes.items() if name.startswith("!"))
    report = {"seed": options.seed, "injuries": sum(found.values()), "outcomes": outcomes, "diverged": wrong}
    print(json.dumps({**report, "by_kind": dict(sorted(found.items())), "seconds": round(time.monotonic() - began, 1)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
