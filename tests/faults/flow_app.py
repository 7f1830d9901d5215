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
PER_TENANT = 2
BEGINS, WITHIN = 6, timedelta(milliseconds=500)
EVERY = timedelta(milliseconds=40)
SCARCE = 2
calls = app.limit("calls", concurrency=N)
runs = app.limit("runs", concurrency=RUNS)
tenants = app.limit("tenants", concurrency=PER_TENANT, key="tenant")
rated = app.limit("rated", rate=(BEGINS, WITHIN), key="tenant")
spaced = app.limit("spaced", throttle=(1, EVERY))
scarce = app.limit("scarce", rate=(SCARCE, "hour"))
RECEIPTS = os.environ.get("FLOW_RECEIPTS", "")
AGAIN = RetryPolicy(initial_interval=timedelta(milliseconds=20))


def _note(what: str, limit: str = "calls") -> None:
    info = step_info()
    if RECEIPTS:
        with open(RECEIPTS, "a", encoding="utf-8") as out:
            out.write(f"{what} {limit} {info.run_id} {info.step} {info.attempt} {os.getpid()} {time.monotonic_ns()}\n")


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


@app.step(limits=[tenants, spaced], retry=AGAIN)
async def serve(tenant: str) -> None:
    """So many at once of each tenant; of all of them one begins after the other."""
    _note("begin", f"tenants|{tenant}")
    try:
        await asyncio.sleep(0.02)
    finally:
        _note("end", f"tenants|{tenant}")


@app.step(limits=[rated])
async def begin(tenant: str) -> None:
    """So many begin in any while."""


@app.step(limits=[scarce, calls])
async def seldom() -> None:
    """Most of those that want to wait for an hour. They also need a slot that everybody needs."""


@app.workflow
async def starved(count: int) -> None:
    """Waits for an hour."""
    await asyncio.gather(*(seldom() for _ in range(count)))


@app.workflow(limits=[runs])
async def load(count: int, tenant: str) -> int:
    """`count` calls at once, some of a tenant, and one that hangs."""
    others = [serve(tenant), serve(tenant), begin(tenant), begin(tenant)]
    total, *_ = await asyncio.gather(_called(count), *others)
    try:
        await hang()
    except StepTimeout:
        total += 1
    return total


async def _called(count: int) -> int:
    return sum(await asyncio.gather(*(call(number) for number in range(count))))
