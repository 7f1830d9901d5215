"""`make walls`: a run of 100,000 steps, 10,000 concurrent steps in one run, 10 MB of state, 20,000 signals, on one
partition; then the engine is started anew and they are replayed while somebody else's runs go on, once more for a
question to the longest one.

The last line is one JSON object. `broken` names the figures that are beyond their bound; if there are any, the exit
code is 1. Figures of one run are for comparing with each other, not with another machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.__main__ import quantile, say
from benchmarks.engines import EngineProcess, site
from benchmarks.walls_app import app, counts, finished, go, heavy, long, other, steps_done, wide
from benchmarks.walls_fair import fairness
from benchmarks.walls_fair_app import app as fair_app
from orchestrator import Client, Handle
from orchestrator.client.calls import HISTORY_PAGE
from orchestrator.config import Settings
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics

STEPS, WIDTH, PIECES, PIECE, SIGNALS = 100_000, 10_000, 200, 52_430, 20_000
SENDERS = 100
BLOCK = 100
SHORT = 1_000
"""Steps of the run whose history the longest one's is compared with."""
LOOKS = 20
BOUNDS = {
    "flat": 2.0,
    "history_page_ratio": 3.0,
    "other_beside_replay_ms_max": 1_000.0,
    "other_beside_question_ms_max": 1_000.0,
    "peak_mb": 512.0,
    "peak_mb_of_replay": 512.0,
    "fair_delay_beside_asking_ms_max": 1_000.0,
    "fair_delay_beside_waiting_ms_max": 1_000.0,
}
"""The walls, as the contract has them: a step costs the same at the end of a long run and a page of its history what a
short one's does, memory is bounded, nobody waits a second for somebody else."""
FLAT_FROM = 10_000
"""Of how many steps a run shows whether their cost is flat; a tenth of fewer is noise."""


class Others:
    """Runs of somebody else, one after the other: milliseconds from start to result."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def once(self) -> float:
        """One of them."""
        began = time.perf_counter()
        await self._client.execute(other)
        return (time.perf_counter() - began) * 1000

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[list[float]]:
        """They go on while the block does; what each took."""
        took: list[float] = []
        over = asyncio.Event()

        async def go_on() -> None:
            while not over.is_set():
                took.append(await self.once())

        running = asyncio.create_task(go_on())
        try:
            yield took
        finally:
            over.set()
            await running


async def stepped(handle: Handle[Any], steps: int) -> None:
    """Until a run has done so many steps."""
    while True:
        if (await handle.describe()).steps_done >= steps:
            return
        await asyncio.sleep(0.5)


async def flatness(handle: Handle[Any]) -> dict[str, float]:
    """Milliseconds a step at the run's start and at its end, by the log's own clock; what the history pages hold."""
    ends: list[int] = []
    events = 0
    async for event in handle.history():
        events += 1
        if event.type == "StepCompleted":
            ends.append(event.at_ms)
    tenth = max(BLOCK, len(ends) // 10)
    first = statistics.mean(later - earlier for earlier, later in itertools.pairwise(ends[:tenth]))
    last = statistics.mean(later - earlier for earlier, later in itertools.pairwise(ends[-tenth:]))
    return {"first_step_ms": first, "last_step_ms": last, "flat": last / first, "history_events": events}


async def paging(longest: Handle[Any], short: Handle[Any]) -> dict[str, float]:
    """Milliseconds until a page of the longest run's history is here, at its start, in its middle and at its end, and
    of a short run's; they take turns, so that other work on the machine meets all of them.
    """
    events = (await longest.describe()).seq
    places = {
        "short": (short, 1),
        "first": (longest, 1),
        "middle": (longest, max(1, events // 2)),
        "last": (longest, max(1, events - HISTORY_PAGE + 1)),
    }
    took: dict[str, list[float]] = {name: [] for name in places}
    for _ in range(LOOKS):
        for name, (handle, seq) in places.items():
            began = time.perf_counter()
            await anext(handle.history(seq))
            took[name].append((time.perf_counter() - began) * 1000)
    found = {f"history_{name}_page_ms": quantile(each, 0.5) for name, each in took.items()}
    pages = [found[f"history_{name}_page_ms"] for name in ("first", "middle", "last")]
    return {**found, "history_page_ratio": max(pages) / found["history_short_page_ms"]}


async def signalled(handle: Handle[int], signals: int) -> float:
    """Seconds until a run has taken so many signals."""
    began = time.perf_counter()
    left = iter(range(signals))

    async def send() -> None:
        for _ in left:
            await handle.signal(go, 1)

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    await handle.update(finished, 1)
    return time.perf_counter() - began


class Walls(NamedTuple):
    """How large they are."""

    steps: int
    width: int
    pieces: int
    signals: int

    @classmethod
    def of(cls, scale: float) -> Walls:
        """A share of their full size."""
        steps, width, signals = (max(BLOCK, int(size * scale)) for size in (STEPS, WIDTH, SIGNALS))
        return cls(steps, width, max(2, int(PIECES * scale)), signals)


@contextlib.contextmanager
def running(settings: Settings, directory: Path, where: str = "benchmarks.walls_app:app") -> Iterator[EngineProcess]:
    """An engine that owns the one partition."""
    environment = {
        "ORCHESTRATOR_BOOTSTRAP": settings.bootstrap,
        "ORCHESTRATOR_MEMBERSHIP": "static",
        "ORCHESTRATOR_ASSIGNMENT": "0",
    }
    engine = EngineProcess(environment, directory, 18083, where)
    try:
        engine.wait_ready()
        yield engine
        engine.terminate()
    except Exception:
        say(f"the engine's probe says {engine.health()}, its log ends:\n{engine.log.read_text()[-2000:]}")
        raise
    finally:
        engine.kill()


class Built(NamedTuple):
    """The large runs, which wait for a signal, and a short one that has ended."""

    longest: Handle[int]
    widest: Handle[int]
    heaviest: Handle[int]
    counting: Handle[int]
    short: Handle[int]


async def built(client: Client, walls: Walls, found: dict[str, Any]) -> Built:
    """All of them."""
    others = Others(client)
    found["other_alone_ms_p50"] = quantile([await others.once() for _ in range(50)], 0.5)
    say(f"a run of {walls.steps} steps")
    began = time.perf_counter()
    longest = await client.start(long, walls.steps)
    await stepped(longest, walls.steps)
    found["steps_s"] = time.perf_counter() - began

    say(f"{walls.width} concurrent steps")
    began = time.perf_counter()
    async with others.beside() as took:
        widest = await client.start(wide, walls.width)
        await widest.update(finished, 1)
        found["width_s"] = time.perf_counter() - began
    found["other_beside_width_ms_max"] = max(took)

    say(f"{walls.pieces} pieces of {PIECE} characters")
    heaviest = await client.start(heavy, walls.pieces, PIECE)
    await stepped(heaviest, walls.pieces)

    say(f"{walls.signals} signals")
    counting = await client.start(counts, walls.signals)
    found["signals_s"] = await signalled(counting, walls.signals)
    short = await client.start(long, SHORT)
    await short.signal(go, 1)
    assert await short.result() == SHORT
    return Built(longest, widest, heaviest, counting, short)


async def replayed(client: Client, walls: Walls, found: dict[str, Any], runs: Built) -> None:
    """Wake them all in an engine that has them nowhere but on disk, while somebody else's runs go on."""
    results = {
        runs.longest: walls.steps,
        runs.widest: walls.width,
        runs.heaviest: walls.pieces * PIECE,
        runs.counting: walls.signals,
    }
    others = Others(client)
    await others.once()
    async with others.beside() as took:
        began = time.perf_counter()
        await asyncio.gather(*(handle.signal(go, 1) for handle in results))
        assert [await handle.result() for handle in results] == [*results.values()]
        found["replay_s"] = time.perf_counter() - began
    found |= {"other_beside_replay_ms_p50": quantile(took, 0.5), "other_beside_replay_ms_max": max(took)}
    say("history, page by page")
    found |= await paging(runs.longest, runs.short)
    found |= await flatness(runs.longest)


