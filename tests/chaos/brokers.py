"""Faults of brokers: three nodes on loopback, killed and restarted under load; and an election that loses records."""

from __future__ import annotations

import random
import re
import subprocess
import uuid
from collections.abc import Callable, Sequence

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from orchestrator.devkafka import DevKafka
from tests.chaos.cluster import Cluster, restart, until
from tests.chaos.load import Mixed
from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults.campaign import Site
from tests.oracle.raw import READ_COMMITTED, READ_UNCOMMITTED, ends

TRANSACTIONS, GROUPS = "__transaction_state", "__consumer_offsets"


class Stage:
    """A cluster, an application on it, its engine under load."""

    def __init__(self, cluster: Cluster, campaign: Mixed, engine: subprocess.Popen[bytes], tally: Tally) -> None:
        self.cluster, self.campaign, self.engine, self.tally = cluster, campaign, engine, tally
        self.rng = campaign.rng

    def away(self, victim: int, fault: str, *, orderly: bool = False) -> None:
        """One broker ends, the others go on: callers are answered before it is back. Then all heals."""
        node = self.cluster.node(victim)
        node.terminate() if orderly else node.kill()
        took = self.campaign.until_answered(f"answers without broker {victim} ({fault})", self.engine)
        self.tally.notes.append(f"{fault}: answered again after {took:.1f} s")
        node.start()
        self.cluster.heal()
        self.tally.faults[fault] += 1

    # -- what a turn is made of --------------------------------------------------------------------------------------

    def leader(self) -> None:
        """The leader of a partition of events is killed."""
        self.away(self.cluster.leader(self._events, self.rng.randrange(2)), "leader of events killed")

    def leader_of_commands(self) -> None:
        """The leader of a partition of commands is killed."""
        topic = f"{self.campaign.site.app}.commands"
        self.away(self.cluster.leader(topic, self.rng.randrange(2)), "leader of commands killed")

    def transactions(self) -> None:
        """The coordinator of a lane's transactions is killed."""
        lane = f"{self.campaign.site.app}.{self.rng.randrange(2)}.{self.rng.choice('ab')}"
        self.away(self.cluster.coordinator(TRANSACTIONS, lane), "transaction coordinator killed")

    def group(self) -> None:
        """The coordinator of the engines' group is killed."""
        self.away(self.cluster.coordinator(GROUPS, f"{self.campaign.site.app}.engine"), "group coordinator killed")

    def rolling(self) -> None:
        """Every broker in turn ends in order and comes back."""
        for node in self.cluster.kafka.nodes:
            self.away(node.node_id, "broker restarted in order", orderly=True)
        self.tally.faults["rolling restart"] += 1

    def everything(self) -> None:
        """All brokers are killed at once, and come back."""
        for node in self.cluster.kafka.nodes:
            node.kill()
        self.campaign.feed_for(1.0)
        restart(self.cluster.kafka.nodes)
        took = self.campaign.until_answered("answers after all brokers were killed", self.engine)
        self.tally.notes.append(f"all brokers killed: answered again after {took:.1f} s")
        self.cluster.heal()
        self.tally.faults["all brokers killed at once"] += 1

    def frozen(self) -> None:
        """A broker stands still, is taken for dead, and goes on."""
        node = self.cluster.node(self.cluster.leader(self._events, self.rng.randrange(2)))
        node.pause()
        try:
            self.campaign.until_answered("answers beside a frozen broker", self.engine)
        finally:
            node.resume()
        self.cluster.heal()
        self.tally.faults["broker frozen and thawed"] += 1

    @property
    def _events(self) -> str:
        return f"{self.campaign.site.app}.events"


ACTS = (
    Stage.leader, Stage.leader_of_commands, Stage.transactions, Stage.group, Stage.rolling, Stage.everything,
    Stage.frozen,
)  # fmt: skip


ACTS_A_TURN = 3


