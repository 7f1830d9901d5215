"""`orchestrator dev`: what it starts, under which settings, and how it ends. The packaging tests run the real thing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest

from orchestrator import devkafka
from orchestrator.cli import dev, topics as topics_command
from orchestrator.cli.main import main
from orchestrator.config import Settings
from orchestrator.log import topics

APP = "tests.cli.dev_app:app"


class FakeOwned:
    """A process of the crew that runs until the test says otherwise."""

    started: ClassVar[list[FakeOwned]] = []
    log: ClassVar[list[str]] = []
    exit_code: ClassVar[int | None] = None
    impatient: ClassVar[bool] = False

    def __init__(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.arguments = arguments
        self.environment = environment
        self.pid = 1000 + len(self.started)
        self.started.append(self)

    def ended(self) -> int | None:
        """Its exit code."""
        return self.exit_code

    def drain(self) -> None:
        """Asked to end."""
        self.log.append(f"drain {self.arguments[0]}")

    def kill(self) -> None:
        """Ended at once."""
        self.log.append(f"kill {self.arguments[0]}")

    def wait(self, grace_s: float) -> int:
        """Waited for."""
        if self.impatient:
            raise KeyboardInterrupt
        self.log.append(f"wait {self.arguments[0]} {grace_s:g}")
        return 0


class FakeRepeats:
    """Looks at no run."""

    def __init__(self, reference: str, connect: object, blobs: Path) -> None:
        assert (reference, blobs) == (APP, Settings().blobs)

    def start(self) -> None:
        """Nothing."""

    def renew(self) -> None:
        """The code is new."""
        FakeOwned.log.append("new code")

    def stop(self, once_more: bool) -> None:
        """The last look, while the engine is there."""
        FakeOwned.log.append(f"last look {once_more}")


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> type[FakeOwned]:
    """Fakes for processes, Kafka and topics; no process outlives a signal handler of ours."""
    FakeOwned.started, FakeOwned.log, FakeOwned.exit_code = [], [], None
    monkeypatch.setattr(FakeOwned, "impatient", False)
    monkeypatch.setattr(dev, "Owned", FakeOwned)
    monkeypatch.setattr(dev, "Repeats", FakeRepeats)
    monkeypatch.setattr(dev, "LOOK_S", 0.01)
    monkeypatch.setattr(dev.signal, "signal", lambda number, handler: None)
    monkeypatch.delenv("ORCHESTRATOR_BOOTSTRAP", raising=False)
    monkeypatch.delenv("ORCHESTRATOR_APP", raising=False)

    def start_kafka(stack: ExitStack, settings: Settings, port: int) -> str:
        stack.callback(FakeOwned.log.append, "kafka stopped")
        FakeOwned.log.append(f"kafka on {port}")
        return "127.0.0.1:4711"

    def init_topics(config: object, partitions: int, queues: list[str], factor: int) -> list[str]:
        FakeOwned.log.append(f"topics {partitions} {queues}")
        return []

    monkeypatch.setattr(dev, "_start_kafka", start_kafka)
    # Commands are imported when first used: one that came first to its imports here would keep the fake for ever.
    assert topics_command.init_topics is topics.init_topics
    monkeypatch.setattr(topics, "init_topics", init_topics)
    return FakeOwned


def test_processes_end_before_kafka_and_a_lost_engine_ends_all(
    crew: type[FakeOwned], capsys: pytest.CaptureFixture[str]
) -> None:
    crew.exit_code = 3
    assert main(["dev", APP, "--port", "0"]) == 1
    assert crew.log == [
        "kafka on 0",
        "topics 4 ['gpu']",
        "last look False",
        "drain engine",
        "drain worker",
        "wait engine 30",
        "wait worker 30",
        "kafka stopped",
    ]
    engine, worker = crew.started
    assert engine.arguments == ["engine", "run", "--owned"]
    assert worker.arguments == ["worker", "run", "--owned", "--queue", "gpu"]
    assert engine.environment["ORCHESTRATOR_APP"] == APP
    assert engine.environment["ORCHESTRATOR_BOOTSTRAP"] == "127.0.0.1:4711"
    assert engine.environment["ORCHESTRATOR_DEV"] == "1"
    assert engine.environment["ORCHESTRATOR_STATE_DIR"] == str(Path(".orchestrator", "engine"))
    assert "ended by itself with code 3" in capsys.readouterr().err


@pytest.mark.parametrize("is_new", [True, False])
def test_the_state_of_a_kafka_that_was_deleted_is_set_aside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_new: bool
) -> None:
    """Whoever deletes `.orchestrator/kafka` begins anew: partitions whose log is gone would stand still for ever."""

    class Broker:
        bootstrap = "127.0.0.1:4711"

        @classmethod
        def start(cls, *, directory: Path, port: int, progress: object) -> Broker:
            directory.mkdir(exist_ok=True)
            return cls()

        def stop(self) -> None:
            """Nothing runs."""

    monkeypatch.setattr(devkafka, "DevKafka", Broker)
    for name in ("engine", "engine-1", *([] if is_new else ["kafka"])):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        assert dev._start_kafka(stack, Settings(state_dir=tmp_path), 0) == "127.0.0.1:4711"
        assert (tmp_path / "engine").exists() is not is_new
        assert (tmp_path / "engine-2").exists() is is_new
    assert (f"lies in {tmp_path / 'engine-2'}, and may be deleted" in capsys.readouterr().err) is is_new


def test_a_given_kafka_is_used(crew: type[FakeOwned]) -> None:
    crew.exit_code = 0
    assert main(["--bootstrap", "10.0.0.1:9092", "dev", APP]) == 1
    assert crew.log[0] == "topics 16 ['gpu']"
    assert crew.started[0].environment["ORCHESTRATOR_BOOTSTRAP"] == "10.0.0.1:9092"


def test_ctrl_c_ends_in_order(crew: type[FakeOwned], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dev.time, "sleep", interrupt)
    assert main(["dev", APP]) == 130
    assert crew.log[2:] == [
        "last look True",
        "drain engine",
        "drain worker",
        "wait engine 30",
        "wait worker 30",
        "kafka stopped",
    ]


def test_a_second_ctrl_c_kills_before_kafka_stops(crew: type[FakeOwned], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "impatient", True)
    crew.exit_code = 0
    assert main(["dev", APP]) == 130
    assert crew.log[-3:] == ["kill engine", "kill worker", "kafka stopped"]


def test_reload_hands_over_when_a_file_that_parses_changed(
    crew: type[FakeOwned], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "shop.py"
    texts = iter(["def f(:\n", "a = 22\n"])

    def edit(seconds: float) -> None:
        text = next(texts, None)
        if text is None:
            raise KeyboardInterrupt
        source.write_text(text, encoding="utf-8")

    monkeypatch.setattr(dev.time, "sleep", edit)
    assert main(["dev", APP, "--reload"]) == 130
    assert [member.arguments[0] for member in crew.started] == ["engine", "worker"] * 2
    assert "wait engine 5" in crew.log
    assert crew.log.count("new code") == 1
    assert f"not reloaded: {source}:1: " in capsys.readouterr().err
    assert os.getcwd() == str(tmp_path)
