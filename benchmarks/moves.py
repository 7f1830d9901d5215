"""How long a partition is without an owner when its engine is killed, and when it is asked to end (KIP-848, dynamic
members).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.engines import EngineProcess
from benchmarks.load_app import app, nothing
from orchestrator.client.client import Client
from orchestrator.client.requests import ClientOptions
from orchestrator.config import Settings
from orchestrator.devkafka import DevKafka
from orchestrator.errors import ReplyTimeout
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.topics import init_topics

PARTITIONS = 4


def measure_moves(kafka: DevKafka, directory: Path, times: int, say: Callable[[str], None]) -> dict[str, float]:
    """Median seconds until a command to the lost engine's partition is answered again."""
    environment = {
        "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap,
        "ORCHESTRATOR_MEMBERSHIP": "group",
        "ORCHESTRATOR_GROUP_PROTOCOL": "consumer",
        "ORCHESTRATOR_ISOLATION": "thread",
    }
    settings = Settings.from_env({}).with_changes(bootstrap=kafka.bootstrap)
    init_topics(LogConfig.of(settings, app.name), PARTITIONS)
    return {
        f"move_{how}_s": statistics.median(
            _move(environment, directory / f"{how}-{number}", how, settings, number, say) for number in range(times)
        )
        for how in ("kill", "term")
    }


def _move(
    environment: dict[str, str],
    directory: Path,
    how: str,
    settings: Settings,
    number: int,
    say: Callable[[str], None],
) -> float:
    first = EngineProcess(environment, directory / "a", 18091)
    first.wait_ready()
    second = EngineProcess(environment, directory / "b", 18092)
    try:
        second.wait_ready()
        first.wait_ready()
        health = first.health()
        assert health is not None
        lost = int(min(health["partitions"]))
        began = time.perf_counter()
        if how == "kill":
            first.kill()
        else:
            first.terminate(wait=False)
        asyncio.run(_ask_until_answered(settings, lost, f"{how}-{number}", PARTITIONS))
        took = time.perf_counter() - began
        say(f"move by {how} {number + 1}: {took:.2f} s")
        return took
    finally:
        for engine in (first, second):
            engine.terminate()


async def _ask_until_answered(settings: Settings, partition: int, name: str, count: int) -> None:
    ids = (f"move-{name}-{number}-{time.time_ns()}" for number in range(10_000))
    workflow_id = next(one for one in ids if partition_of(one.encode(), count) == partition)
    async with Client.connect(app, settings, options=ClientOptions(timeout_s=60.0, resend_s=0.2)) as client:
        try:
            await client.start(nothing.options(id=workflow_id))
        except ReplyTimeout as error:
            raise SystemExit(f"partition {partition} was not taken over within a minute") from error
