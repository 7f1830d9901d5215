"""The main job on the log in memory, with the model server and its faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.environment_audit.app import app, audit, is_model_step, step_count
from examples.environment_audit.distributions import read_facts, take_inventory
from orchestrator.testing.model_faults import Fault
from orchestrator.testing.model_server import ModelServer
from tests.examples.memory import running

LIMIT = 4
RATE_LIMITED = Fault("rate_limit", "step-6", retry_after_s=0.3)
BROKEN = Fault("break", "step-9")


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    """A model server with one refusal and one broken stream, set as the endpoint."""
    with ModelServer.start(tmp_path / "receipts.jsonl", [RATE_LIMITED, BROKEN]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server


def test_a_whole_audit_with_a_refusal_and_a_broken_stream(endpoint: ModelServer, tmp_path: Path) -> None:
    with running(app) as (client, _):
        outcome = client.execute(audit.options(id="audit-1"), str(tmp_path), LIMIT, 7)
    assert (outcome.steps, outcome.distributions) == (step_count(LIMIT), LIMIT)
    said = endpoint.receipts()
    received = [line["label"] for line in said if line["event"] == "received"]
    model_steps = [f"step-{n}" for n in range(1, outcome.steps + 1) if is_model_step(n, LIMIT)]
    assert sorted(set(received)) == sorted(model_steps)
    assert sorted(label for label in set(received) if received.count(label) > 1) == ["step-6", "step-9"]
    assert len({line["key"] for line in said}) == len(model_steps), "an attempt repeats its step's key"
    refused, again = [line["time"] for line in said if line["event"] in ("received",) and line["label"] == "step-6"]
    assert again - refused >= RATE_LIMITED.retry_after_s
    names = take_inventory(LIMIT, 7).names
    for path in (outcome.markdown, outcome.html):
        text = Path(path).read_text(encoding="utf-8")
        assert all(read_facts(name).name in text for name in names)
    assert "| Distribution |" in Path(outcome.markdown).read_text(encoding="utf-8")
    assert "<table>" in Path(outcome.html).read_text(encoding="utf-8")
