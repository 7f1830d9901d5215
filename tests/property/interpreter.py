"""The one workflow that carries programs out. It is ordinary code: what is durable comes by `Ops`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, NoReturn, Protocol

from orchestrator import Orchestrator, RetryPolicy, continue_as_new
from tests.property.programs import Node

ATTEMPTS = 4


class Ops(Protocol):
    """What a program does to the world. `sleep` and everything of asyncio are the loop's own."""

    def step(self, label: str, node: Node) -> Coroutine[Any, Any, str]: ...
    def child(self, program: Node, at: str) -> Coroutine[Any, Any, Any]: ...
    def signal(self, name: str, timeout_ms: int) -> Coroutine[Any, Any, Any]: ...
    def again(self, program: Node, at: str) -> NoReturn: ...


async def carry_out(ops: Ops, node: Node, at: str) -> Any:
    """The value of a program; raises when a step of it fails for good and nothing catches that."""
    kind = node[0]
    if kind == "step":
        return await ops.step(f"{node[1]}{at}", node)
    if kind == "sleep":
        await asyncio.sleep(node[1] / 1000)
        return "slept"
    if kind == "signal":
        return await ops.signal(node[1], node[2])
    if kind == "child":
        return await ops.child(node[2], f"{at}/{node[1]}")
    if kind == "again":
        await carry_out(ops, node[1], at)
        ops.again(node[2], f"{at}+")
    if kind == "seq":
        return [await carry_out(ops, one, at) for one in node[1]]
    if kind == "loop":
        return [await carry_out(ops, node[2], f"{at}#{number}") for number in range(node[1])]
    if kind == "catch":
        try:
            return await carry_out(ops, node[1], at)
        except Exception:
            return "caught"
    if kind == "finally":
        try:
            return await carry_out(ops, node[1], at)
        finally:
            await carry_out(ops, node[2], f"{at}!")
    return await _at_once(ops, node, at)


async def _at_once(ops: Ops, node: Node, at: str) -> Any:
    kind = node[0]
    if kind == "wait_for":
        try:
            return await asyncio.wait_for(carry_out(ops, node[2], at), node[1] / 1000)
        except TimeoutError:
            return "too late"
    if kind == "gather":
        found = await asyncio.gather(*(carry_out(ops, one, at) for one in node[1]), return_exceptions=True)
        return ["failed" if isinstance(one, BaseException) else one for one in found]
    if kind == "group":
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(carry_out(ops, one, at)) for one in node[1]]
        return [task.result() for task in tasks]
    tasks = [asyncio.create_task(carry_out(ops, one, at)) for one in node[1]]
    try:
        if kind == "all":
            return await asyncio.gather(*tasks)
        if kind == "as_completed":
            return [await done for done in asyncio.as_completed(tasks)]
        assert kind == "first"
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        number = min(tasks.index(one) for one in done)
        return ["first", number, tasks[number].result()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


app = Orchestrator("property")
SIGNALS = {name: app.signal(name, int) for name in "ab"}
PUT = app.update("put", list[Any], list[Any])
"""A number, below zero what the validator refuses, and a program; the answer is the number and what that came to."""


@app.step
async def work(label: str, fails: int, ends: str) -> str:
    """Carried out by the test itself: how an attempt ends is its choice of moment, not of outcome."""
    raise NotImplementedError


class Durable:
    """`Ops` by the SDK."""

    async def step(self, label: str, node: Node) -> str:
        """A step with retries."""
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=1_000), max_attempts=ATTEMPTS)
        return await work.options(retry=policy, cancellation=node[4])(label, node[2], node[3])

    async def child(self, program: Node, at: str) -> Any:
        """The same workflow as a child."""
        return await interpret(program, at)

    async def signal(self, name: str, timeout_ms: int) -> Any:
        """The next value, or None."""
        timeout = timedelta(milliseconds=timeout_ms) if timeout_ms else None
        return await SIGNALS[name].wait(timeout=timeout)

    def again(self, program: Node, at: str) -> NoReturn:
        """Go on as a new run."""
        continue_as_new(program, at)


@app.workflow
async def interpret(program: list[Any], at: str) -> Any:
    """Carry a program out, and those of the updates that come meanwhile."""
    PUT.handle(put, validator=may_put)
    return await carry_out(Durable(), program, at)


def may_put(task: list[Any]) -> None:
    """Refuses numbers below zero."""
    if task[0] < 0:
        raise ValueError(f"{task[0]} is below zero")


async def put(task: list[Any]) -> list[Any]:
    """An update's program, beside the run's own; its labels tell which."""
    return [task[0], await carry_out(Durable(), task[1], update_at(task[0]))]


def update_at(number: int) -> str:
    """Where the program of an update stands."""
    return f"/u{number}"
