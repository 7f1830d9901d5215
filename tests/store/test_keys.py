"""Byte order of keys is tuple order; the memory store and RocksDB hold the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.codec.records import Codec
from orchestrator.core.rows import RUNS, TIMERS, CurrentRow, Key, TimerDueRow, TimerRow
from orchestrator.errors import StoreError
from orchestrator.store import keys
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.rows import state_hash

LETTERS = "\x00\x01\x02aé\U0001f600\uffff"


def order(key: Key) -> tuple[tuple[bool, int | bytes], ...]:
    """Integers before texts, texts by their bytes."""
    return tuple((True, part.encode()) if isinstance(part, str) else (False, part) for part in key)


def some_key(rng: random.Random) -> Key:
    def part() -> str | int:
        if rng.random() < 0.5:
            return rng.choice((0, 1, 255, 256, 2**32, 2**63, rng.randrange(2**63)))
        return "".join(rng.choice(LETTERS) for _ in range(rng.randrange(4)))

    return tuple(part() for _ in range(rng.randrange(1, 4)))


def test_byte_order_is_tuple_order(rng: random.Random) -> None:
    found = list({some_key(rng) for _ in range(3_000)})
    assert sorted(found, key=order) == sorted(found, key=keys.encode)


def test_keys_come_back(rng: random.Random) -> None:
    for _ in range(2_000):
        key = some_key(rng)
        assert keys.decode(keys.encode(key)) == key


def test_a_prefix_s_keys_lie_before_its_successor(rng: random.Random) -> None:
    found = [some_key(rng) for _ in range(300)]
    for prefix in found[:60]:
        low, high = keys.encode(prefix), keys.successor(keys.encode(prefix))
        for key in found:
            inside = key[: len(prefix)] == prefix
            assert inside == (low <= keys.encode(key) < high)


def test_the_stores_agree(rng: random.Random, tmp_path: Path) -> None:
    codec = Codec()
    memory, disk = MemoryStore(codec), PartitionStore(tmp_path / "0", codec)
    held = [some_key(rng) for _ in range(200)]
    try:
        for _ in range(20):
            changes: dict[tuple[str, Key], object] = {}
            for key in rng.sample(held, 40):
                changes[RUNS, key] = rng.choice((None, CurrentRow(str(rng.random()))))
                changes[TIMERS, key] = rng.choice(
                    (None, TimerRow("w", "r", "sleep", "x"), TimerDueRow(rng.randrange(99)))
                )
            memory.write(changes)
            disk.write(changes)
        assert state_hash(memory) == state_hash(disk)
        for prefix in [(), *((key[0],) for key in held[:40])]:
            after = rng.choice((None, *held))
            if after is not None and after[: len(prefix)] != prefix:
                after = None
            assert list(memory.scan(RUNS, prefix, after)) == list(disk.scan(RUNS, prefix, after))
        for key in held:
            assert memory.get(TIMERS, key) == disk.get(TIMERS, key)
    finally:
        disk.close()


def test_a_store_comes_back_and_forgets_on_demand(tmp_path: Path) -> None:
    codec = Codec()
    store = PartitionStore(tmp_path / "0", codec)
    store.write({(RUNS, ("w",)): CurrentRow("r")})
    store.set_hint("identity", b"x")
    before = state_hash(store)
    store.close()
    again = PartitionStore(tmp_path / "0", codec)
    assert (again.get(RUNS, ("w",)), again.hint("identity"), state_hash(again)) == (CurrentRow("r"), b"x", before)
    again.set_hint("identity", b"y")
    assert state_hash(again) == before
    again.set_aside("a test")
    assert (again.get(RUNS, ("w",)), again.hint("identity")) == (None, None)
    again.close()


def test_a_directory_in_use_is_named(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Codec())
    try:
        with pytest.raises(StoreError, match="in use by another process"):
            PartitionStore(tmp_path / "0", Codec())
    finally:
        store.close()
