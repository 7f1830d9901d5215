"""How long a partition is without an owner when its engine is killed, and when it is asked to end (KIP-848, dynamic
members).
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.engines import WAIT_S, EngineProcess
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
LOOK_S = 0.02


class Move(NamedTuple):
    """Seconds from an engine's end, and from when its successor knows of it, until a command is answered again."""

    whole_s: float
    known_s: float


def measure_moves(kafka: DevKafka, directory: Path, times: int, say: Callable[[str], None]) -> dict[str, float]:
    """Median seconds until a command to the lost engine's partition is answered again.

    `move_cold_s` and `move_warm_s` count from when the group gave the partition to the other engine, which has nothing
    of it, or follows it (`ORCHESTRATOR_STANDBY`); both after a kill.
    """
    environment = {
        "ORCHESTRATOR_BOOTSTRAP": kafka.bootstrap,
        "ORCHESTRATOR_MEMBERSHIP": "group",
        "ORCHESTRATOR_GROUP_PROTOCOL": "consumer",
        "ORCHESTRATOR_ISOLATION": "thread",
    }
    settings = Settings.from_env({}).with_changes(bootstrap=kafka.bootstrap)
    init_topics(LogConfig.of(settings, app.name), PARTITIONS)
    found = {
        how: [
            _move(environment | more, directory / f"{how}-{number}", how, settings, number, say)
            for number in range(times)
        ]
        for how, more in (("kill", {}), ("term", {}), ("warm", {"ORCHESTRATOR_STANDBY": "all"}))
    }
    return {
        "move_kill_s": statistics.median(move.whole_s for move in found["kill"]),
        "move_term_s": statistics.median(move.whole_s for move in found["term"]),
        "move_cold_s": statistics.median(move.known_s for move in found["kill"]),
        "move_warm_s": statistics.median(move.known_s for move in found["warm"]),
    }


def _move(
    environment: dict[str, str],
    directory: Path,
    how: str,
    settings: Settings,
    number: int,
    say: Callable[[str], None],
) -> Move:
    first = EngineProcess(environment, directory / "a", 18091)
    first.wait_ready()
    second = EngineProcess(environment, directory / "b", 18092)
    try:
        second.wait_ready()
        first.wait_ready()
        if how == "warm":
            _wait_warm(second)
        health = first.health()
        assert health is not None
        lost = int(min(health["partitions"]))
        known: list[float] = []
        watching = threading.Thread(target=_watch, args=(second, lost, known))
        watching.start()
        began = time.perf_counter()
        if how == "term":
            first.terminate(wait=False)
        else:
            first.kill()
        asyncio.run(_ask_until_answered(settings, lost, f"{how}-{number}", PARTITIONS))
        ended = time.perf_counter()
        watching.join()
        move = Move(ended - began, ended - known[0])
        say(f"move by {how} {number + 1}: {move.whole_s:.2f} s, {move.known_s:.2f} s of it since it was known")
        return move
    finally:
        for engine in (first, second):
            engine.terminate()


def _watch(engine: EngineProcess, partition: int, known: list[float]) -> None:
    """Note when the engine is given the partition."""
    while True:
        health = engine.health()
        if health is not None and str(partition) in health["partitions"]:
            known.append(time.perf_counter())
            return
        time.sleep(LOOK_S)


def _wait_warm(engine: EngineProcess) -> None:
    """Until it has folded all that others own."""
    deadline = time.monotonic() + WAIT_S
    while True:
        health = engine.health()
        standby = health["standby"] if health is not None else {}
        if standby and all(one["behind"] == 0 for one in standby.values()):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the standby does not get warm: {standby}")
        time.sleep(LOOK_S)


async def _ask_until_answered(settings: Settings, partition: int, name: str, count: int) -> None:
    ids = (f"move-{name}-{number}-{time.time_ns()}" for number in range(10_000))
    workflow_id = next(one for one in ids if partition_of(one.encode(), count) == partition)
    async with Client.connect(app, settings, options=ClientOptions(timeout_s=60.0, resend_s=0.2)) as client:
        try:
            await client.start(nothing.options(id=workflow_id))
        except ReplyTimeout as error:
            raise SystemExit(f"partition {partition} was not taken over within a minute") from error
