"""The commands of docs/runbook.md on a log that lost its end within a transaction, as an unclean election leaves it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from orchestrator.codec.records import CLAIM_KEY
from orchestrator.core import events as e
from orchestrator.core.commands import StartWorkflow
from orchestrator.core.limit_rows import home_of
from orchestrator.devkafka import DevKafka
from orchestrator.engine.partition import State
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from tests.docs.conftest import PARTITIONS, TROUBLED, WAIT_S, troubled, until
from tests.docs.hung import AN_HOUR_MS
from tests.docs.lost_ends import Lost, lose_end
from tests.docs.runbook import Entry
from tests.docs.test_runbook_logs import Site
from tests.engine.rig import KafkaSite
from tests.oracle.oracle import check
from tests.oracle.raw import READ_UNCOMMITTED, read_raw

Page = Callable[[str], Entry]
pytestmark = pytest.mark.broker
RUNS = [troubled(word) for word in ("first", "second")]


@pytest.fixture
def kafka() -> Iterator[DevKafka]:
    """A broker of this test's own: it is stopped, and loses a part of a log."""
    with DevKafka.start() as found:
        yield found


@pytest.fixture
def site(place: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("ORCHESTRATOR_APP")
    found = Site(place)  # type: ignore[arg-type]
    yield found
    found.rig.close()


def played(site: Site, kafka: DevKafka) -> Lost:
    """Two runs end and are answered; then the broker loses the end of their log."""
    engine = site.engine()
    for run in RUNS:
        site.rig.start(run, site.waits)
        site.rig.signal(run, "go", b"7")
        assert site.rig.result(run) == b"7"
    engine.stop(5.0)
    (node,) = kafka.nodes
    node.terminate()
    lost = lose_end(node.directory / "data", f"{site.place.app}.events-{TROUBLED}", CLAIM_KEY, AN_HOUR_MS)
    node.start()
    kafka.wait_ready()
    assert site.rig.site.open_transactions(f"{site.place.app}.events") == [TROUBLED]
    return lost


def goes_on(site: Site, cut: Entry) -> None:
    """The log is accepted; the engine ends what it reads again, and new runs; nothing happened twice."""
    assert "--yes" in cut("orchestrator partition repair 3", code=1)
    said = cut('orchestrator partition repair 3 --yes --reason "unclean election on broker 2, ticket 4711"')
    assert "accepted and recorded" in said
    partition = site.partition(site.engine())
    assert partition.state is State.OWNED, partition.problem
    new = troubled("new")
    start = StartWorkflow(site.waits.code.workflow_type, site.waits.code.signature.bind((), {}))
    # Its broker was away: as every caller does, it sends again by the same id what nobody has answered.
    try:
        until(lambda: site.rig.answers(site.rig.send(new, start, "start-new"), wait_s=5.0))
    except AssertionError as error:
        raise AssertionError(f"{error}: {whereabouts(site)}") from None
    site.rig.signal(new, "go", b"8")
    assert site.rig.result(new) == b"8"
    for run in RUNS:
        assert site.rig.result(run) == b"7"
    assert "unclean election" in cut("orchestrator audit verify --partition 3")
    topic = f"{site.place.app}.events"
    events = read_raw(site.place.kafka.bootstrap, topic)
    verdict = check(events, read_raw(site.place.kafka.bootstrap, topic, READ_UNCOMMITTED))
    assert (verdict.duplicated, verdict.anomalies) == (0, [])
    assert site.rig.site.open_transactions(topic) == []


def whereabouts(site: Site) -> str:
    """How far a command came that nobody answered: sent, on its topic, decided, answered."""
    names = {kind: f"{site.place.app}.{kind}" for kind in ("commands", "events", "replies")}
    bootstrap, kept = site.place.kafka.bootstrap, site.rig.site
    assert isinstance(kept, KafkaSite)
    found = {kind: [len(rows) for _, rows in sorted(read_raw(bootstrap, name).items())] for kind, name in names.items()}
    events = read_raw(bootstrap, names["events"])[TROUBLED][-3:]
    return f"sent: {kept.acks}; records by partition: {found}; the last events: {events}; waits at {kept.reply_to}"


def test_a_lanes_transaction_is_ended_by_the_repair(page: Page, site: Site, kafka: DevKafka) -> None:
    hung, cut = page("A hung transaction"), page("A log that lost its end")
    lost = played(site, kafka)
    assert "it was cut or replaced" in site.parked()
    # What the runbook says of it: to initialise the id again does nothing, for its coordinator has nothing to end.
    for name in LogConfig(site.place.app, kafka.bootstrap).lane_names(TROUBLED):
        Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name}).init_transactions(WAIT_S)
    assert site.rig.site.open_transactions(f"{site.place.app}.events") == [TROUBLED]
    for said in (
        hung("orchestrator doctor", code=1),
        hung("orchestrator topics check", code=1),
        cut("orchestrator partition repair 3", code=1),
    ):
        assert f"hides offsets {lost.first} to {lost.end - 1}" in said
        assert "orchestrator partition repair 3 --abort-hung" in said
        assert f"--topic {site.place.app}.events --partition 3 --start-offset {lost.first}" in said
    assert "was aborted, and is void" in hung("orchestrator partition repair 3 --abort-hung", code=1)
    assert site.rig.site.open_transactions(f"{site.place.app}.events") == []
    goes_on(site, cut)


