"""The bundled model server, called with the `openai` SDK as the main job calls it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.testing.model_faults import Fault, FaultPlan
from orchestrator.testing.model_server import ModelServer, count_tokens, summarise

pytestmark = pytest.mark.slow

TEXT = "Kafka keeps records. Cats sleep. Kafka records are kept in order. Records in Kafka are durable. Rain falls."
ASK: Any = {"model": "extractive-1", "messages": [{"role": "user", "content": TEXT}]}
FAULTS = [
    Fault("hold", label="held"),
    Fault("rate_limit", label="limited", retry_after_s=2),
    Fault("break", label="broken"),
    Fault("rate_limit", nth_key=1),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    with ModelServer.start(tmp_path / "receipts.jsonl", FAULTS[:3]) as started:
        yield started


@pytest.fixture
def client(server: ModelServer) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def events(server: ModelServer) -> list[str]:
    return [line["event"] for line in server.receipts()]


def wait_for(server: ModelServer, event: str) -> None:
    end = time.monotonic() + 30
    while event not in events(server):
        assert time.monotonic() < end, f"no {event!r} in {server.receipts()}"
        time.sleep(0.02)


def test_whole_answer_and_receipts(server: ModelServer, client: Any) -> None:
    headers = {"Idempotency-Key": "k1", "X-Step": "audit/r1/3", "X-Step-Label": "read"}
    answer = client.chat.completions.create(**ASK, extra_headers=headers)
    assert answer.choices[0].message.content == summarise(TEXT)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == count_tokens(TEXT)
    received, answered = server.receipts()
    assert (received["event"], answered["event"]) == ("received", "answered")
    for line in (received, answered):
        assert (line["n"], line["key"], line["step"], line["label"]) == (1, "k1", "audit/r1/3", "read")
    assert received["prompt_tokens"] == count_tokens(TEXT)
    assert answered["completion_tokens"] == answer.usage.completion_tokens == count_tokens(summarise(TEXT))


@pytest.mark.parametrize("include_usage", [True, False])
def test_streamed_answer(client: Any, include_usage: bool) -> None:
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": include_usage}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == summarise(TEXT)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert [usage.prompt_tokens for usage in usages] == ([count_tokens(TEXT)] if include_usage else [])


def test_models_and_errors(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["extractive-1"]
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="extractive-1", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="extractive-1", input="x")


def test_rate_limit_fires_once(server: ModelServer, client: Any) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(**ASK, extra_headers={"X-Step-Label": "limited"})
    assert limited.value.response.headers["retry-after"] == "2"
    assert limited.value.code == "rate_limit_exceeded"
    client.chat.completions.create(**ASK, extra_headers={"X-Step-Label": "limited"})
    assert events(server) == ["received", "rate_limited", "received", "answered"]


@pytest.mark.parametrize("stream", [True, False])
def test_broken_answer_fires_once(server: ModelServer, client: Any, stream: bool) -> None:
    def call() -> str:
        answer = client.chat.completions.create(**ASK, stream=stream, extra_headers={"X-Step-Label": "broken"})
        if not stream:
            return str(answer.choices[0].message.content)
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)

    with pytest.raises(Exception, match=r"(?i)connection|incomplete|closed"):
        call()
    assert call() == summarise(TEXT)
    assert events(server) == ["received", "broke", "received", "answered"]


def test_held_request_is_answered_when_told(server: ModelServer, client: Any) -> None:
    answers: list[Any] = []
    ask = threading.Thread(
        target=lambda: answers.append(client.chat.completions.create(**ASK, extra_headers={"X-Step-Label": "held"}))
    )
    ask.start()
    wait_for(server, "holding")
    assert not answers
    assert server.release() == 1
    ask.join(30)
    assert answers[0].choices[0].message.content == summarise(TEXT)
    assert events(server) == ["received", "holding", "released", "answered"]


def test_a_killed_caller_is_a_cut_call(server: ModelServer) -> None:
    code = (
        "import sys, openai; openai.OpenAI(base_url=sys.argv[1], api_key='x', max_retries=0).chat.completions.create("
        "model='m', messages=[{'role': 'user', 'content': 'One.'}], extra_headers={'X-Step-Label': 'held'})"
    )
    caller = subprocess.Popen([sys.executable, "-c", code, server.url])
    wait_for(server, "holding")
    caller.kill()
    caller.wait(30)
    wait_for(server, "cut")
    assert events(server) == ["received", "holding", "cut"]


def test_nth_key_counts_distinct_keys() -> None:
    plan = FaultPlan(FAULTS)
    assert plan.take(None, 2) is None
    assert plan.take(None, 1) == FAULTS[3]
    assert plan.take(None, 1) is None


def test_summary_is_deterministic_and_ranked() -> None:
    assert summarise(TEXT) == summarise(TEXT)
    assert "Cats" not in summarise(TEXT)
    assert summarise("") == ""
    assert count_tokens("abcde, f") == 4


def test_it_refuses_with_a_sentence(server: ModelServer, tmp_path: Path) -> None:
    port = int(server.url.split(":")[2].split("/")[0])
    with pytest.raises(ConfigurationError, match="choose --port 0"):
        ModelServer.start(tmp_path / "other.jsonl", port=port)
    with pytest.raises(ConfigurationError, match="unknown fault"):
        Fault("explode", label="x")
    with pytest.raises(ConfigurationError, match="either"):
        Fault("hold")


def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from orchestrator.testing.model_server import ModelServer\n"
        "s = ModelServer.start(pathlib.Path(sys.argv[1])); print(s._process.pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "r.jsonl")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.wait(30)
    owner.stdout.close()
    end = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < end, f"the model server {pid} outlived its owner"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody reaped does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] if Path("/proc").exists() else "R"
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
