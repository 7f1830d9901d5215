"""Every later commit repeats the histories that this release recorded: else a deploy of it would park open runs."""

from __future__ import annotations

import asyncio
import typing
from pathlib import Path

import pytest

from orchestrator.client.histories import event_of, read_history
from orchestrator.core import events as e
from orchestrator.errors import Divergence, OrchestratorError
from orchestrator.testing import Replayer
from orchestrator.testing.replayer import in_second_process
from tests.histories import app as code
from tests.histories.scenarios import FOLDER, SCENARIOS, missing, record

FILES = sorted(FOLDER.glob("*.jsonl"))
WHAT_TO_DO = """
{file} was recorded by an earlier release and no longer repeats. Open runs like it would be parked by a deploy.

- Not meant? Undo it: the identity of calls, the order of commands and the reading of exported events are fixed.
- Meant? Let the new behaviour begin with what a run records from now on (a field with a default, a marker), and keep
  the old one for histories without it. Then record a new history beside this one: python -m tests.histories --write
- Do not write this file again, and do not change the workflow in tests/histories/app.py that it belongs to.

What differs: {error}"""


@pytest.mark.contract("replayer")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recorded_history_repeats(file: Path) -> None:
    try:
        assert Replayer(code.app).replay(file) > 0
    except OrchestratorError as error:
        pytest.fail(WHAT_TO_DO.format(file=f"tests/histories/recorded/{file.name}", error=error), pytrace=False)


@pytest.mark.contract("replayer")
@pytest.mark.slow
def test_all_of_them_repeat_under_another_hash_seed() -> None:
    asyncio.run(in_second_process("tests.histories.app:app", [("", "", read_history(file)) for file in FILES]))


def test_every_scenario_is_recorded() -> None:
    assert not missing(), "record them: python -m tests.histories --write"
    assert {file.stem for file in FILES} == SCENARIOS.keys()


def test_every_feature_has_a_history() -> None:
    """What code can see (deliveries) and what it can do (events of a turn)."""
    wanted = {
        body.__name__
        for body in typing.get_args(e.RunBody)
        if body in e.DELIVERABLE or getattr(body, "_fields", ())[:1] == ("turn",)
    }
    found = {raw["type"] for file in FILES for raw in read_history(file)}
    assert not wanted - found, (
        "write a scenario in tests/histories/scenarios.py, then: python -m tests.histories --write"
    )


def test_a_history_that_does_not_repeat_is_found() -> None:
    file = FOLDER / "sequence.jsonl"
    history = [event_of(raw) for raw in read_history(file)]
    changed = [
        one._replace(body=one.body._replace(name="subtract")) if isinstance(one.body, e.StepScheduled) else one
        for one in history
    ]
    with pytest.raises(Divergence, match="subtract"):
        Replayer(code.app).replay(changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_can_be_recorded_anew(name: str) -> None:
    """So that the writer of histories does not rot."""
    assert '"RunStarted"' in asyncio.run(record(name))
