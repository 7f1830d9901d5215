"""The application of the flow-control campaign: limited steps that write down when they begin and end.

Its processes are told by the environment which application they are (`ORCHESTRATOR_APP_NAME`), and where to write
(`FLOW_RECEIPTS`).
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta

from orchestrator import Orchestrator, RetryPolicy, StepTimeout, step_info

app = Orchestrator(os.environ.get("ORCHESTRATOR_APP_NAME") or "flow")
N = 3
RUNS = 5
calls = app.limit("calls", concurrency=N)
runs = app.limit("runs", concurrency=RUNS)
RECEIPTS = os.environ.get("FLOW_RECEIPTS", "")
AGAIN = RetryPolicy(initial_interval=timedelta(milliseconds=20))


def _note(what: str) -> None:
    info = step_info()
    if RECEIPTS:
        with open(RECEIPTS, "a", encoding="utf-8") as out:
            out.write(f"{what} {info.run_id} {info.step} {info.attempt} {os.getpid()} {time.monotonic_ns()}\n")


@app.step(limits=[calls], retry=AGAIN)
async def call(number: int) -> int:
    """Some fail at their first attempt."""
    _note("begin")
    try:
        await asyncio.sleep(0.02)
        if number % 5 == 0 and step_info().attempt == 1:
            raise RuntimeError("the first attempt fails")
        return number
    finally:
        _note("end")


@app.step(limits=[calls], start_to_close=timedelta(milliseconds=100), retry=1)
async def hang() -> None:
    """Ends by its time-out."""
    _note("begin")
    try:
        await asyncio.Event().wait()
    finally:
        _note("end")


@app.workflow(limits=[runs])
async def load(count: int) -> int:
    """`count` calls at once, and one that hangs."""
    total = sum(await asyncio.gather(*(call(number) for number in range(count))))
    try:
        await hang()
    except StepTimeout:
        total += 1
    return total
