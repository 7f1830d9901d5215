"""The modes are what they say, and leave out what their table says."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.core.events import StepHandedOver, TimerFired
from orchestrator.core.replay import BatchAssembler
from tests.contract.forced import Gates, Halted
from tests.contract.modes import MODES, SKIPS, reasons
from tests.contract.run_modes import counts
from tests.contract.world import CODEC, World

HERE = Path(__file__).parent
app = Orchestrator("modes")


@app.workflow
async def naps(count: int) -> int:
    return len(await asyncio.gather(*(asyncio.sleep(0.5 + n / 1_000) for n in range(count))))


def fired(world: World) -> list[list[TimerFired]]:
    """The timers that fired, batch by batch."""
    assert world.ground is not None
    found = []
    for records in world.ground.records("events"):
        assembler = BatchAssembler("events")
        batches = [assembler.feed(CODEC.decode_event(raw.key, raw.value), raw.offset) for raw in records]
        bodies = [[record.event.body for record in batch.records] for batch in batches if batch]
        found += [[body for body in some if isinstance(body, TimerFired)] for some in bodies]
    return [some for some in found if some]


@pytest.mark.contract("time-sleep")
def test_timers_that_are_due_at_once_all_fire_and_one_in_memory_is_one_a_batch(world: World) -> None:
    """They came due while no engine ran."""

    async def scenario(client: Client) -> None:
        handle = await client.start(naps, 30)
        while [event.type async for event in handle.history()].count("TimerSet") < 30:
            await asyncio.sleep(0.01)
        await world.restart()
        assert await handle.result() == 30
        batches = await asyncio.to_thread(fired, world)
        timers = [body.timer for some in batches for body in some]
        assert len(timers) == len(set(timers)) == 30
        if world.mode.options.get("timers_per_batch") == 1:
            assert max(map(len, batches)) == 1

    world.run(app, scenario)


def dealing_always() -> World:
    """In memory; an engine comes and the oldest goes all the time."""
    return World(MODES["moving"]._replace(deal_s=0.001))


async def still(world: World) -> None:
    """No engine is there, and none comes."""
    before = await world.events()
    await asyncio.sleep(0.1)
    assert (world.engines, await world.events()) == ([], before)


def test_nothing_moves_while_all_are_down_however_often_a_mode_deals() -> None:
    world = dealing_always()

    async def scenario(client: Client) -> None:
        handle = await client.start(naps, 3)
        for _ in range(3):
            await world.at_least(3)
            await world.deploy(app)
            await world.restart()
            async with world.down():
                await still(world)
        assert await handle.result() == 3

    world.run(app, scenario)
    assert world.engines == []


def test_nothing_moves_after_the_end_however_often_a_mode_deals() -> None:
    world = dealing_always()

    async def scenario(client: Client) -> None:
        assert await client.execute(naps, 3) == 3
        await world.end()
        await still(world)

    world.run(app, scenario)


@pytest.mark.usefixtures("held")
def test_an_owner_that_is_ending_is_held_as_any() -> None:
    """Its last batch, say, which hands over what it runs."""
    gates, own = Gates(), Orchestrator("ending")
    world = World(MODES["moving"]._replace(deal_s=0.0))

    @own.step(isolation="thread")
    def gated() -> None:
        gates.wait("gated")

    @own.workflow
    async def one() -> None:
        await gated()

    async def scenario(client: Client) -> None:
        await client.start(one.options(id="one"))
        await gates.stands("gated")
        async with Halted(world, "one", StepHandedOver) as halted:
            ending = asyncio.ensure_future(world.end())
            await halted.reached()
            halted.go_on()
            gates["gated"].set()
            await ending
        assert world.engines == []

    world.run(own, scenario)


def report(tmp_path: Path, *skipped: str) -> Path:
    """A report of three tests, of which some were left out."""
    cases = "".join(f'<testcase name="test_{n}">{one}</testcase>' for n, one in enumerate(skipped))
    suite = f'<testsuite tests="3" failures="0" errors="0" skipped="{len(skipped)}">{cases}</testsuite>'
    path = tmp_path / "report.xml"
    path.write_text(f"<testsuites>{suite}</testsuites>", "utf-8")
    return path


def test_a_skip_without_a_reason_in_the_table_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def skipped(kind: str, reason: str) -> str:
        return ElementTree.tostring(ElementTree.Element("skipped", type=kind, message=reason), "unicode")

    reason = min(reasons("processes3"))
    good, bad, expected = (
        skipped("pytest.skip", reason),
        skipped("pytest.skip", "it is slow"),
        skipped("pytest.xfail", "it is broken"),
    )
    assert counts(report(tmp_path), "single") == {"passed": 3, "failed": 0, "skipped": 0}
    assert counts(report(tmp_path, good), "processes3") == {"passed": 2, "failed": 0, "skipped": 1}
    assert counts(report(tmp_path, good), "single") == {"passed": 2, "failed": 1, "skipped": 0}
    assert counts(report(tmp_path, good, bad, expected), "processes3") == {"passed": 0, "failed": 2, "skipped": 1}
    assert "test_1 was left out, and no table says why: it is slow" in capsys.readouterr().out


def test_every_mode_of_the_skip_table_exists_and_says_why() -> None:
    assert {skip.mode for skip in SKIPS} <= MODES.keys()
    assert all(len(skip.reason) > 20 and skip.what for skip in SKIPS)


def test_no_test_of_the_contract_leaves_itself_out() -> None:
    """Neither by pytest's ways, nor by looking at the mode and going home."""
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            words = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if words in ("pytest.skip", "pytest.xfail", "mark.skip", "pytest.importorskip") or words.endswith(
                ("mark.skip", "mark.skipif", "mark.xfail", "mode.remote", "mode.processes", "mode.engines", "mode.what")
            ):
                found.append(f"{path.name}: {words}")
    assert found == []
