"""`topics grow` on a real broker: engines go on, old runs stay, new partitions are owned, a kill half way is mended."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from orchestrator import Orchestrator
from orchestrator.cli.main import main
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from tests.engine.rig import KafkaSite, Rig

pytestmark = pytest.mark.broker

OLD, NEW = 2, 5
WAIT_S = 60.0
Run = Callable[..., Any]


class GroupSite(KafkaSite):
    """A real broker whose group deals out the partitions, new ones too."""

    def __init__(self, app: str, bootstrap: str, protocol: str) -> None:
        super().__init__(app, bootstrap, OLD)
        self._config = LogConfig(app, bootstrap, group_protocol=protocol)


@pytest.fixture
def one(kafka: DevKafka, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An application of its own; its group speaks KIP-848 unless the test asks for another protocol."""
    app = Orchestrator(f"grow-{uuid.uuid4().hex[:8]}")
    go = app.signal("go", int)

    @app.step
    def plus_one(x: int) -> int:
        return x + 1

    @app.workflow(name="collects")
    async def collects(n: int) -> list[int]:
        return [await plus_one(await go.wait()) for _ in range(n)]

    monkeypatch.setenv("ORCHESTRATOR_APP_NAME", app.name)
    monkeypatch.setenv("ORCHESTRATOR_BOOTSTRAP", kafka.bootstrap)
    rig = Rig(app, GroupSite(app.name, kafka.bootstrap, getattr(request, "param", "consumer")))
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def run(one: Rig, capfd: pytest.CaptureFixture[str]) -> Run:
    """A command's JSON; its exit code is checked."""

    def command(*words: str, code: int = 0) -> Any:
        found = main([*words, "-o", "json"])
        out, err = capfd.readouterr()
        assert found == code, f"{words}: {found}\n{out}{err}"
        return json.loads(out) if out else err

    return command


def start(one: Rig, workflow: str, n: int) -> None:
    """Start a run by the bare command, once an engine answers."""
    body = c.StartWorkflow("collects", Payload(data=b'{"n":%d}' % n))
    found = one.answers(one.send(workflow, body, f"start-{workflow}"), wait_s=WAIT_S)
    assert [reply.outcome for reply in found] == ["accepted"], workflow


def finishes(one: Rig, workflow: str) -> None:
    """The run takes its last signal and completes, with its step."""
    one.signal(workflow, "go", b"5")
    assert json.loads(one.result(workflow))[-1] == 6


def homes(one: Rig) -> dict[str, set[int]]:
    """The partitions on which each workflow has events of its runs."""
    found: dict[str, set[int]] = {}
    for number, records in one.records("events").items():
        for raw in records:
            event = one.codec.decode_event(raw.key, raw.value).event
            if event.seq:
                found.setdefault(event.workflow_id, set()).add(number)
    return found


def grown(one: Rig, run: Run) -> None:
    """Everything is as it must be after a growth."""
    one.site.partitions = NEW
    run("topics", "check")
    ids = [f"new-{n}" for n in range(10)]
    for workflow in ids:
        start(one, workflow, 1)
        finishes(one, workflow)
    where = homes(one)
    assert {where[workflow] == {partition_of(workflow.encode(), NEW)} for workflow in ids} == {True}
    assert any(max(where[workflow]) >= OLD for workflow in ids)
    assert all(body.epochs == (OLD, NEW) for body in one.bodies(e.RoutingChanged))
    assert len(one.bodies(e.RoutingChanged)) == NEW
    assert not one.bodies(e.SendFailed) + one.bodies(e.DeadLettered)


@pytest.mark.parametrize("one", ["consumer", "classic"], indirect=True)
def test_engines_go_on_while_the_topics_grow(one: Rig, run: Run) -> None:
    one.engine()
    ids = [f"old-{n}" for n in range(6)]
    for workflow in ids:
        start(one, workflow, 1)
    planned = run("topics", "grow", str(NEW))
    assert {"what": f"partitions of {one.app.name}.commands", "from": OLD, "to": NEW} in planned
    assert {row["to"] for row in planned} == {NEW, f"{OLD}, {NEW}"}
    assert run("topics", "grow", str(NEW), "--yes", "--reason", "more load")
    one.site.partitions = NEW
    for workflow in ids:
        finishes(one, workflow)
    where = homes(one)
    assert {where[workflow] == {partition_of(workflow.encode(), OLD)} for workflow in ids} == {True}
    assert {body.reason for body in one.bodies(e.RoutingChanged)} == {"more load"}
    grown(one, run)
    assert all(row["ok"] for row in run("topics", "grow", str(NEW), "--yes")), "a second time there is nothing to do"
    assert len(one.bodies(e.RoutingChanged)) == NEW
    assert "never taken away" in str(run("topics", "grow", str(OLD), "--yes", code=2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.cli.grow.epochs_of", lambda settings, number: (OLD,))
        (refused,) = run("topics", "grow", str(NEW + 1), "--yes", code=1)
    assert "does not follow" in refused["says"], "two growths at once: partition 0 takes one of them"
    assert len(one.bodies(e.RoutingChanged)) == NEW
    run("topics", "grow", str(NEW + 1), "--yes")
    assert {body.epochs for body in one.bodies(e.RoutingChanged)} == {(OLD, NEW), (OLD, NEW, NEW + 1)}


@pytest.mark.parametrize("topics", [("events",), ("events", "commands"), ("commands",)])
def test_what_was_begun_by_whomever_is_finished(
    one: Rig, run: Run, kafka: DevKafka, topics: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Killed between two topics, or changed behind our back by Kafka's own tools."""
    engine = one.engine()
    start(one, "old-1", 1)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for name in topics:
        full = f"{one.app.name}.{name}"
        admin.create_partitions([NewPartitions(full, NEW)])[full].result(WAIT_S)
    if len(topics) == 2:
        until(lambda: NEW - 1 in engine.partitions and f"topics grow {NEW}" in engine.partitions[NEW - 1].problem)
    else:
        findings = run("topics", "check", code=1)
        assert [row["remedy"] for row in findings if "grow" in row["remedy"]]
    if topics == ("commands",):
        assert "topics grow" in str(run("workflow", "list", code=2)), "callers are refused too"
    run("topics", "grow", str(NEW), "--yes")
    one.site.partitions = NEW
    finishes(one, "old-1")
    grown(one, run)


def test_without_an_engine_nothing_is_changed(one: Rig, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cli.grow.ASK_S", 1.0)
    assert "start them" in str(run("topics", "grow", str(NEW), "--yes", code=2))
    run("topics", "check")
    assert len(one.records("commands")) == OLD


def until(found: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + WAIT_S
    while not found():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
