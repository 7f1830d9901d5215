"""What a stranger types: each mistake gets a sentence and the documented code, before anything is sent."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import Client, Orchestrator
from orchestrator.cli import session
from orchestrator.cli.output import MAX_CELL, print_one, print_rows
from orchestrator.devkafka import DevKafka
from orchestrator.log.connecting import AGAIN_S, LOGGER, Repeats
from tests.cli.conftest import Ran, served
from tests.client.fake_engine import FakeEngine

Run = Callable[..., Ran]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workflw", "list"], "No such command 'workflw'. Did you mean 'workflow'?"),
        (["workflow", "lst"], "No such command 'lst'"),
        (["--app", "shop:", "workflow", "list"], "--app='shop:': must be module:attribute"),
        (["dev", ":app"], "--app=':app': must be module:attribute"),
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


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("raise RuntimeError('boom')", 1, "error: RuntimeError: boom (at {name}.py:1; --debug shows all of it)"),
        ("import sys; sys.exit(4)", 2, "calls sys.exit(4) when it is imported"),
        ("app = 3", 2, "'app' of module '{name}' is no application but int"),
        ("application = 3", 2, "has no 'app': name the application"),
        ("import nosuchlib", 1, "No module named 'nosuchlib'"),
        ("x = (", 1, "SyntaxError: '(' was never closed ({name}.py, line 1)"),
    ],
)
def test_an_application_that_cannot_be_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: int, said: str
) -> None:
    name = f"loaded_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("ORCHESTRATOR_APP_NAME", raising=False)
    for words in (["--app", f"{name}:app", "workflow", "list"], ["--app", f"{name}:app", "engine", "run"]):
        ran = run(*words)
        assert (ran.code, ran.out) == (code, "")
        assert said.format(name=name) in ran.err
        assert "Traceback" not in ran.err


def test_a_history_that_is_none_is_a_sentence(engine: FakeEngine, run: Run, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    ran = run("workflow", "debug", "x", "--history", str(tmp_path / "binary"))
    assert ran.code == 1
    assert "is neither JSON nor JSON lines" in ran.err


@pytest.mark.slow
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
            f" refused (after {after_ms}ms in state CONNECT, {after_ms} identical error(s) suppressed)"
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


# -- what an engine says -----------------------------------------------------------------------------------------------

app = Orchestrator("wrong")
go = app.signal("go", bool)


@app.workflow
async def waits() -> bool:
    """Until somebody says so."""
    if not await go.wait():
        raise KeyError("stock")
    return True


@app.entity
class Account:
    """It has one handler."""

    balance: int = 0

    @app.handler
    async def change(self, cents: int) -> int:
        self.balance += cents
        return self.balance


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    """An engine; `w1` is parked by its bug."""

    async def prepare(client: Client) -> None:
        handle = await client.start(waits.options(id="w1"))
        await handle.signal(go, False)
        while (await handle.describe()).status != "parked":
            await asyncio.sleep(0.01)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(session, "open_transport", None)
        with served(app, monkeypatch, prepare):
            yield


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["workflow", "show", "nobody"], 3, "nobody: no such workflow"),
        (["workflow", "signal", "nobody", "go"], 3, "nobody: no such workflow"),
        (["workflow", "cancel", "w1", "--run", "r9"], 3, "w1 has no run r9"),
        (["workflow", "show", "w1", "--run", "r9"], 3, "w1 has no run r9"),
        (["workflow", "reset", "nobody"], 3, "nobody: no such workflow"),
        (["step", "complete", "nobody", "0:1"], 3, "nobody: no such workflow"),
        (["step", "complete", "w1", "0:1"], 3, "is not waiting for a result"),
        (["workflow", "query", "w1", "stock"], 5, "w1 is parked: KeyError: 'stock'"),
        (["workflow", "signal", "w1", "go", "maybe"], 5, 'signal go: "maybe" is no bool'),
        (["workflow", "signal", "w1", "go", "-5"], 2, "A value that begins with a dash stands last, behind --"),
        (["workflow", "wait", "w1", "--timeout", "0.1"], 1, "`orchestrator workflow retry w1` once that is mended"),
        (["limits", "show", "models", "acme"], 3, "limit 'models' of key 'acme': nobody holds it now"),
        (["workflow", "list", "--status", "open"], 2, "'open' is not one of"),
        (["batch", "cancel", "--status", "open"], 2, "'open' is not one of"),
        (["workflow", "show", ""], 2, "it is empty"),
        (["workflow", "start", "waits", "--version", "2"], 2, "no version 2 of workflow 'waits'; it has: 1"),
        (["workflow", "start", "wait"], 2, "wrong has no workflow 'wait'; it has: waits. "),
        (["entity", "show", "Acount", "a"], 2, "wrong has no entity 'Acount'; it has: Account"),
        (["entity", "query", "Acount", "a", "x"], 2, "wrong has no entity 'Acount'; it has: Account"),
        (["entity", "call", "Acount", "a", "change"], 2, "wrong has no entity 'Acount'; it has: Account"),
        (["entity", "call", "Account", "a", "pay"], 2, "entity Account of wrong has no handler 'pay'; it has: change"),
        (["schedule", "backfill", "s", "--from", "2026-01-02", "--to", "2026-01-01"], 2, "lies before --from"),
    ],
)
def test_a_wrong_name_is_said(world: None, run: Run, words: list[str], code: int, said: str) -> None:
    ran = run("--app", f"{__name__}:app", *words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


def test_a_run_that_is_parked_when_the_time_is_over_is_printed(world: None, run: Run) -> None:
    ran = run("--app", f"{__name__}:app", "workflow", "wait", "w1", "--timeout", "0.1", "-o", "json")
    said = json.loads(ran.out)
    assert (ran.code, said["workflow_id"], said["status"]) == (1, "w1", "parked")
    assert "KeyError: 'stock'" in said["failure"]["message"]


def test_the_same_command_without_an_id_starts_once(world: None, run: Run) -> None:
    words = ("--app", f"{__name__}:app", "workflow", "start", "waits", "--command-id", "mine", "-o", "json")
    first, second = json.loads(run(*words).out), json.loads(run(*words).out)
    assert first == second


# -- a broker that has only the topics ---------------------------------------------------------------------------------


@pytest.mark.broker
def test_looking_leaves_no_state_and_looks_at_what_was_named(
    kafka: DevKafka, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, state = f"wrong-{uuid.uuid4().hex[:8]}", tmp_path / "state"
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", name)
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(state))
    assert run("topics", "init", "--partitions", "2").code == 0
    again = run("topics", "init", "--partitions", "8")
    assert "has 2 partitions and keeps them; more: orchestrator topics grow N" in again.err
    for words, code, said in (
        (("audit", "verify", "--from", "1"), 2, "--from 1: partition 0 ends at offset 0"),
        (("audit", "verify", "--state"), 2, "has no state directory of these partitions"),
        (("topics", "adopt", "--partition", "9"), 2, "has no partition 9: it has 0 to 1"),
        (("topics", "adopt", "--partition", "0"), 0, ""),
        (("partition", "repair", "1"), 0, ""),
        (("partition", "repair", "1", "--yes"), 0, ""),
    ):
        ran = run(*words)
        assert ran.code == code, ran.err
        assert said in ran.err
        assert not any(path.is_dir() for path in (state / name).glob("*")), words
    (state / name / "1").mkdir(parents=True)
    some = run("audit", "verify", "--state")
    assert some.code == 0, some.err
    assert "of partitions 0: their state is not compared" in some.err
