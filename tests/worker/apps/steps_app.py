"""Steps of every temper, for the tests of the executor. Step processes import this file by its path."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.sdk.app import Orchestrator
from orchestrator.sdk.step import step_info
from orchestrator.telemetry import tracing

app = Orchestrator("steps-app")


@app.step
async def echo(value: str) -> str:
    return value


@app.step
async def whoami() -> int:
    return os.getpid()


@app.step
def blocking_whoami() -> int:
    return os.getpid()


@app.step
async def hold(file: str) -> int:
    """Say that the attempt began by a line in `file`; end once a file `<file>.go` exists."""
    note(file)
    while not Path(file + ".go").exists():
        await asyncio.sleep(0.01)
    return os.getpid()


@app.step
def blocking_hold(file: str) -> int:
    note(file)
    while not Path(file + ".go").exists():
        time.sleep(0.01)
    return os.getpid()


@app.step
def patient(file: str) -> str:
    """A blocking step that asks whether it is cancelled."""
    note(file)
    while not step_info().cancelled:
        time.sleep(0.01)
    return "gave up"


@app.step
async def fail(text: str) -> None:
    raise ValueError(text)


@app.step
async def leave() -> None:
    sys.exit(3)


@app.step
async def die(code: int) -> None:
    await asyncio.sleep(0)
    os._exit(code)


@app.step
def blocking_die(code: int) -> None:
    os._exit(code)


@app.step
async def crash() -> None:
    await asyncio.sleep(0)
    ctypes.string_at(0)


@app.step
async def starve() -> None:
    """What the kernel does to a process that takes all memory."""
    await asyncio.gather(child_task())


@app.step
def hog() -> None:
    """Takes memory until there is no more: the process may have little above what it has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), hard))
    held = []
    try:
        while True:
            held.append(bytes(16 << 20))
    finally:
        held.clear()
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


async def child_task() -> None:
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)


@app.step
async def die_in_thread() -> None:
    """No task's code runs when the process ends: nobody is caught in the act."""
    await asyncio.to_thread(die_soon)


def die_soon() -> None:
    time.sleep(0.2)
    os._exit(4)


@app.step
async def spin(file: str) -> None:
    note(file)
    while True:
        pass


@app.step
def blocking_spin(file: str) -> None:
    note(file)
    while True:
        pass


@app.step
async def beats(count: int) -> str:
    for number in range(count):
        step_info().heartbeat(number)
    raise ValueError("after the last heartbeat")


@app.step
async def speak(text: str) -> None:
    print(text)
    print(text, file=sys.stderr)


@app.step
def ears() -> int:
    """The SIGTERM disposition that a program started by a step has: -15 when it can be ended."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    child.terminate()
    return child.wait()


@app.step
async def about() -> str:
    info = step_info()
    return f"{info.workflow_id} {info.run_id} {info.attempt} {info.idempotency_key}"


def note(file: str) -> None:
    with open(file, "a", encoding="utf-8") as out:
        out.write(f"{os.getpid()}\n")


@app.step
async def beat_and_hold(file: str) -> None:
    step_info().heartbeat("half way")
    await hold(file)


@app.step
async def beat_large_and_fail(size: int) -> None:
    """Says something large, and fails at once."""
    step_info().heartbeat("x" * size)
    raise ValueError("after the heartbeat")


@app.step
async def beat_hold_and_fail(file: str) -> None:
    step_info().heartbeat("first")
    await hold(file)
    step_info().heartbeat("last")
    raise ValueError("after the last heartbeat")


@app.step(on_crash="park")
async def charge(cents: int) -> str:
    return f"paid {cents}"


@app.step(isolation="thread")
async def in_engine() -> int:
    return os.getpid()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("speechless")


@app.step
async def mute() -> None:
    raise Mute


@app.step
def half_async() -> int:
    result: int = asyncio.sleep(0, 5)  # type: ignore[assignment]
    return result


@app.error
class Declined(Exception):
    def __init__(self, message: str, cents: int) -> None:
        super().__init__(message)
        self.cents = cents


@app.step
async def decline(cents: int) -> None:
    raise Declined("too much", cents)


@app.step
async def traced() -> list[str]:
    """The current span's context, and what the step was told of it."""
    return [tracing.current(), step_info().trace]


@app.step
async def tidies_up(file: str) -> None:
    """Told to end, it tidies up until `<file>.gate` is there."""
    said = Path(file)
    said.write_text("began\n", encoding="utf-8")
    try:
        await asyncio.sleep(3_600)
    finally:
        said.write_text("began\ntold\n", encoding="utf-8")
        while not Path(f"{file}.gate").exists():
            await asyncio.sleep(0.01)
        said.write_text("began\ntold\ntidied\n", encoding="utf-8")
