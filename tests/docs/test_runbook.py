"""The commands of docs/runbook.md, each as it stands there, in the trouble that its entry is for: runs and input."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import pytest

from orchestrator.core.levels import LEVEL
from tests.docs.conftest import PARTITIONS, TROUBLED, WAIT_S, Place, until
from tests.docs.runbook import Entry, Line, lines, tried

Page = Callable[[str], Entry]


def status(place: Place, workflow_id: str) -> str:
    """What `workflow show` says of a run."""
    return str(place.run("workflow", "show", workflow_id, "-o", "json")["status"])


def parkings(place: Place, workflow_id: str) -> int:
    """How often a run was parked."""
    return str(place.run("workflow", "history", workflow_id)).count("RunParked")


# -- the page itself ---------------------------------------------------------------------------------------------------


def test_every_command_of_the_runbook_is_run_by_a_test() -> None:
    """As it stands there, in the entry where it stands."""
    assert sorted(set(lines()) - tried(Path(__file__).parent)) == []


def test_a_command_that_no_test_runs_is_seen() -> None:
    block = "```sh\norchestrator b ID  # why\n```\n```\norchestrator c\n```\n"
    text = f"# R\n`orchestrator a`\n## B\n{block}| `kafka-x.sh --d` |\n"
    assert lines(text) == [
        Line("Runbook", "orchestrator a"),
        Line("B", "orchestrator b ID"),
        Line("B", "kafka-x.sh --d"),
    ]
    assert Line("A stuck run", "orchestrator workflow show ID") in tried(Path(__file__).parent)
    assert Line("A backlog", "orchestrator workflow show ID") not in tried(Path(__file__).parent)


def test_an_entry_runs_nothing_but_its_own_lines() -> None:
    stuck = Entry("A stuck run", None, {})  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="not a line of 'A stuck run'"):
        stuck("orchestrator topics grow 8")


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.broker
def test_stuck_runs_and_code_that_blocks(page: Page, place: Place) -> None:
    first, stuck, poison = page("Runbook"), page("A stuck run"), page("Code that kills or blocks")
    place.run("topics", "init")
    with place.engine():
        for name in ("dying", "buggy", "waiting", "offered"):
            place.run("workflow", "start", name, "--id", name)
        assert "ok" in first("orchestrator doctor")
        assert "bad" not in first("orchestrator topics check")

        until(lambda: "buggy" in first("orchestrator workflow list --status parked"))
        assert "IndexError" in stuck("orchestrator workflow show ID", ID="buggy")
        assert "RunParked" in stuck("orchestrator workflow history ID", ID="buggy")
        stuck("orchestrator workflow retry ID", ID="buggy")
        stuck("orchestrator workflow terminate ID", ID="buggy")
        assert status(place, "buggy") == "terminated"

        steps: list[dict[str, str]] = []

        def parked(run: str) -> bool:
            steps[:] = place.run("workflow", "show", run, "-o", "json")["pending_steps"]
            return [step["state"] for step in steps] == ["parked"]

        until(lambda: parked("dying"))
        step = steps[0]["step"]
        assert "dies is called at" in stuck("orchestrator workflow debug ID --step 1", ID="dying")
        stuck("orchestrator step retry ID STEP", ID="dying", STEP=step)
        until(lambda: parked("dying"))
        stuck("orchestrator step complete ID STEP RESULT", ID="dying", STEP=step, RESULT="5")
        until(lambda: status(place, "dying") == "completed")

        place.run("workflow", "start", "dying", "--id", "dying-2")
        until(lambda: parked("dying-2"))
        stuck("orchestrator step fail ID STEP MESSAGE", ID="dying-2", STEP=step, MESSAGE="it had no effect")
        until(lambda: status(place, "dying-2") == "failed")

        stuck("orchestrator workflow signal ID NAME VALUE", ID="waiting", NAME="go", VALUE="true")
        until(lambda: status(place, "waiting") == "completed")
        place.run("workflow", "start", "waiting", "--id", "waiting-2")
        stuck("orchestrator workflow cancel ID", ID="waiting-2")
        until(lambda: status(place, "waiting-2") == "cancelled")

        assert "gpu" in stuck("orchestrator workflow show ID", ID="offered")
        worker = stuck.background("orchestrator worker run --queue NAME", NAME="gpu")
        try:
            until(lambda: status(place, "offered") == "completed")
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(WAIT_S) == 0

        place.run("workflow", "start", "endless", "--id", "endless")
        until(lambda: "endless" in poison("orchestrator workflow list --status parked"))
        assert "second" in poison("orchestrator workflow show ID", ID="endless")
        before = parkings(place, "endless")
        poison("orchestrator workflow retry ID", ID="endless")
        until(lambda: parkings(place, "endless") > before)
        poison("orchestrator workflow terminate ID", ID="endless")
        assert status(place, "endless") == "terminated"


# -- input, growth, releases -------------------------------------------------------------------------------------------


@pytest.mark.broker
def test_dead_letters_levels_and_growth(page: Page, place: Place) -> None:
    """In a group: whoever is added with the new partitions owns them."""
    letters, more, upgrade = page("Dead letters"), page("More partitions"), page("Upgrades and rollbacks")
    place.run("topics", "init")
    with place.engine(ORCHESTRATOR_MEMBERSHIP="group") as engine:
        producer = confluent_kafka.Producer({"bootstrap.servers": place.kafka.bootstrap})
        producer.produce(f"{place.app}.commands", key=b"x", value=b"no Avro", partition=TROUBLED)
        assert producer.flush(WAIT_S) == 0
        number = ""

        def listed() -> int:
            nonlocal number
            found = re.findall(r"^(\d+) ", letters("orchestrator dead-letters list"), re.MULTILINE)
            number = found[-1] if found else ""
            return len(found)

        until(lambda: listed() == 1)
        assert "no Avro" in letters("orchestrator dead-letters show NUMBER", NUMBER=number)
        letters("orchestrator dead-letters resubmit NUMBER", NUMBER=number)
        until(lambda: listed() == 2)

        assert upgrade("orchestrator upgrade status").count(f" {LEVEL} ") >= PARTITIONS
        upgrade("orchestrator upgrade finalize")
        assert "in force" in upgrade('orchestrator upgrade finalize --yes --reason "release 2 is in"')

        assert "nothing was changed" in more("orchestrator topics grow 8")
        more('orchestrator topics grow 8 --yes --reason "more load"')
        until(lambda: engine.said().count(": claim ") >= 8)
        assert "every partition is answered for" in more("orchestrator doctor")
