"""What an application does with the rights of the manual's table, each under the login of its row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from orchestrator.cli.main import main
from orchestrator.codec.signing import Signer, generate
from orchestrator.log.partitioner import partition_of
from tests.worker.rig import until

from . import guarded_app
from .guarded import PASSWORD, Guarded
from .secured import variables

WAIT_S = 60


class As:
    """Command lines under the login of a row of the table."""

    def __init__(
        self,
        guarded: Guarded,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        state: Path,
    ) -> None:
        self.guarded, self.name, self.state = guarded, name, state
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, who: str, *words: str) -> tuple[int, str, str]:
        """The exit code, and what was said: the answer, and everything else."""
        chosen = {"ORCHESTRATOR_APP_NAME": self.name, "ORCHESTRATOR_BOOTSTRAP": self.guarded.bootstrap}
        chosen |= {"ORCHESTRATOR_STATE_DIR": str(self.state), "ORCHESTRATOR_QUEUES": guarded_app.QUEUE}
        chosen["ORCHESTRATOR_ISOLATION"] = "thread"
        self.capfd.readouterr()
        with self.monkeypatch.context() as patch:
            for variable, value in (chosen | variables(self.guarded.options(who))).items():
                patch.setenv(variable, value)
            code = main(list(words))
        out, err = self.capfd.readouterr()
        assert "Traceback" not in err, err
        assert PASSWORD not in out + err
        return code, out, err

    def works(self, who: str, *words: str) -> str:
        """What it prints; it must succeed."""
        code, out, err = self(who, *words)
        assert code == 0, f"{who}: {' '.join(words)}: {out}{err}"
        return out


def used(as_: As, place: Path) -> Path:
    """An application begins, and does all that it does every day; where the key of its heads lies."""
    guarded, name, key = as_.guarded, as_.name, place / "heads.pem"
    generate(key)
    as_.works("topics init", "topics", "init", "--partitions", "2")
    as_.works("topics check", "topics", "check")
    signer = Signer.load(key)
    with guarded_app.engine(guarded, name, "consumer", as_.state, signer), guarded_app.worker(guarded, name):
        talked(as_)
        as_.works("client", "schedule", "create", "daily", "child", 'text="ink"', "--cron", "0 0 1 1 *")
        as_.works("client", "schedule", "trigger", "daily")
        producer = Producer({"bootstrap.servers": guarded.bootstrap, **guarded.options("client")})
        producer.produce(f"{name}.commands", b"no command", b"k", 0)
        assert producer.flush(WAIT_S) == 0
        until(lambda: "no command" in _letter(as_), "the dead letter")
        as_.works("doctor", "doctor")
        as_.works("topics grow", "topics", "grow", "3", "--yes")
    return key


def talked(as_: As) -> None:
    """A run of two partitions is begun, asked, told, and ends; its last step is a worker's."""
    other = next(f"c{n}" for n in range(9) if partition_of(f"c{n}".encode(), 2) != partition_of(b"one", 2))
    as_.works("client", "workflow", "start", "parent", f"child_id={other}", "--id", "one", "--timeout", "30")
    assert "for a word" in as_.works("client", "workflow", "query", "one", "waiting")
    as_.works("client", "workflow", "signal", "one", "word", '"pen"')
    assert "far near pen" in as_.works("client", "workflow", "wait", "one", "--timeout", "30")


def tended(as_: As, key: Path) -> None:
    """It is audited, and mended after losses."""
    private, public = str(key), f"{key}.pub"
    assert "complete up to" in as_.works("auditor", "audit", "verify", "--anchor-key", public)
    as_.works("auditor", "audit", "replay", "--all")
    as_.works("auditor", "audit", "export", "--all", str(as_.state / "bundle.zip"), "--key", private)
    _lose_commands(as_)
    assert as_("partition repair, topics adopt", "partition", "repair", "0")[0] == 1
    as_.works("partition repair, topics adopt", "partition", "repair", "0", "--yes")
    assert "the log is whole" in as_.works("partition repair, topics adopt", "partition", "repair", "0")
    _move_commands(as_)
    adopt = ("topics", "adopt", "--yes", "--skip-input")
    assert as_.works("partition repair, topics adopt", *adopt).count("adopted") == 3
    assert "whole" in as_.works("auditor", "audit", "verify")


def _letter(as_: As) -> str:
    listed = json.loads(as_.works("dead-letters", "dead-letters", "list", "-o", "json"))
    return as_.works("dead-letters", "dead-letters", "show", listed[0]["number"]) if listed else ""


def _lose_commands(as_: As) -> None:
    """What nobody had read yet is deleted."""
    topic = f"{as_.name}.commands"
    producer = Producer({"bootstrap.servers": as_.guarded.kafka.bootstrap})
    producer.produce(topic, b"unread", b"k", 0)
    assert producer.flush(WAIT_S) == 0
    place = TopicPartition(topic, 0, -1)
    as_.guarded.admin.delete_records([place])[place].result(WAIT_S)


def _move_commands(as_: As) -> None:
    """The topic gets another id."""
    topic, admin = f"{as_.name}.commands", as_.guarded.admin
    admin.delete_topics([topic], operation_timeout=WAIT_S)[topic].result(WAIT_S)
    until(lambda: topic not in admin.list_topics(timeout=WAIT_S).topics, "the end of the topic")
    admin.create_topics([NewTopic(topic, 3, 1)], operation_timeout=WAIT_S)[topic].result(WAIT_S)

    def led() -> bool:
        found = admin.list_topics(timeout=WAIT_S).topics.get(topic)
        return found is not None and sum(one.leader >= 0 for one in found.partitions.values()) == 3

    until(led, "the topic's leaders")
