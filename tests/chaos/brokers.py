"""Faults of brokers: three nodes on loopback, killed, frozen and restarted under load."""

from __future__ import annotations

import random
import subprocess
import uuid
from collections.abc import Callable, Sequence

from orchestrator.devkafka import DevKafka
from tests.chaos.cluster import Cluster, restart
from tests.chaos.load import Mixed
from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults.campaign import Site

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
            took = self.campaign.until_answered("answers beside a frozen broker", self.engine)
        finally:
            node.resume()
        self.tally.notes.append(f"a broker frozen: answered again after {took:.1f} s")
        self.cluster.heal()
        self.tally.faults["broker frozen and thawed"] += 1

    @property
    def _events(self) -> str:
        return f"{self.campaign.site.app}.events"


ACTS = {
    Stage.leader: ["leader of events killed"],
    Stage.leader_of_commands: ["leader of commands killed"],
    Stage.transactions: ["transaction coordinator killed"],
    Stage.group: ["group coordinator killed"],
    Stage.rolling: ["broker restarted in order", "rolling restart"],
    Stage.everything: ["all brokers killed at once"],
    Stage.frozen: ["broker frozen and thawed"],
}
"""What can be done, and the faults that it counts."""


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
    """Three acts in any order, or those that are asked for; the engine is the same process all the time."""
    acts = [act for act, faults in ACTS.items() if set(faults) & set(seat.faults)]
    if not seat.faults:
        acts = random.Random(seat.seed).sample(list(ACTS), seat.of(ACTS_A_TURN))
    play(seat, tally, acts, seat.of(40))


PLUGS = (
    Plug("brokers", brokers, tuple(dict.fromkeys(fault for faults in ACTS.values() for fault in faults)), 4.0, 240.0,
         chooses=True),
)  # fmt: skip
