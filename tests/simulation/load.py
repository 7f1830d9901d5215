"""What the engines of a simulation work on: one workflow that carries out small plans, and what each must come to."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta
from typing import Any, NamedTuple

from orchestrator import Orchestrator, RetryPolicy, StepFailed, continue_as_new
from orchestrator.core.values import NOTHING, Failure, Payload
from orchestrator.sdk.execution import StepCall

APP = "simulated"
QUEUE = "far"

app = Orchestrator(APP)
go = app.signal("go", int)
RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), max_interval=timedelta(milliseconds=200))

Plan = list[list[Any]]
"""`[kind, ...]` one after the other; plain JSON, for it is the argument of the run that carries it out."""


@app.step(retry=RETRY)
async def work(x: int, fails: int) -> int:
    """A step that may be repeated; how it ends is `outcome_of`."""
    raise NotImplementedError


@app.step(retry=RETRY, on_crash="fail")
async def once(x: int, fails: int) -> int:
    """A step that nobody may begin twice."""
    raise NotImplementedError


@app.step(queue=QUEUE, retry=RETRY)
async def far(x: int, fails: int) -> int:
    """A step of the workers of a queue."""
    raise NotImplementedError


@app.workflow
async def carry(plan: list[Any], total: int) -> int:
    """Carry a plan out; the sum of everything."""
    for number, (kind, *rest) in enumerate(plan):
        if kind == "work":
            total += await work(*rest)
        elif kind == "far":
            total += await far(*rest)
        elif kind == "both":
            total += sum(await asyncio.gather(*(work(x, 0) for x in rest)))
        elif kind == "once":
            total += await _until_done(*rest)
        elif kind == "nap":
            await asyncio.sleep(rest[0] / 1000)
        elif kind == "go":
            total += await go.wait()
        elif kind == "child":
            total += await carry.options(id=rest[0])(rest[1], 0)
        else:
            continue_as_new(plan[number + 1 :], total)
    return total


async def _until_done(x: int, fails: int) -> int:
    """An interrupted step may have had its effect: here the code decides to ask for another one."""
    while True:
        try:
            return await once(x, fails)
        except StepFailed:
            continue


def outcome_of(call: StepCall) -> tuple[Payload, Failure | None]:
    """How an attempt ends by its arguments and its number."""
    code = app.registry.step(call.name)
    assert code is not None
    x, fails = code.signature.unbind(call.arguments)[0]
    if call.attempt <= fails:
        return NOTHING, Failure("NotNow", "later")
    return Payload(data=json.dumps(value_of(x)).encode()), None


def value_of(x: int) -> int:
    """What a step gives."""
    return 10 * x + 1


class Meaning(NamedTuple):
    """What a plan comes to, with the signals that it waits for."""

    total: int
    steps: int


def meaning(plan: Plan, signals: list[int]) -> Meaning:
    """The sum of everything and the count of results; no engine is asked."""
    total = sum(signals)
    steps = 0
    for kind, *rest in plan:
        given = {"work": rest[:1], "far": rest[:1], "once": rest[:1], "both": rest}.get(kind, [])
        total += sum(map(value_of, given))
        steps += len(given)
        total += meaning(rest[1], []).total if kind == "child" else 0
    return Meaning(total, steps)


class Work(NamedTuple):
    """One root run: its workflow id, its plan, the values it is sent, whether somebody cancels it."""

    workflow: str
    plan: Plan
    signals: list[int]
    cancelled: bool


def children(plan: Plan) -> dict[str, Plan]:
    """The children of a plan, by workflow id."""
    return {rest[0]: rest[1] for kind, *rest in plan if kind == "child"}


KINDS = ("work", "work", "work", "far", "far", "both", "once", "once", "nap", "go", "child", "again")


def make_work(rng: random.Random) -> list[Work]:
    """One or two small runs."""
    found = []
    for number in range(rng.choice((1, 1, 1, 2))):
        workflow = f"w{number}"
        plan: Plan = []
        for place in range(rng.choice((1, 2, 2))):
            plan.append(_make(rng, rng.choice(KINDS), f"{workflow}/{place}"))
        signals = [rng.randrange(1, 100) for kind, *_ in plan if kind == "go"]
        found.append(Work(workflow, plan, signals, rng.random() < 0.1))
    return found


def _make(rng: random.Random, kind: str, child: str) -> list[Any]:
    fails = rng.choice((0, 0, 0, 1))
    if kind == "child":
        return [kind, child, [["work", rng.randrange(9), 0]]]
    return {
        "both": [kind, rng.randrange(9), rng.randrange(9)],
        "nap": [kind, rng.choice((0, 10, 700, 2_500))],
        "go": [kind],
        "again": [kind],
    }.get(kind, [kind, rng.randrange(9), fails])