def play(seat: Seat, tally: Tally, acts: Sequence[Callable[[Stage], None]], runs: int) -> None:
    """Start three brokers and an engine, do the acts under load, let everything end, judge."""
    rng = seat.rng
    membership = rng.choice(("static", "group"))
    app = f"brokers-{uuid.uuid4().hex[:6]}"
    with DevKafka.start(nodes=3) as kafka:
        cluster = Cluster(kafka)
        campaign = Mixed(Site(kafka.bootstrap, app, seat.directory / app, membership), rng)
        campaign.feed(runs)
        with campaign.engines() as engines:
            engines.append(campaign._engine(0, "", "thread"))
            campaign.until_answered("the engine works", engines[0])
            stage = Stage(cluster, campaign, engines[0], tally)
            for act in acts:
                act(stage)
                campaign.feed(runs)
            campaign.end_with(engines[0], 0)
        tally.judged(campaign.judge())


def brokers(seat: Seat, tally: Tally) -> None:
    """Three acts in any order; the engine is the same process all the time."""
    play(seat, tally, random.Random(seat.seed).sample(ACTS, seat.of(ACTS_A_TURN)), seat.of(40))


# -- an election that loses records ------------------------------------------------------------------------------------


WITNESSES = ("the engine that ran on", "its successor with its state", "a successor without state")


def unclean(seat: Seat, tally: Tally) -> None:
    """Committed batches are lost by an unclean election: whoever owns a partition that lost some stands still there."""
    rng = seat.rng
    witness = rng.choice(WITNESSES)
    app = f"unclean-{uuid.uuid4().hex[:6]}"
    with DevKafka.start(nodes=3) as kafka:
        cluster = Cluster(kafka)
        _lossy_topics(kafka.bootstrap, app)
        campaign = Mixed(Site(kafka.bootstrap, app, seat.directory / app), rng)
        campaign.feed(10)
        with campaign.engines() as engines:
            engines.append(campaign._engine(0, "", "thread"))
            campaign.until_answered("the engine works", engines[0])
            lost = _lose(cluster, campaign, engines, witness == WITNESSES[0])
            assert any(lost.values()), "the election lost nothing: nothing was shown"
            if witness != WITNESSES[0]:
                state = "state" if witness == WITNESSES[1] else "state-of-nobody"
                engines.append(campaign._engine(1, "", "thread", state))
            campaign.feed(5)
            until(lambda: all(map(_parked(campaign).get, lost)), f"the loss of {lost} is noticed by {witness}", 90.0)
            assert engines[-1].poll() is None, campaign.said()
        for number, count in lost.items():
            tally.notes.append(f"{count} offsets lost, noticed by {witness}: {_parked(campaign)[number]}")
            tally.faults[f"unclean election before {witness}"] += 1


def _lossy_topics(bootstrap: str, app: str) -> None:
    """Events on two brokers of which one alone may take a write, and any may lead: what nobody should set."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    settings = {
        "min.insync.replicas": "1", "unclean.leader.election.enable": "true", "retention.ms": "-1",
        "message.timestamp.type": "LogAppendTime",
    }  # fmt: skip
    topic = NewTopic(f"{app}.events", replica_assignment=[[1, 2], [1, 2]], num_partitions=2, config=settings)
    admin.create_topics([topic])[f"{app}.events"].result(30)


def _lose(cluster: Cluster, campaign: Mixed, engines: list[subprocess.Popen[bytes]], running: bool) -> dict[int, int]:
    """Broker 2 falls behind broker 1, which ends; broker 2 comes back alone and leads, without what it missed.

    How many offsets each partition lost that did.
    """
    topic = f"{campaign.site.app}.events"
    behind, ahead = cluster.node(2), cluster.node(1)
    behind.kill()
    until(lambda: all(cluster.in_sync(topic, n) == {1} for n in (0, 1)), "broker 1 alone is in sync")
    for _ in range(3):
        campaign.until_answered("batches that broker 2 has not", engines[0])
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
    return {int(number): why for number, why in found if "partition repair" in why or "did not write" in why}


PLUGS = (
    Plug("brokers", brokers,
         ("leader of events killed", "leader of commands killed", "transaction coordinator killed",
          "group coordinator killed", "broker restarted in order", "rolling restart", "all brokers killed at once",
          "broker frozen and thawed"), 4.0, 240.0),
    Plug("unclean", unclean, [f"unclean election before {witness}" for witness in WITNESSES], 1.5, 90.0),
)  # fmt: skip
