"""The application of the side effects campaign: one step that asks an outside receiver for an effect.

Its processes are told by the environment which application they are (`ORCHESTRATOR_APP_NAME`), and the receiver's port
(`EFFECTS_PORT`).
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Literal

from orchestrator import Orchestrator, RetryPolicy, StepFailed, step_info

app = Orchestrator(os.environ.get("ORCHESTRATOR_APP_NAME") or "effects")
PORT = int(os.environ.get("EFFECTS_PORT", "0"))
QUEUE = "effects"

Phase = Literal["before", "applied", "returned"]
OnCrash = Literal["retry", "fail", "park"]


async def ask(path: str, key: str = "") -> None:
    """One request of the receiver; returns once it has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        header = f"Idempotency-Key: {key}\r\n" if key else ""
        writer.write(f"POST {path} HTTP/1.0\r\n{header}Content-Length: 0\r\n\r\n".encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise ConnectionError(f"{path}: {status!r}")
    finally:
        writer.close()


@app.step(retry=RetryPolicy(initial_interval=timedelta(milliseconds=50)))
async def effect(trial: str, phase: Phase, keyed: bool) -> str:
    """Wants the effect once. Its first attempt is held at `phase`, by the receiver, until the fault is over."""
    if phase == "before":
        await ask(f"/hold?trial={trial}")
    hold = "&hold=1" if phase == "applied" else ""
    await ask(f"/effect?trial={trial}{hold}", step_info().idempotency_key if keyed else "")
    if phase == "returned":
        await ask(f"/hold?trial={trial}")
    return "done"


@app.workflow
async def trial(name: str, phase: Phase, keyed: bool, on_crash: OnCrash, queued: bool) -> str:
    """One trial: `done`, or what the failure is."""
    step = effect.options(on_crash=on_crash, queue=QUEUE) if queued else effect.options(on_crash=on_crash)
    try:
        return await step(name, phase, keyed)
    except StepFailed as failure:
        return failure.type
