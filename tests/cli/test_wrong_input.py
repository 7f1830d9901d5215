"""What a stranger types: each mistake gets a sentence and the documented code, before anything is sent."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.output import MAX_CELL, print_one, print_rows
from orchestrator.log.connecting import AGAIN_S, LOGGER, Repeats
from tests.cli.conftest import Ran
from tests.client.fake_engine import FakeEngine

Run = Callable[..., Ran]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workflw", "list"], "No such command 'workflw'. Did you mean 'workflow'?"),
        (["workflow", "lst"], "No such command 'lst'"),
        (["--app-name", "My Shop", "workflow", "list"], "application name 'My Shop'"),
        (["--bootstrap", "", "workflow", "list"], "'' is no HOST:PORT"),
        (["--bootstrap", "a:1,b:99999", "workflow", "list"], "'b:99999' is no HOST:PORT"),
        (["--bootstrap", "kafka:port", "workflow", "list"], "'kafka:port' is no HOST:PORT"),
        (["workflow", "start", "t", "--delay", "-1"], "'-1' is no number of seconds"),
        (["workflow", "start", "t", "--run-timeout", "nan"], "'nan' is no number of seconds"),
        (["workflow", "show", "x", "--timeout", "1"], "No such option"),
        (["workflow", "cancel", "x", "--timeout", "soon"], "'soon' is no number of seconds"),
        (["workflow", "start", "t", "--attribute", "customer"], "write NAME=VALUE"),
        (["workflow", "start", "t", "--input", "@{directory}"], "Is a directory"),
        (["workflow", "start", "t", "--input", "@{binary}"], "--input is not JSON"),
        (["workflow", "start", "t", "--input", "@{text}"], "--input is not JSON"),
        (["workflow", "start", "t", "--memo", "{{"], "--memo is not JSON"),
        (["workflow", "debug", "x", "--history", "{directory}"], "is a directory"),
        (["workflow", "debug", "x", "--history", "{directory}/none"], "does not exist"),
    ],
)
def test_wrong_usage_is_2_and_sends_nothing(
    engine: FakeEngine, run: Run, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "text").write_text("not json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    places = {"directory": tmp_path, "binary": tmp_path / "binary", "text": tmp_path / "text"}
    ran = run(*(word.format(**places) for word in words))
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert engine.received == []


def test_a_history_that_is_none_is_a_sentence(engine: FakeEngine, run: Run, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    ran = run("workflow", "debug", "x", "--history", str(tmp_path / "binary"))
    assert ran.code == 1
    assert "is neither JSON nor JSON lines" in ran.err


def test_no_kafka_is_one_sentence_with_the_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka says of every attempt that it failed: eighty lines a second, and not one of them for a person."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", place)
        ran = run("--app-name", "shop", "topics", "check")
    assert ran.code == 6
    assert ran.err.startswith(
        f"error: no Kafka answers at {place} (Connect to ipv4#{place} failed: Connection refused)"
    )
    assert ran.err.count("\n") == 1
    assert logging.getLogger(LOGGER).level == logging.NOTSET, "as it was before"


def test_what_librdkafka_repeats_is_logged_once_in_a_while() -> None:
    repeats = Repeats()

    def passes(client: str, at_s: float, after_ms: int = 0) -> bool:
        text = (
            f"FAIL [rdkafka#{client}] [thrd:a:1/bootstrap]: a:1/bootstrap: Connect to ipv4#a:1 failed: Connection"
            f" refused (after {after_ms}ms in state CONNECT)"
        )
        record = logging.LogRecord(LOGGER, logging.ERROR, "", 0, text, (), None)
        record.created = at_s
        return repeats.filter(record)

    assert passes("producer-1", 1_000.0)
    assert not passes("producer-1", 1_001.0, after_ms=3)
    assert not passes("consumer-7", 1_002.0)
    assert passes("consumer-7", 1_001.0 + AGAIN_S)
    assert repeats.filter(logging.LogRecord(LOGGER, logging.ERROR, "", 0, "something else", (), None))


def test_a_sentence_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * MAX_CELL
    print_rows([{"what": long, "says": long}], ["what", "says"], "table")
    print_one({"failure": long}, "table")
    table, one = capsys.readouterr().out.splitlines()[1:]
    assert "…" in table
    assert table.endswith(long.strip())
    assert one.endswith(long.strip())
