"""The application whose histories are recorded. Its code is part of the promise: add workflows, change none."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

from orchestrator import (
    ChildFailed,
    Orchestrator,
    RetryPolicy,
    Saga,
    StepTimeout,
    WorkflowFailed,
    approval,
    continue_as_new,
    deprecate_patch,
    external_workflow,
    now,
    patched,
    query,
    random,
    run_info,
    set_summary,
    signal,
    sleep_until,
    step_info,
    uuid4,
    wait_event,
)

app = Orchestrator("recorded")
item = app.signal("item", int)
total = app.query("total", int)


@app.error
class Declined(Exception):
    """A declared error with a field."""

    def __init__(self, cents: int) -> None:
        super().__init__(f"{cents} declined")
        self.cents = cents


@app.step
async def add(a: int, b: int = 1) -> int:
    return a + b


@app.step
async def note(what: str) -> str:
    return what


@app.step(retry=RetryPolicy(max_attempts=2, initial_interval=timedelta(seconds=1)))
def fails(cents: int) -> int:
    raise Declined(cents)


@app.step(retry=RetryPolicy(max_attempts=3, initial_interval=timedelta(seconds=1)))
def flaky(until: int) -> int:
    if step_info().attempt < until:
        raise ValueError("not yet")
    return until


@app.step(start_to_close=timedelta(milliseconds=50), retry=1)
async def hangs() -> None:
    await asyncio.Event().wait()


@app.step(cancellation="wait")
async def waits_to_end(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if seconds > 1000:
            raise
        return "ended in its own time"
    return "slept"


@app.workflow
async def sequence(n: int) -> int:
    value = 0
    for _ in range(n):
        value = await add(value, b=2)
    return value


@app.workflow
async def concurrent(n: int) -> list[int]:
    first = await asyncio.gather(*(add(number) for number in range(n)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(add(number, 10)) for number in first]
    done = [await one for one in asyncio.as_completed([add(task.result(), 100) for task in tasks])]
    return [*sorted(done), *await add.map(first, concurrency=2)]


@app.workflow
async def first_wins() -> str:
    slow, fast = asyncio.ensure_future(item.wait()), asyncio.ensure_future(note("fast"))
    done, pending = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()
    return str([one.result() for one in done])


@app.workflow
async def failures() -> str:
    try:
        await flaky(9)
    except ValueError:
        await flaky(3)
    try:
        await fails(7)
    except Declined as error:
        said = f"{error.cents}"
    try:
        await hangs()
    except StepTimeout:
        said += " timeout"
    if said:
        raise WorkflowFailed(said)
    return said


@app.workflow
async def timers() -> str:
    began = now()
    await asyncio.sleep(3600)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(item.wait(), 60)
    async with asyncio.timeout(30):
        await note("in time")
    return str(now() - began)


@app.workflow
async def signals() -> list[int | None]:
    taken: list[int | None] = []
    total.answer(lambda: sum(filter(None, taken)))
    while len(taken) < 3:
        taken.append(await item.wait(timeout=timedelta(minutes=5)))
    return taken


class Cart:
    """The class form."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.closed = asyncio.Event()

    @app.run
    async def run(self, owner: str) -> list[str]:
        await self.closed.wait()
        return [owner, *self.items]

    @signal
    async def put(self, what: str) -> None:
        self.items.append(await note(what))

    @signal
    def close(self) -> None:
        self.closed.set()

    @query
    def count(self) -> int:
        return len(self.items)


@app.workflow
async def child(how: str) -> str:
    if how == "declined":
        raise Declined(9)
    if how == "waits":
        await item.wait()
    return await note(how)


@app.workflow
async def parent() -> str:
    said = [await child("fine")]
    try:
        await child.options(id="children-declined")("declined")
    except Declined as error:
        said.append(f"{error.cents} {type(error.__cause__).__name__}")
    left = asyncio.ensure_future(child.options(id="children-waits", close_policy="request_cancel")("waits"))
    await asyncio.sleep(1)
    left.cancel()
    try:
        await left
    except (asyncio.CancelledError, ChildFailed):
        said.append("cancelled")
    item.send("children-nobody", 1)
    return ", ".join(said)


