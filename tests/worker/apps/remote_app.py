"""Steps that tests hold in their hands by files, for workers and engines that are processes of their own."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Literal

from orchestrator import Orchestrator, RetryPolicy, step_info

app = Orchestrator(os.environ.get("ORCHESTRATOR_APP_NAME") or "remote-app")

QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=50))
OnCrash = Literal["retry", "fail", "park"]
Mode = Literal["try", "wait", "abandon"]


def note(folder: str, name: str, what: str) -> None:
    """A line in the step's file: what happened, in which attempt, to which process."""
    with open(Path(folder) / name, "a", encoding="utf-8") as out:
        out.write(f"{what}/{step_info().attempt}/{os.getppid()}\n")


@app.step(retry=QUICK)
async def hold(folder: str, name: str) -> str:
    """Says that it began; ends once a file `<name>.go` exists; says so if it is cancelled."""
    note(folder, name, "began")
    try:
        while not (Path(folder) / f"{name}.go").exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note(folder, name, "cancelled")
        raise
    note(folder, name, "ended")
    return f"{name} by attempt {step_info().attempt}"


@app.step(retry=QUICK)
def blocking_hold(folder: str, name: str) -> str:
    """The same in a process of its own; asks whether it is cancelled."""
    note(folder, name, "began")
    while not (Path(folder) / f"{name}.go").exists():
        if step_info().cancelled:
            note(folder, name, "cancelled")
            raise asyncio.CancelledError
        time.sleep(0.01)
    note(folder, name, "ended")
    return f"{name} by attempt {step_info().attempt}"


@app.step(retry=QUICK)
async def stumble(folder: str, name: str) -> str:
    """Fails twice, with a heartbeat before each failure."""
    note(folder, name, f"found {step_info().details}")
    if step_info().attempt < 3:
        step_info().heartbeat("first word")
        step_info().heartbeat(step_info().attempt)
        raise ConnectionError("not yet")
    return f"after {step_info().details}"


@app.workflow
async def holds(queue: str, folder: str, name: str, on_crash: OnCrash, cancellation: Mode) -> str:
    """One step that the test lets go."""
    return await hold.options(queue=queue, on_crash=on_crash, cancellation=cancellation)(folder, name)


@app.workflow
async def limited(queue: str, folder: str, name: str) -> str:
    """A step that is held longer than it may run, on its first attempt."""
    limit = hold.options(queue=queue, start_to_close=timedelta(seconds=2), retry=1)
    return await limit(folder, name)


@app.workflow
async def stumbles(queue: str, folder: str, name: str) -> str:
    """One step that needs three attempts."""
    return await stumble.options(queue=queue)(folder, name)


@app.workflow
async def local(folder: str, name: str, on_crash: OnCrash) -> str:
    """One async and one blocking step of the engine's own, side by side."""
    kinds = (hold.options(on_crash=on_crash), blocking_hold.options(on_crash=on_crash))
    return ", ".join(await asyncio.gather(*(kind(folder, f"{name}-{n}") for n, kind in enumerate(kinds))))
