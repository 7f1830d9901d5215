"""A broker that enforces rights: those of the manual's table are enough; one that is missing is named, and nothing that
waits for it is lost.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.engine.run import Engine
from orchestrator.errors import KafkaUnavailable
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.outbox import KafkaOutgoing
from orchestrator.log.ports import Out
from orchestrator.log.reader import read_partition
from tests.worker.rig import until

from . import guarded_app
from .guarded import Right
from .guarded_use import As, talked, tended, used

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CODE = f"{guarded_app.__name__}:app"
WAIT_S = 60
GROUP = Right("group", "Read", "<app>.engine")
TAKEN = [
    GROUP,
    Right("transactional ids", "Write", "<app>.<p>.<lane>"),
    Right("topics", "Read", "events"),
    Right("topics", "Read", "commands"),
]


def test_the_rights_of_the_manual_are_enough(as_: As, tmp_path: Path) -> None:
    tended(as_, used(as_, tmp_path))


def test_they_are_enough_for_members_of_a_classic_group(as_: As, caplog: pytest.LogCaptureFixture) -> None:
    as_.works("topics init", "topics", "init", "--partitions", "2")
    engine = guarded_app.engine(as_.guarded, as_.name, "classic", as_.state)
    with engine as running, guarded_app.worker(as_.guarded, as_.name):
        talked(as_)
        _taken_for_a_while(as_, running, GROUP, caplog)


def log_config(as_: As, who: str) -> LogConfig:
    """How the user of a row reaches the log."""
    return LogConfig(as_.name, as_.guarded.bootstrap, as_.guarded.options(who))


class Sender:
    """What becomes of records that a user sends."""

    def __init__(self, config: LogConfig) -> None:
        self._config = config
        self._outgoing = KafkaOutgoing(config)

    def sends(self, topic: str) -> str:
        """ "" once the log has one, else why it never will."""
        told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._outgoing.send(Out(self._config.topic(topic), 0, b"k", b"v"), told.put)
        return told.get(timeout=WAIT_S)

    def close(self) -> None:
        """End it."""
        self._outgoing.close()


def test_nobody_can_do_what_the_table_does_not_give_and_is_told_so(as_: As) -> None:
    as_.works("topics init", "topics", "init", "--partitions", "1")
    name = as_.name
    refused = [
        (
            "nobody",
            ("topics", "init"),
            f"login nobody lacks the right Describe on topic {name}.commands, {name}.events",
        ),
        ("nobody", ("topics", "check"), f"login nobody lacks the right Describe on topic {name}.commands"),
        ("engine", ("topics", "check"), f"login engine lacks the right DescribeConfigs on topic {name}.commands"),
        (
            "engine",
            ("topics", "init", "--queue", "new"),
            f"login engine lacks the right Create on topic {name}.tasks.new",
        ),
        ("auditor", ("workflow", "list"), f"Write on topic {name}.commands, and Read on topic {name}.replies"),
        ("client", ("audit", "verify"), f"login client lacks the right Describe on topic {name}.events"),
        ("worker", ("audit", "verify"), f"login worker lacks the right Describe on topic {name}.events"),
        ("topics init", ("audit", "verify"), f"login topics-init lacks the right Read on topic {name}.anchors"),
        ("client", ("dead-letters", "list"), f"login client lacks the right Describe on topic {name}.dead-letters"),
        ("client", ("partition", "repair", "0"), f"login client lacks the right Describe on topic {name}.events"),
        ("auditor", ("partition", "repair", "0"), f"Read on topic {name}.commands, and Write on topic {name}.commands"),
        ("client", ("topics", "grow", "2", "--yes"), f"login client lacks the right Describe on topic {name}.events"),
    ]
    for who, words, says in refused:
        code, _, err = as_(who, *words)
        assert (code, says in err, err.count("error: ")) == (6, True, 1), f"{who}: {words}: {code} {err}"
    code, out, _ = as_("nobody", "doctor", "-o", "json")
    assert code == 1
    assert any("lacks the right" in row["says"] for row in json.loads(out) if row["what"] == "kafka")
    engine, events = AdminClient(log_config(as_, "engine").client()), f"{name}.events"
    with pytest.raises(KafkaException, match="authorization failed"):
        engine.delete_topics([events])[events].result(WAIT_S)
    with pytest.raises(KafkaUnavailable, match=f"Read on topic {name}.events"):
        list(read_partition(log_config(as_, "worker"), f"{name}.events", 0))
    with pytest.raises(KafkaUnavailable, match=f"Write on topic {name}.events, {name}.replies"):
        KafkaLog(log_config(as_, "client"))


def test_who_may_write_nothing_is_told_so_and_may_later(as_: As) -> None:
    as_.works("topics init", "topics", "init", "--partitions", "1")
    client, auditor = Sender(log_config(as_, "client")), Sender(log_config(as_, "auditor"))
    try:
        assert client.sends("commands") == ""
        assert f"login client lacks the right Write on topic {as_.name}.events" in client.sends("events")
        assert client.sends("commands") == ""
        for topic in ("commands", "events", "anchors"):
            assert f"login auditor lacks the right Write on topic {as_.name}.{topic}" in auditor.sends(topic)
        as_.guarded.give(as_.name, "auditor", Right("topics", "Write", "commands"))
        assert auditor.sends("commands") == "", "the same producer goes on"
    finally:
        client.close()
        auditor.close()


def test_an_engines_producer_that_may_write_nothing_at_all_keeps_commands(as_: As) -> None:
    """Not even idempotent may it be; each new producer is refused in turn, and nothing is out of order in the end."""
    as_.works("topics init", "topics", "init", "--partitions", "1")
    config = log_config(as_, "auditor")
    commands, told = config.topic("commands"), queue.SimpleQueue[str]()
    outgoing = KafkaOutgoing(config, keeps=commands)
    try:
        for number in range(3):
            outgoing.send(Out(commands, 0, b"k", b"%d" % number), told.put)
        until(lambda: f"login auditor lacks the right Write on topic {commands}" in outgoing.refused(), "the refusal")
        outgoing.send(Out(commands, 0, b"k", b"3"), told.put)
        as_.guarded.give(as_.name, "auditor", Right("topics", "Write", "commands"))
        assert [told.get(timeout=WAIT_S) for _ in range(4)] == [""] * 4
        until(lambda: not outgoing.refused(), "the right's return")
        found = read_partition(LogConfig(as_.name, as_.guarded.kafka.bootstrap), commands, 0)
        assert [wire.value for wires in found for wire in wires] == [b"0", b"1", b"2", b"3"]
    finally:
        outgoing.close()


@pytest.mark.parametrize(
    ("right", "says"),
    [
        (Right("topics", "Read", "tasks.*"), "Read on topic {name}.tasks.far"),
        (Right("group", "Read", "<app>.worker.*"), "Read on group {name}.worker.far"),
    ],
)
def test_a_worker_without_a_right_ends_with_a_sentence(
    as_: As, right: Right, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_app.app, "name", as_.name)
    as_.works("topics init", "topics", "init", "--partitions", "1")
    as_.guarded.take(as_.name, "worker", right)
    code, _, err = as_("worker", "--app", CODE, "worker", "run", "--queue", "far")
    assert (code, err.count("error: ")) == (6, 1), err
    assert f"login worker lacks the right {says.format(name=as_.name)}" in err


def test_a_right_that_is_taken_from_an_engine_is_named_and_nothing_is_lost(
    as_: As, caplog: pytest.LogCaptureFixture
) -> None:
    as_.works("topics init", "topics", "init", "--partitions", "1")
    caplog.set_level(logging.INFO)
    with guarded_app.engine(as_.guarded, as_.name, "consumer", as_.state) as engine:
        for right in TAKEN:
            _taken_for_a_while(as_, engine, right, caplog)
    assert "whole" in as_.works("auditor", "audit", "verify")


def test_an_engine_that_may_not_read_is_not_ready_until_it_may(as_: As) -> None:
    """All was read before, and nothing comes meanwhile: nobody else would notice, neither the one nor the other."""
    as_.works("topics init", "topics", "init", "--partitions", "2")
    with guarded_app.engine(as_.guarded, as_.name, "consumer", as_.state) as engine:
        for topic in ("commands", "events", "commands"):
            until(lambda: engine.partitions and engine.health().ready, "the engine")
            assert engine.health().rights == "ok"
            right = Right("topics", "Read", topic)
            as_.guarded.take(as_.name, "engine", right)
            until(lambda: not engine.health().ready, f"the refusal of {topic}")
            health = engine.health()
            assert f"the login engine lacks the right Read on topic {as_.name}.{topic} (" in health.rights
            assert (health.started, health.live) == (True, True)
            as_.guarded.give(as_.name, "engine", right)
        until(lambda: engine.health().ready, "the right's return")
        assert "near ink" in as_.works("client", "workflow", "execute", "child", "text=ink", "--timeout", "60")


def test_what_runs_were_promised_waits_for_the_right_to_send_it(as_: As) -> None:
    """A child's start, and another one's outcome: lost, their parents would wait for ever."""
    as_.works("topics init", "topics", "init", "--partitions", "1")
    right = Right("topics", "Write", "commands")
    with guarded_app.engine(as_.guarded, as_.name, "consumer", as_.state) as engine:
        as_.works("client", "workflow", "start", "elder", "child_id=young", "--id", "old", "--timeout", "60")
        as_.works("client", "workflow", "start", "parent", "child_id=c", "--id", "one", "--timeout", "60")
        until(lambda: as_("client", "workflow", "show", "young")[0] == 0, "the child")
        as_.guarded.take(as_.name, "engine", right)
        for told in ("young", "one"):
            as_.works("client", "workflow", "signal", told, "word", '"pen"')
        until(lambda: engine.health().rights != "ok", "the refusal")
        assert f"login engine lacks the right Write on topic {as_.name}.commands (" in engine.health().rights
        assert not engine.health().ready
        assert "pen" in as_.works("client", "workflow", "wait", "young", "--timeout", "60"), "the engine works"
        as_.guarded.give(as_.name, "engine", right)
        assert "pen" in as_.works("client", "workflow", "wait", "old", "--timeout", "60")
        assert "near pen" in as_.works("client", "workflow", "wait", "c", "--timeout", "60")
        until(lambda: engine.health().ready, "the right's return")
    assert "whole" in as_.works("auditor", "audit", "verify")


def _taken_for_a_while(as_: As, engine: Engine, right: Right, caplog: pytest.LogCaptureFixture) -> None:
    """What is begun meanwhile is done afterwards."""
    until(lambda: engine.partitions and engine.health().ready, "the engine")
    caplog.clear()
    as_.guarded.take(as_.name, "engine", right)
    name = f"without-{right.operation}-{TAKEN.index(right)}"
    started = ("client", "workflow", "start", "child", "text=ink", "--id", name, "--timeout", "60")
    client = threading.Thread(target=as_.works, args=started)
    client.start()
    says = f"the login engine lacks the right {right.operation} on "
    until(lambda: says in caplog.text, f"{says}: {right}")
    as_.guarded.give(as_.name, "engine", right)
    client.join(WAIT_S)
    assert "near ink" in as_.works("client", "workflow", "wait", name, "--timeout", "60")


def test_what_may_not_be_sent_ends_its_step_with_the_sentence(as_: As) -> None:
    as_.works("topics init", "topics", "init", "--partitions", "1")
    as_.guarded.take(as_.name, "engine", Right("topics", "Write", "tasks.*"))
    with guarded_app.engine(as_.guarded, as_.name, "consumer", as_.state):
        code, _, err = as_("client", "workflow", "execute", "distant", "text=ink", "--id", "one", "--timeout", "60")
        assert code == 1, err
        assert f"login engine lacks the right Write on topic {as_.name}.tasks.far" in err
        assert "near ink" in as_.works("client", "workflow", "execute", "child", "text=ink", "--timeout", "60")