@app.workflow
async def continues(left: int) -> str:
    if left:
        await add(left)
        continue_as_new(left - 1)
    return run_info().workflow_id


@app.workflow
async def cancelled() -> None:
    work = asyncio.ensure_future(waits_to_end(900))
    try:
        await work
    finally:
        await note("cleaned up")
        await item.wait()


@app.workflow
async def gives_up() -> str:
    said = []
    for seconds in (900.0, 3600.0):
        work = asyncio.ensure_future(waits_to_end(seconds))
        await item.wait()
        work.cancel()
        try:
            said.append(await work)
        except asyncio.CancelledError:
            said.append("cancelled")
    return ", ".join(said)


@app.workflow
async def saga(what: str) -> None:
    async with Saga() as undo:
        await asyncio.gather(undo.do(note("a"), note), undo.do(note("b"), note))
        undo.add(note, f"not {what}")
        await fails(3)


@app.entity
class Counter:
    value: int = 0

    @app.handler
    async def grow(self, by: int) -> int:
        self.value = await add(self.value, by)
        return self.value

    @query
    def doubled(self, plus: int = 0) -> int:
        return 2 * self.value + plus


@app.workflow
async def counts() -> int:
    await Counter.grow.on("one")(2)
    return await Counter.grow.on("one")(3)


@app.workflow
async def patches() -> list[str]:
    deprecate_patch("long ago")
    said = [await note("new" if patched("side") else "old")]
    await asyncio.sleep(1)
    return [*said, await note("new" if patched("side") else "old")]


@app.workflow(version=2)
async def versions() -> str:
    return await note("two")


@versions.older(version=1)
async def versions_1() -> str:
    return await note("one")


@app.workflow
async def chance() -> list[str]:
    drawn = [str(uuid4()), str(random().random())]
    await note("between")
    return [*drawn, str(random("named").randint(1, 6)), str(random().random())]


@app.workflow
async def parks() -> int:
    await add(1)
    return int("not a number")


change = app.update("change", int, int)


@app.workflow
async def updated() -> int:
    value = 0
    done = asyncio.Event()

    def sane(by: int) -> None:
        if by < 0:
            raise ValueError("only up")

    async def changes(by: int) -> int:
        nonlocal value
        if by == 13:
            raise Declined(by)
        value = await add(value, b=by)
        if by == 7:
            done.set()
        return value

    change.handle(changes, validator=sane)
    await done.wait()
    return value


LIMITED = app.limit("limited", concurrency=1, key="what")
ADMITTED = app.limit("admitted", concurrency=2)


@app.step(limits=[LIMITED])
async def limited_note(what: str) -> str:
    return what


@app.workflow(limits=[ADMITTED])
async def limited(n: int) -> list[str]:
    return await asyncio.gather(*(limited_note("same") for _ in range(n)))


region = app.attribute("region", str)


@app.workflow
async def annotated() -> str | None:
    set_summary("adding")
    region.set("north")
    await add(1)
    set_summary("done")
    return region.get()


heard = app.event("heard", dict[str, int])


@app.workflow
async def events() -> list[Any]:
    heard.send({"n": 1})
    first = await heard.wait(match={"n": 1})
    heard.send({"n": 2})
    second = await heard.wait()
    return [first, second, await wait_event("unheard", timeout=timedelta(seconds=5))]


@app.workflow
async def approvals() -> list[str]:
    said = [await approval("deploy", {"version": 1}, to="ops") for _ in range(2)]
    late = await approval("late", expires=timedelta(hours=1))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await approval("never")
    return [one.outcome for one in (*said, late)]


@app.workflow
async def others() -> str:
    other = external_workflow("nobody")
    other.signal(item, 1)
    other.cancel("not needed")
    begins = now() + timedelta(hours=1)
    await sleep_until(begins)
    return "suggested" if run_info().continue_as_new_suggested else "not suggested"
