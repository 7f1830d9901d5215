"""The Kafka transport on a real broker: commands arrive on their partition, replies come back, topics are checked."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from orchestrator.cli.main import main
from orchestrator.client.caller import Caller
from orchestrator.client.calls import Calls
from orchestrator.client.kafka import KafkaTransport
from orchestrator.config import Settings
from orchestrator.core import commands as c
from orchestrator.core.tasks import DeadLetter
from orchestrator.core.values import Payload
from orchestrator.errors import ConfigurationError, KafkaUnavailable
from orchestrator.log.config import LogConfig
from orchestrator.log.following import FollowingReader
from orchestrator.log.outbox import KafkaOutgoing
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Out, Wire
from orchestrator.log.topics import init_topics
from tests.client.fake_engine import PARTITIONS, FakeEngine, payload

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

ORDER = c.StartWorkflow("order", payload({"order_id": "7"}))


@pytest.fixture
def settings(kafka: DevKafka) -> Settings:
    """An application of its own, with its topics."""
    made = Settings(app_name=f"t-{uuid.uuid4().hex[:8]}", bootstrap=kafka.bootstrap)
    init_topics(LogConfig.of(made, made.app_name), PARTITIONS)
    return made


@pytest.fixture
def engine(settings: Settings) -> Iterator[FakeEngine]:
    """A fake engine behind the real log."""
    config = LogConfig.of(settings, settings.app_name)
    fake = FakeEngine()
    outgoing = KafkaOutgoing(config)
    reader = FollowingReader(config, config.topic("commands"), "fake-engine")

    def sink(wires: Sequence[Wire]) -> None:
        for wire in wires:
            reply = fake.handle(wire.partition, wire.key, wire.value)
            command = fake.received[-1][2]
            if reply is not None and command.reply_to is not None:
                value = fake.codec.encode(reply)
                outgoing.send(Out(command.reply_to.topic, command.reply_to.partition, b"", value), lambda problem: None)

    for partition in range(PARTITIONS):
        reader.follow(partition, 0, sink)
    yield fake
    reader.close()
    outgoing.close()


@pytest.mark.broker
def test_commands_and_replies_travel(settings: Settings, engine: FakeEngine) -> None:
    names = [f"order-{number}" for number in range(6)]

    async def work() -> list[str]:
        caller = Caller(settings.app_name, KafkaTransport(settings.app_name, settings))
        await caller.open()
        try:
            calls = Calls(caller)
            replies = await asyncio.gather(*(calls.start(name, ORDER) for name in names))
            assert {run.workflow_id async for run in calls.runs()} == set(names)
            return [reply.run_id for reply in replies]
        finally:
            await caller.close()

    assert asyncio.run(work()) == [f"run-{name}-0" for name in names]
    for partition, key, command in engine.received[:6]:
        assert partition == partition_of(key, PARTITIONS)
        assert key == command.workflow_id.encode()


@pytest.mark.broker
def test_the_command_line_over_kafka(
    settings: Settings, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--app-name", settings.app_name, "--bootstrap", settings.bootstrap]
    assert main([*where, "topics", "init", "--partitions", str(PARTITIONS)]) == 0
    assert main([*where, "topics", "check"]) == 0, capsys.readouterr().out
    assert main([*where, "workflow", "start", "order", "--id", "order-7"]) == 0
    assert main([*where, "doctor"]) in {0, 1}
    out = capsys.readouterr().out
    assert "every partition is answered for" in out
    assert "topics of" in out
    assert main([*where, "audit", "verify"]) == 0
    assert "whole: 0 events" in capsys.readouterr().out


@pytest.mark.contract("dead-letters")
@pytest.mark.broker
def test_dead_letters_are_listed_shown_and_sent_again(
    settings: Settings, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    config = LogConfig.of(settings, settings.app_name)
    command = engine.codec.encode_command(c.Command("id-1", "order-7", ORDER))
    letter = DeadLetter(config.topic("commands"), 1, 42, "unknown schema", b"order-7", Payload("bytes", "", command))
    send(config, Out(config.topic("dead-letters"), 0, b"order-7", engine.codec.encode(letter)))
    where = ["--app-name", settings.app_name, "--bootstrap", settings.bootstrap, "dead-letters"]
    assert main([*where, "list", "-o", "jsonl"]) == 0
    assert '"reason": "unknown schema"' in capsys.readouterr().out
    assert main([*where, "show", "0"]) == 0
    assert f"{settings.app_name}.commands/1/42" in capsys.readouterr().out
    assert main([*where, "show", "9"]) == 3
    assert main([*where, "resubmit", "0", "--yes"]) == 0
    assert (
        main(["--app-name", settings.app_name, "--bootstrap", settings.bootstrap, "workflow", "show", "order-7"]) == 0
    )
    assert [one.id for one in engine.handled] == ["id-1"]


def send(config: LogConfig, out: Out) -> None:
    """Send one record and wait until the log has it."""
    outgoing = KafkaOutgoing(config)
    problems: list[str] = []
    outgoing.send(out, problems.append)
    outgoing.close()
    assert problems == [""]


def opening(settings: Settings) -> Callable[[], None]:
    """What connecting does."""

    async def work() -> None:
        await Caller(settings.app_name, KafkaTransport(settings.app_name, settings)).open()

    return lambda: asyncio.run(work())


@pytest.mark.broker
def test_missing_topics_name_the_remedy(kafka: DevKafka) -> None:
    with pytest.raises(ConfigurationError, match="topics init"):
        opening(Settings(app_name="nobody", bootstrap=kafka.bootstrap))()


@pytest.mark.slow
def test_no_kafka_is_a_sentence() -> None:
    with pytest.raises(KafkaUnavailable, match=r"no Kafka answers at 127\.0\.0\.1:1"):
        opening(Settings(app_name="shop", bootstrap="127.0.0.1:1"))()


def test_a_client_that_is_not_connected_says_so() -> None:
    with pytest.raises(KafkaUnavailable, match="async with"):
        _ = KafkaTransport("shop", Settings()).reply_to
