"""`make bench`: the floor and the engine in one run, interleaved; the last line is one JSON object, kept in
docs/reports/.

Figures of one run are for comparing with each other, not with another machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import floor, hop
from benchmarks.engines import EngineProcess, site
from benchmarks.load_app import app, nothing, sequence
from benchmarks.moves import measure_moves
from orchestrator.client.client import Client
from orchestrator.config import Settings
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.reader import read_partition
from orchestrator.log.topics import admin, init_topics

ROUNDS = 5
STEPS = 200
RUNS, RUN_STEPS = 200, 20
REPLIES = 300
PARTITIONS = 4


def say(text: str) -> None:
    """Progress, away from the figures."""
    print(text, file=sys.stderr, flush=True)


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def step_times(client: Client, steps: int) -> list[float]:
    """Milliseconds from one step of a run to its next."""
    ran = await client.execute(sequence, steps)
    return [(later - earlier) * 1000 for earlier, later in itertools.pairwise(ran)]


async def throughput(client: Client) -> float:
    """Steps a second of `RUNS` concurrent runs."""
    began = time.perf_counter()
    handles = await asyncio.gather(*(client.start(sequence, RUN_STEPS) for _ in range(RUNS)))
    await asyncio.gather(*(handle.result() for handle in handles))
    return RUNS * RUN_STEPS / (time.perf_counter() - began)


async def replies(client: Client) -> list[float]:
    """Milliseconds from a command to its committed reply."""
    took = []
    for _ in range(REPLIES):
        began = time.perf_counter()
        await client.start(nothing)
        took.append((time.perf_counter() - began) * 1000)
    return took


def record_sizes(config: LogConfig) -> list[int]:
    """Bytes of the records of one step's transaction, by the log: the median of those of three records."""
    found: list[list[int]] = []
    for partition in range(PARTITIONS):
        batch: list[int] = []
        for wires in read_partition(config, config.topic("events"), partition):
            for wire in wires:
                batch.append(len(wire.key) + len(wire.value))
                if wire.key == b"\x00footer":
                    found += [batch] if len(batch) == 3 else []
                    batch = []
    if not found:
        raise SystemExit("no batch of one step is on the log")
    return sorted(found, key=sum)[len(found) // 2]


async def measure(kafka: DevKafka, settings: Settings, directory: Path) -> dict[str, Any]:
    """Everything but the moves."""
    config = LogConfig.of(settings, app.name)
    init_topics(config, PARTITIONS)
    init_topics(LogConfig("bench-floor", kafka.bootstrap), 1)
    environment = {
        "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap,
        "ORCHESTRATOR_MEMBERSHIP": "static",
        "ORCHESTRATOR_ASSIGNMENT": f"0-{PARTITIONS - 1}",
    }
    engine = EngineProcess(environment, directory / "one", 18081)
    engine.wait_ready(PARTITIONS)
    floors: list[float] = []
    steps: list[float] = []
    hops: list[float] = []
    answers: list[float] = []
    async with Client.connect(app, settings) as client:
        await step_times(client, STEPS)
        sizes = record_sizes(config)
        say(f"a step's transaction: {len(sizes)} records, {sum(sizes)} bytes")
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}: floor, steps, hop, replies")
            floors += await asyncio.to_thread(floor.measure, kafka.bootstrap, "bench-floor.events", STEPS, sizes, 2, 50)
            steps += await step_times(client, STEPS)
            hops += await asyncio.to_thread(hop.measure, kafka.bootstrap, "bench-floor.events", 100, 300, 2, 50)
            answers += await replies(client)
        say(f"throughput: {RUNS} runs of {RUN_STEPS} steps")
        rates = [await throughput(client) for _ in range(ROUNDS)]
    engine.terminate()
    return {
        "floor_ms_p50": quantile(floors, 0.5),
        "floor_ms_p99": quantile(floors, 0.99),
        "step_ms_p50": quantile(steps, 0.5),
        "step_ms_p99": quantile(steps, 0.99),
        "step_to_floor": quantile(steps, 0.5) / quantile(floors, 0.5),
        "steps_per_s": statistics.median(rates),
        "reply_ms_p50": quantile(answers, 0.5),
        "hop_ms_p50": quantile(hops, 0.5),
        "reply_to_hop": quantile(answers, 0.5) / quantile(hops, 0.5),
        "restore_events_per_s": restore(environment, directory),
    }


def restore(environment: dict[str, str], directory: Path) -> float:
    """Events a second that one process folds from offset 0 into an empty directory, its partitions one after the other.

    Each partition's own time counts, waiting for the broker and for the claim does not.
    """
    say("restore from offset 0")
    rates: list[float] = []
    for partition in range(PARTITIONS):
        alone = {**environment, "ORCHESTRATOR_ASSIGNMENT": str(partition)}
        engine = EngineProcess(alone, directory / f"restore-{partition}", 18082)
        engine.wait_ready(1)
        engine.terminate()
        found = re.search(r"(\d+) events restored in ([\d.]+) s", engine.log.read_text())
        assert found is not None
        rates.append(int(found[1]) / float(found[2]))
    return statistics.median(rates)


def main() -> int:
    """Run it all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=10, help="moves of each kind (0: none)")
    given = parser.parse_args()
    with site(say) as (kafka, scratch):
        settings = Settings.from_env({}).with_changes(bootstrap=kafka.bootstrap)
        figures = asyncio.run(measure(kafka, settings, scratch))
        if given.moves:
            figures |= measure_moves(kafka, scratch / "moves", given.moves, say)
        brokers = len(admin(LogConfig(app.name, kafka.bootstrap)).list_topics(timeout=10).brokers)
    figures = {name: round(value, 3) for name, value in figures.items()}
    figures |= {
        "rf": 1,
        "brokers": brokers,
        "lanes": settings.lanes,
        "isolation": settings.isolation,
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    print(json.dumps(figures))
    return 0


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return found.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
