"""An election that loses records: whoever owns the log notices, a person accepts it, and everything goes on."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
import uuid

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.log.partitioner import partition_of
from tests.chaos import lossy_app
from tests.chaos.cluster import Cluster, until
from tests.chaos.load import Mixed
from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults import kill_app
from tests.faults.campaign import PARTITIONS, ROOT, Site
from tests.oracle.oracle import Expected, SentSignal
from tests.oracle.raw import READ_COMMITTED, READ_UNCOMMITTED, ends

WITNESSES = {
    "unclean election before the engine that ran on": "",
    "unclean election before its successor with its state": "state",
    "unclean election before a successor without state": "state-of-nobody",
}
"""Who meets the log that lost its end, and the successor's state directory."""
NOTICED_WITHIN_S = 90.0
HIDDEN = "nothing could be read for"


class Lossy(Mixed):
    """Steps and signals; of effects and answers behind the loss nothing is known any more."""

    app = "tests.chaos.lossy_app:app"
    effects = kill_app.EFFECTS
    outside = False

    def feed(self, count: int) -> None:
        """Runs that ask nothing of other partitions."""
        for _ in range(count):
            workflow, n, values = f"w{len(self.expected)}", self.rng.randint(1, 4), (self._value(), self._value())
            arguments = lossy_app.alone.code.signature.bind((n,), {})
            self.last = self._send(workflow, c.StartWorkflow("alone", arguments))
            self.asked[self.last] = partition_of(workflow.encode(), PARTITIONS)
            sent = [self._send(workflow, c.SignalWorkflow("go", Payload(data=b"%d" % value))) for value in values]
            result, signals = lossy_app.result_of(n, values), tuple(map(SentSignal, sent))
            self.expected[workflow] = Expected(result, lossy_app.steps_of(n), "completed", signals)

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.asked: dict[str, int] = {}
        super().__init__(site, rng)

    def until_all_answer(self, what: str, engine: subprocess.Popen[bytes]) -> None:
        """Until in every partition somebody who asks from now on is answered."""
        before = set(self.asked)
        self.until(
            lambda: len({self.asked[one] for one in (self.asked.keys() - before) & self.answered}) == PARTITIONS, what,
            engine,
        )  # fmt: skip


def unclean(seat: Seat, tally: Tally) -> None:
    """Committed batches are lost by an unclean election: whoever owns a partition that lost some stands still there.

    Then a person accepts what is left, as the runbook says, and every run ends.
    """
    rng = seat.rng
    fault = rng.choice(list(seat.faults or WITNESSES))
    app = f"unclean-{uuid.uuid4().hex[:6]}"
    with DevKafka.start(nodes=3) as kafka:
        cluster = Cluster(kafka)
        _lossy_topics(kafka.bootstrap, app)
        campaign = Lossy(Site(kafka.bootstrap, app, seat.directory / app), rng)
        campaign.feed(10)
        state = WITNESSES[fault] or "state"
        with campaign.engines() as engines:
            engines.append(campaign._engine(0, "", "thread"))
            campaign.until_all_answer("the engine works", engines[0])
            lost = _lose(cluster, campaign, engines, not WITNESSES[fault])
            assert any(lost.values()), "the election lost nothing: nothing was shown"
            if WITNESSES[fault]:
                engines.append(campaign._engine(1, "", "thread", state))
            campaign.feed(5)
            until(lambda: all(map(_parked(campaign).get, lost)), f"the loss of {lost} is noticed", NOTICED_WITHIN_S)
            assert engines[-1].poll() is None, campaign.said()
            for number, count in lost.items():
                tally.notes.append(f"{count} offsets lost: {_parked(campaign)[number]}")
                tally.faults[fault] += 1
            cluster.node(1).start()
            cluster.heal()
            campaign.drain(engines.pop(), in_order=False)
            tally.notes += [line for number in lost for line in _accept(campaign, number, state)]
            engines.append(campaign._engine(2, "", "thread", state))
            campaign.until_all_answer("the engine goes on", engines[-1])
            campaign.end_with(engines[-1], 2)
        if state != "state":
            _keep_state(campaign, state)
        tally.judged(campaign.judge())


def _lossy_topics(bootstrap: str, app: str) -> None:
    """Events on two brokers of which one alone may take a write, and any may lead: what nobody should set."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    settings = {
        "min.insync.replicas": "1", "unclean.leader.election.enable": "true", "retention.ms": "-1",
        "message.timestamp.type": "LogAppendTime",
    }  # fmt: skip
    topic = NewTopic(f"{app}.events", replica_assignment=[[1, 2], [1, 2]], num_partitions=2, config=settings)
    admin.create_topics([topic])[f"{app}.events"].result(30)


def _lose(cluster: Cluster, campaign: Lossy, engines: list[subprocess.Popen[bytes]], running: bool) -> dict[int, int]:
    """Broker 2 falls behind broker 1, which ends; broker 2 comes back alone and leads, without what it missed.

    How many offsets each partition lost that did.
    """
    topic = f"{campaign.site.app}.events"
    behind, ahead = cluster.node(2), cluster.node(1)
    behind.kill()
    until(lambda: all(cluster.in_sync(topic, n) == {1} for n in (0, 1)), "broker 1 alone is in sync")
    for _ in range(3):
        campaign.until_all_answer("batches that broker 2 has not", engines[0])
    if not running:
        engines[0].kill()
        engines[0].wait(30)
    before = ends(campaign.site.bootstrap, topic, READ_COMMITTED)
    ahead.kill()
    behind.start()
    until(lambda: all(cluster.leader(topic, n) == 2 for n in (0, 1)), "broker 2 was elected")
    after = ends(campaign.site.bootstrap, topic, READ_UNCOMMITTED)
    return {n: before[n][1] - after[n][1] for n in before if after[n][1] < before[n][1]}


def _parked(campaign: Mixed) -> dict[int, str]:
    """Partitions that stand still by their log, and why."""
    said = "\n".join(campaign.told().values())
    found = re.findall(r"ERROR orchestrator\.engine\.partition: partition (\d+): (.*)", said)
    words = ("partition repair", "did not write", HIDDEN)
    return {int(number): why for number, why in found if any(word in why for word in words)}


def _accept(campaign: Mixed, number: int, state: str) -> list[str]:
    """What a person does: look, end what hides the log's end, accept what is left. What the commands said."""
    looked = _repair(campaign, state, number)
    notes = []
    if "--abort-hung" in looked:
        notes.append(f"hung: {looked}")
        looked = _repair(campaign, state, number, "--abort-hung")
    assert "to accept it" in looked, looked
    accepted = _repair(campaign, state, number, "--yes", "--reason", "unclean election")
    assert "accepted and recorded" in accepted, accepted
    return [*notes, accepted]


def _repair(campaign: Mixed, state: str, number: int, *words: str) -> str:
    command = [sys.executable, "-m", "orchestrator.cli.main", "partition", "repair", str(number), *words]
    done = subprocess.run(
        command, env=campaign.environ(state), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    return f"{done.stdout}{done.stderr}".strip()


def _keep_state(campaign: Mixed, state: str) -> None:
    """The state that is judged is that of the engine that went on."""
    before, after = (campaign.site.directory / name / campaign.site.app for name in ("state", state))
    before.rename(before.with_name(f"{before.name}-{time.time_ns()}"))
    after.rename(before)


PLUGS = (Plug("unclean", unclean, tuple(WITNESSES), 1.5, 150.0, chooses=True),)
