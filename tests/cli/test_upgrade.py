"""`orchestrator upgrade`: what it says before, does, and says after; the next release is this one at level 2."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.cli import upgrade
from orchestrator.core import levels
from orchestrator.core.commands import ChangeLevel
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.sdk.identity import release
from tests.cli.conftest import Ran, served
from tests.client.fake_engine import PARTITIONS, FakeEngine

Run = Callable[..., Ran]
app = Orchestrator("upgraded")
NAME = ["--app-name", app.name]


@app.workflow
async def nothing() -> None:
    return None


async def a_run(client: Client) -> None:
    """A log that is not empty."""
    await client.execute(nothing)


@pytest.fixture
def next_release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine of the next release on a log that it did not begin anew, and the command line of that release."""
    monkeypatch.setattr(levels, "LEVEL", 2)
    with served(app, monkeypatch, a_run):
        yield


@pytest.mark.usefixtures("next_release")
def test_status_then_finalize_then_status(run: Run) -> None:
    before = run(*NAME, "upgrade", "status", "-o", "json")
    assert before.code == 0
    assert {(row["level"], row["reads"], row["engine"]) for row in before.json} == {(1, 2, release())}
    assert "a rollback is safe" in run(*NAME, "upgrade", "status").err

    said = run(*NAME, "upgrade", "finalize")
    assert said.code == 0
    assert "nothing was changed" in said.err
    assert {row["level"] for row in run(*NAME, "upgrade", "status", "-o", "json").json} == {1}

    done = run(*NAME, "upgrade", "finalize", "--yes", "--reason", "release 2 is in", "-o", "json")
    assert done.code == 0
    assert [row["ok"] for row in done.json] == [True] * len(before.json)
    after = run(*NAME, "upgrade", "status", "-o", "json")
    assert {row["level"] for row in after.json} == {2}
    assert "rollback" not in after.err
    again = run(*NAME, "upgrade", "finalize", "--yes")
    assert again.code == 0
    assert "level 2 is in force everywhere" in again.err


@pytest.fixture
def this_release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine, and a log that it began."""
    with served(app, monkeypatch, a_run):
        yield


@pytest.mark.usefixtures("this_release")
def test_a_level_that_is_in_force_needs_nothing(run: Run) -> None:
    assert "level 1 is in force everywhere" in run(*NAME, "upgrade", "finalize", "--yes").err
    assert "rollback" not in run(*NAME, "upgrade", "status").err


def answering(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, reads: dict[int, int]) -> list[int]:
    """Partitions whose owners have these levels, the others are silent; the list of those that were raised."""
    raised: list[int] = []
    monkeypatch.setattr(levels, "LEVEL", 2)
    # Only for those that stay silent is it waited to the end.
    monkeypatch.setattr(upgrade, "ANSWER_S", 30.0 if len(reads) == PARTITIONS else 2.0)

    def handle(partition: int, key: bytes, value: bytes) -> Reply | None:
        command = engine.codec.decode_command(value)
        if isinstance(command.body, ChangeLevel):
            raised.append(partition)
            return Reply(command.id, "", "", "accepted", "LevelChanged")
        says = {"level": 1, "reads": reads.get(partition, 0), "engine": f"{reads.get(partition)}.0"}
        answer = Reply(command.id, "", "", "answered", result=Payload(data=json.dumps(says).encode()))
        return answer if partition in reads else None

    monkeypatch.setattr(engine, "handle", handle)
    return raised


def test_an_older_owner_or_none_changes_nothing(engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = answering(engine, monkeypatch, {0: 2, 1: 1, 3: 2})
    done = run("upgrade", "finalize", "--yes")
    assert done.code == 1
    assert "partition 1, 2 is not owned by an engine that has level 2" in done.err
    assert not raised
    found = run("upgrade", "status", "-o", "json")
    assert found.code == 1, "a partition is silent"
    assert "nobody answers" in found.json[2]["says"]
    assert "deploy" in found.json[1]["says"]


def test_all_owners_of_the_release_are_told(engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = answering(engine, monkeypatch, dict.fromkeys(range(PARTITIONS), 3))
    assert run("upgrade", "finalize", "--yes").code == 0
    assert sorted(raised) == list(range(PARTITIONS))


def test_a_release_that_does_not_know_the_question(
    engine: FakeEngine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake knows none of it: `not_found`, as an engine from before this command says."""
    monkeypatch.setattr(levels, "LEVEL", 2)
    done = run("upgrade", "finalize", "--yes")
    assert done.code == 1
    assert "nothing was changed" in done.err
    assert not engine.handled