async def asked(client: Client, walls: Walls, found: dict[str, Any], runs: Built) -> None:
    """Ask the code of the longest run, which has ended, in an engine that never had it in memory."""
    others = Others(client)
    await others.once()
    async with others.beside() as took:
        began = time.perf_counter()
        assert await runs.longest.query(steps_done) == walls.steps
        found["question_s"] = time.perf_counter() - began
    found["other_beside_question_ms_max"] = max(took)


async def measured_fairness(settings: Settings, directory: Path, scale: float) -> dict[str, Any]:
    """The last wall, on a log of its own."""
    init_topics(LogConfig.of(settings, fair_app.name), 1)
    found: dict[str, Any] = {}
    async with Client.connect(fair_app, settings) as client:
        with running(settings, directory, "benchmarks.walls_fair_app:app"):
            await fairness(client, scale, found)
    return found


async def measure(settings: Settings, directory: Path, walls: Walls) -> dict[str, Any]:
    """All walls."""
    init_topics(LogConfig.of(settings, app.name), 1)
    found: dict[str, Any] = {**walls._asdict(), "state_mb": walls.pieces * PIECE / 1e6}
    async with Client.connect(app, settings) as client:
        with running(settings, directory) as engine:
            runs = await built(client, walls, found)
            found["peak_mb"] = engine.peak_mb()
        say("the engine starts anew, the runs are replayed")
        with running(settings, directory) as engine:
            await replayed(client, walls, found, runs)
            found["peak_mb_of_replay"] = engine.peak_mb()
        say("the engine starts anew, the longest run is asked something")
        with running(settings, directory):
            await asked(client, walls, found, runs)
    return found


def broken(figures: dict[str, Any], bounds: dict[str, float]) -> dict[str, str]:
    """The figures that are beyond their bound, each with it."""
    judged = {name for name in bounds if name in figures}
    if figures.get("steps", 0) < FLAT_FROM:
        judged.discard("flat")
    return {name: f"{figures[name]} > {bounds[name]}" for name in sorted(judged) if figures[name] > bounds[name]}


def main() -> int:
    """Run them, print the figures, and say by the exit code whether one is a wall."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="the share of their full size")
    parser.add_argument("--only-fairness", action="store_true", help="only the wall of a limit that tenants share")
    parser.add_argument("--fair-ms", type=float, help="how long one tenant's task may wait for another's tasks")
    given = parser.parse_args()
    bounds = dict(BOUNDS)
    if given.fair_ms is not None:
        bounds |= {name: given.fair_ms for name in BOUNDS if name.startswith("fair_")}
    with site(say) as (kafka, scratch):
        settings = Settings.from_env({}).with_changes(bootstrap=kafka.bootstrap)
        figures: dict[str, Any] = {}
        if not given.only_fairness:
            figures |= asyncio.run(measure(settings, scratch, Walls.of(given.scale)))
        figures |= asyncio.run(measured_fairness(settings, scratch / "fair", given.scale))
    figures = {name: round(value, 3) for name, value in figures.items()}
    beyond = broken(figures, bounds)
    about = {"python": platform.python_version(), "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    print(json.dumps(figures | about | {"bounds": bounds, "broken": beyond}))
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
