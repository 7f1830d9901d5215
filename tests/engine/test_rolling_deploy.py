"""A rolling deploy of three engine processes: both releases work side by side, and every run ends as it began."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Client, Handle
from orchestrator.config import Settings
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from tests.engine import rolling_app
from tests.worker.processes import Process

ENGINES = 3
PARTITIONS = 6
ENDS = (["1", "one", "two"], ["2", "eins", "zwei"], ["1", "old", "old"], ["1", "new", "new"])


def engine(folder: Path, bootstrap: str, name: str, release: int, number: int) -> Process:
    """One of the release's engines."""
    return Process(
        "engine",
        folder / f"engine-{release}-{number}.log",
        {
            "ORCHESTRATOR_APP": "tests.engine.rolling_app:app",
            "ORCHESTRATOR_APP_NAME": name,
            "ORCHESTRATOR_BOOTSTRAP": bootstrap,
            "ORCHESTRATOR_STATE_DIR": str(folder / f"state-{release}-{number}"),
            "ORCHESTRATOR_ISOLATION": "thread",
            "ROLLING_RELEASE": str(release),
        },
    )


@pytest.mark.broker
@pytest.mark.contract("rolling")
def test_two_releases_live_side_by_side_through_a_rolling_deploy(kafka: DevKafka, tmp_path: Path) -> None:
    name = f"rolling-{uuid.uuid4().hex[:8]}"
    init_topics(LogConfig(name, kafka.bootstrap), PARTITIONS)
    app, before = rolling_app.app, rolling_app.app.name
    app.name = name
    engines = [engine(tmp_path, kafka.bootstrap, name, 1, number) for number in range(ENGINES)]
    for one in engines:
        # Before that nobody hears a SIGTERM.
        one.until_said(" works on ")

    async def roll() -> None:
        runs: list[Handle[Any]] = []

        async def start() -> None:
            for workflow in (rolling_app.numbered, rolling_app.changed):
                runs.extend([await client.start(workflow) for _ in range(PARTITIONS)])

        settings = Settings(app_name=name, bootstrap=kafka.bootstrap)
        async with Client.connect(app, settings) as client:
            await start()
            for number in range(ENGINES):
                engines.append(engine(tmp_path, kafka.bootstrap, name, 2, number))
                engines[number].signal(signal.SIGTERM)
                assert await asyncio.to_thread(engines[number].wait) == 0, engines[number].said
                await start()
                # Half of the runs go on while engines of both releases are there.
                for run in runs[number::ENGINES]:
                    await run.using(command_id=f"go-{run.run_id}").signal(rolling_app.go, 1)
            for run in runs:
                await run.using(command_id=f"go-{run.run_id}").signal(rolling_app.go, 1)
            ends = [await run.result() for run in runs]
            assert all(end in ENDS for end in ends), ends
            first = 2 * PARTITIONS
            assert ends[:first] == [ENDS[0]] * PARTITIONS + [ENDS[2]] * PARTITIONS
            assert ends[-first:] == [ENDS[1]] * PARTITIONS + [ENDS[3]] * PARTITIONS
            for run in runs:
                assert "RunParked" not in [event.type async for event in run.history()]

    try:
        asyncio.run(asyncio.wait_for(roll(), 120))
    finally:
        app.name = before
        for one in engines:
            one.kill()
