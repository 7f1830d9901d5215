"""The main job on the log in memory, with the model server and its faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.environment_audit.app import Outcome, app, audit, is_model_step, step_count
from examples.environment_audit.distributions import read_facts, take_inventory
from orchestrator.client.views import HistoryEvent
from orchestrator.errors import RunFailed
from orchestrator.testing import environment
from orchestrator.testing.model_faults import Fault
from orchestrator.testing.model_server import ModelServer

pytestmark = pytest.mark.slow

LIMIT = 4
SEED = 7
RATE_LIMITED = Fault("rate_limit", "step-6", retry_after_s=90.0)
BROKEN = Fault("break", "step-9")


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model server with one refusal and one broken stream, set as the endpoint."""
    with ModelServer.start(tmp_path / "receipts.jsonl", [RATE_LIMITED, BROKEN]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server


async def carry_out(directory: Path) -> tuple[Outcome, list[HistoryEvent]]:
    """A whole run and its history; every turn is evicted and replayed."""
    async with environment(app) as env:
        handle = await env.start(audit.options(id="audit-1"), str(directory), LIMIT, SEED)
        outcome = await handle.result()
        return outcome, [event async for event in handle.history()]


def attempts(history: list[HistoryEvent], step: str) -> list[HistoryEvent]:
    """A step's events."""
    return [event for event in history if event.body.get("step") == step]


def test_a_whole_audit_with_a_refusal_and_a_broken_stream(endpoint: ModelServer, tmp_path: Path) -> None:
    outcome, history = asyncio.run(carry_out(tmp_path))
    assert (outcome.steps, outcome.distributions) == (step_count(LIMIT), LIMIT)
    assert Counter(event.type for event in history)["StepCompleted"] == outcome.steps

    said = endpoint.receipts()
    received = Counter(line["label"] for line in said if line["event"] == "received")
    model_steps = {f"step-{n}" for n in range(1, outcome.steps + 1) if is_model_step(n, LIMIT)}
    assert set(received) == model_steps
    assert {label for label, times in received.items() if times > 1} == {"step-6", "step-9"}
    assert len({line["key"] for line in said}) == len(model_steps), "an attempt repeats its step's key"

    failed, retried, completed = attempts(history, "0:6")
    assert failed.body["failure"]["type"].endswith(".RateLimited")
    assert retried.at_ms - failed.at_ms >= RATE_LIMITED.retry_after_s * 1000, "the wait is the engine's, on its log"
    assert completed.type == "StepCompleted"
    assert attempts(history, "0:9")[0].body["failure"]["type"].endswith(".ModelBroke")


def test_the_reports_have_a_row_for_every_distribution(endpoint: ModelServer, tmp_path: Path) -> None:
    outcome, _ = asyncio.run(carry_out(tmp_path / "new" / "place"))
    markdown = Path(outcome.markdown).read_text(encoding="utf-8")
    page = Path(outcome.html).read_text(encoding="utf-8")
    for name in take_inventory(LIMIT, SEED).names:
        facts = read_facts(name)
        assert f"| {facts.name} | {facts.version} |" in markdown
        assert f"<td>{facts.name}<small>{facts.version} " in page
    assert f"{LIMIT} distributions audited; {len(take_inventory(0, 0).installed) - LIMIT} more" in markdown


def test_an_endpoint_that_refuses_for_good_fails_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer.start(tmp_path / "receipts.jsonl") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/elsewhere")
        with pytest.raises(RunFailed, match=r"step summarise.*404|ModelRefused.*404"):
            asyncio.run(carry_out(tmp_path))
        assert server.receipts() == []
