"""The wheel in real use: `orchestrator dev` and a ten-line workflow, outside the checkout; called by smoke.py."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import threading
from pathlib import Path

import psutil

SHOP = """
from orchestrator import Orchestrator

app = Orchestrator("smoke")

@app.step
async def double(number: int) -> int:
    return number * 2

@app.workflow
async def order(number: int) -> int:
    return await double(number) + await double(1)
"""
FOREIGN = {"PYTHONPATH", "ORCHESTRATOR_APP", "ORCHESTRATOR_BOOTSTRAP", "ORCHESTRATOR_STATE_DIR"}
READY_S = 180  # the first start fetches the broker's jars
ENDED_S = 30
ADDRESS = re.compile(r"ready at (127\.0\.0\.1:\d+)")
STARTED = "started (pid"


def lines_of(process: subprocess.Popen[str]) -> queue.Queue[str | None]:
    """The process's output, line by line; None when it ended."""
    found: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            found.put(line)
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found


def address_of(lines: queue.Queue[str | None], seen: list[str]) -> str:
    """Kafka's address, once its line and the first process's line have come."""
    address = ""
    while True:
        line = lines.get(timeout=READY_S)
        if line is None:
            raise SystemExit("smoke: `orchestrator dev` ended early:\n" + "".join(seen))
        seen.append(line)
        if found := ADDRESS.search(line):
            address = found[1]
        if address and STARTED in line:
            return address


def use(command: Path, folder: Path) -> str:
    """Start `orchestrator dev shop:app`, run one workflow through it, end it with Ctrl-C; returns what it printed."""
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP, encoding="utf-8")
    settings = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    dev = subprocess.Popen(
        [command, "dev", "shop:app", "--port", "0"],
        cwd=folder,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen: list[str] = []
    try:
        bootstrap = address_of(lines_of(dev), seen)
        options = ["--app", "shop:app", "--bootstrap", bootstrap]
        done = subprocess.run(
            [command, *options, "workflow", "execute", "order", "number=20", "--timeout", "60"],
            cwd=folder,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"smoke: execute failed:\n{done.stdout}{done.stderr}\n{''.join(seen)}")
        # The guard and its Kafka have a session of their own.
        started = psutil.Process(dev.pid).children(recursive=True)
        dev.send_signal(signal.SIGINT)
        if dev.wait(timeout=60) not in {0, 130}:
            raise SystemExit(f"smoke: Ctrl-C ended `orchestrator dev` with {dev.returncode}")
        _, left = psutil.wait_procs(started, timeout=ENDED_S)
        if left:
            raise SystemExit(f"smoke: `orchestrator dev` left processes behind: {left}")
        return done.stdout.strip()
    finally:
        if dev.poll() is None:
            os.killpg(dev.pid, signal.SIGKILL)
            dev.wait()