@pytest.mark.slow
def test_a_lanes_transaction_is_ended_by_kafkas_tool(page: Page, site: Site, kafka: DevKafka) -> None:
    hung, cut = page("A hung transaction"), page("A log that lost its end")
    lost = played(site, kafka)
    found = hung("kafka-transactions.sh --bootstrap-server HOST:PORT find-hanging --topic shop.events")
    (offset,) = [row.split()[5] for row in found.splitlines() if row.startswith(f"{site.place.app}.events")]
    assert int(offset) == lost.first
    hung(
        "kafka-transactions.sh --bootstrap-server HOST:PORT abort --topic shop.events --partition 3"
        " --start-offset OFFSET",
        OFFSET=offset,
    )
    assert site.rig.site.open_transactions(f"{site.place.app}.events") == []
    goes_on(site, cut)


def asking(site: Site, child: str, again: threading.Event) -> list[Any]:
    """Workflows that ask another partition, behind a step that waits for `again`: for a child, for a slot."""
    app = site.rig.app
    slots = app.limit("slots", concurrency=1)

    @app.step(name="first")
    def first() -> int:
        assert again.wait(WAIT_S)
        return 1

    @app.step(name="narrow", limits=[slots])
    def narrow(x: int) -> int:
        return x + 1

    @app.workflow(name="child")
    async def answers(x: int) -> int:
        return x + 1

    @app.workflow(name="asks")
    async def asks() -> int:
        return await answers.options(id=child)(await first())

    @app.workflow(name="limited")
    async def limited() -> int:
        return await narrow(await first())

    return [asks, limited]


@pytest.mark.slow
def test_runs_that_were_answered_into_the_lost_part(page: Page, site: Site) -> None:
    """Whoever was asked lost nothing: it knows the question that is asked again, and has answered it."""
    cut = page("A log that lost its end")
    runs = [troubled("asks"), troubled("limited")]
    child = next(f"child-{n}" for n in range(99) if partition_of(b"child-%d" % n, PARTITIONS) != TROUBLED)
    assert partition_of(home_of("default").encode(), PARTITIONS) != TROUBLED
    again = threading.Event()
    codes = asking(site, child, again)
    engine = site.engine()
    for run, code in zip(runs, codes, strict=True):
        site.rig.start(run, code)
    until(lambda: len(site.rig.bodies(e.StepScheduled)) == len(runs))
    begun = len(site.rig.records("events")[TROUBLED])
    again.set()
    for run in runs:
        assert site.rig.result(run) == b"2"
    engine.stop(5.0)
    records = site.rig.records("events")
    records[TROUBLED] = records[TROUBLED][:begun]
    site.replace_events(records)
    shutil.rmtree(site.place.state)
    cut('orchestrator partition repair 3 --yes --reason "unclean election on broker 2, ticket 4711"')
    again.clear()
    site.engine()
    answered = site.rig.records("commands")[TROUBLED][-1]
    until(lambda: site.rig.site.group_offsets().get(TROUBLED, 0) > answered.offset)
    again.set()
    why = [f"waits for child workflow child ({child})", "waits for a slot of limit slots"]
    asked = [e.ChildScheduled, e.StepScheduled]
    for run, waits, kind in zip(runs, why, asked, strict=True):
        until(lambda run=run, waits=waits: waits in cut("orchestrator workflow show ID", ID=run))  # type: ignore[misc]
        assert kind.__name__ in cut("orchestrator workflow history ID", ID=run)
        number = [event.seq for event in site.rig.events(run) if isinstance(event.body, kind)][-1] - 1
        cut(
            'orchestrator workflow reset ID --event NUMBER --reason "it was answered into the lost part"',
            ID=run,
            NUMBER=str(number),
        )
        assert site.rig.result(run) == b"2"
    assert "completed" in cut("orchestrator workflow show ID", ID=child)
