"""`orchestrator dev --reload` on a real broker: an edited file is what runs next, and a running step ends first."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.client.kafka import KafkaTransport
from orchestrator.config import Settings
from tests.architecture.source import ROOT
from tests.devkafka.processes import family, wait_gone

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PATIENCE_S = 60.0
CODE = """
import asyncio
from pathlib import Path
from orchestrator import Orchestrator

app = Orchestrator("{name}")
VERSION = "{version}"


@app.step
async def slow() -> str:
    with Path("began").open("a") as file:
        file.write("x")
    while not Path("go").exists():
        await asyncio.sleep(0.05)
    return VERSION


@app.workflow(name="held")
async def held() -> str:
    return await slow()


@app.workflow(name="told")
async def told() -> str:
    return VERSION
"""


def callers(name: str) -> tuple[Orchestrator, object, object]:
    """The application as its callers know it."""
    app = Orchestrator(name)

    @app.workflow(name="held")
    async def held() -> str:
        raise AssertionError

    @app.workflow(name="told")
    async def told() -> str:
        raise AssertionError

    return app, held, told


def test_new_code_runs_and_a_running_step_is_not_repeated(kafka: DevKafka, tmp_path: Path) -> None:
    name = f"reload-{uuid.uuid4().hex[:8]}"
    source = tmp_path / "shop.py"
    source.write_text(CODE.format(name=name, version="old"), encoding="utf-8")
    command = [sys.executable, "-m", "orchestrator.cli.main", "--bootstrap", kafka.bootstrap, "dev", "shop:app"]
    dev = subprocess.Popen(
        [*command, "--reload"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path))),
            "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"),
            "ORCHESTRATOR_PARTITIONS": "1",
            "ORCHESTRATOR_REPLICATION_FACTOR": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert dev.stdout is not None
    said: list[str] = []

    def read_until(words: str) -> None:
        for line in dev.stdout or ():
            said.append(line)
            if words in line:
                return
        raise AssertionError(said)

    app, held, told = callers(name)

    async def work() -> None:
        transport = KafkaTransport(name, Settings(app_name=name, bootstrap=kafka.bootstrap))
        async with Client.connect(app, transport=transport) as client:
            handle = await client.start(held.options(id="held"))  # type: ignore[attr-defined]
            while not (tmp_path / "began").exists():
                await asyncio.sleep(0.05)
            source.write_text(CODE.format(name=name, version="new"), encoding="utf-8")
            await asyncio.to_thread(read_until, "shop.py changed: handing over")
            (tmp_path / "go").touch()
            assert await handle.result(PATIENCE_S) == "old"
            await asyncio.to_thread(read_until, "engine of")
            assert await client.execute(told.options(id="told")) == "new"  # type: ignore[attr-defined]

    try:
        read_until("engine of")
        asyncio.run(asyncio.wait_for(work(), PATIENCE_S))
        assert (tmp_path / "began").read_text(encoding="utf-8") == "x"
        pids = family(dev.pid)
        dev.send_signal(signal.SIGINT)
        said.append(dev.communicate(timeout=PATIENCE_S)[0])
    finally:
        dev.kill()
        dev.wait()
    assert dev.returncode == 130, said
    wait_gone(*pids)
