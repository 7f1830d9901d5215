"""Whoever is outside of the engines: senders of commands, and workers of the task queue."""

from __future__ import annotations

import random

from orchestrator.codec.records import Codec
from orchestrator.core import commands as c
from orchestrator.core.tasks import Reply, TaskOffer
from orchestrator.core.values import Payload, ReplyTo
from orchestrator.log.ports import Out
from orchestrator.sdk.execution import StepCall
from orchestrator.testing.memory_cluster import MemoryCluster
from tests.simulation import load

REPLIES = ReplyTo(f"{load.APP}.replies", 0)
LEASE_MS = 2_000


class Post:
    """Commands on their way, and the answers to them."""

    def __init__(self, cluster: MemoryCluster, codec: Codec, work: list[load.Work], rng: random.Random) -> None:
        self.codec = codec
        self.answers: dict[str, list[Reply]] = {}
        self.queues = [queue for one in work for queue in _queues(one, rng)]
        self._cluster = cluster
        self._sent: dict[str, tuple[str, bytes]] = {}
        self._heard = 0

    @property
    def unanswered(self) -> list[str]:
        """Commands that were sent and have no answer."""
        return [command for command in self._sent if command not in self.answers]

    def next(self, queue: list[tuple[str, str, c.TopicCommand]]) -> None:
        """A sender sends its next command."""
        workflow, command_id, body = queue.pop(0)
        self.queues = [queue for queue in self.queues if queue]
        self.send(workflow, command_id, body)

    def send(self, workflow: str, command_id: str, body: c.TopicCommand) -> None:
        """Put a command on its topic."""
        value = self.codec.encode_command(c.Command(command_id, workflow, body, reply_to=REPLIES))
        self._sent[command_id] = (workflow, value)
        self.again(command_id)

    def again(self, command_id: str) -> None:
        """Its sender does not know whether it arrived."""
        workflow, value = self._sent[command_id]
        problem = self._cluster.send(Out(f"{load.APP}.commands", -1, workflow.encode(), value))
        assert problem == "", problem

    def sent(self) -> list[str]:
        """Ids of what was sent."""
        return list(self._sent)

    def hear(self) -> list[Reply]:
        """The answers that came since."""
        wires, self._heard = self._cluster.partition(REPLIES.topic, 0).read(self._heard, 1_000)
        heard = [said for said in (self.codec.decode(wire.value) for wire in wires) if isinstance(said, Reply)]
        for reply in heard:
            self.answers.setdefault(reply.command_id, []).append(reply)
        return heard


def _queues(one: load.Work, rng: random.Random) -> list[list[tuple[str, str, c.TopicCommand]]]:
    """What the senders of one run send, each in its order; the first sends the start."""
    arguments = load.carry.code.signature.bind((one.plan, 0), {})
    first: list[tuple[str, str, c.TopicCommand]] = [
        (one.workflow, f"{one.workflow}-start", c.StartWorkflow(load.carry.code.workflow_type, arguments))
    ]
    for number, value in enumerate(one.signals):
        signal = c.SignalWorkflow("go", Payload(data=b"%d" % value))
        first.append((one.workflow, f"{one.workflow}-signal-{number}", signal))
    if one.cancelled:
        place = rng.randint(1, len(first))
        first.insert(place, (one.workflow, f"{one.workflow}-cancel", c.CancelWorkflow()))
    return [first]


class Workers:
    """Workers of the queue: every offer may be taken by each, a grant may come late, and one may vanish with it."""

    def __init__(self, cluster: MemoryCluster, post: Post) -> None:
        self.offers: list[tuple[str, TaskOffer]] = []
        self.granted: list[TaskOffer] = []
        self.away: list[tuple[float, TaskOffer]] = []
        """Grants of workers that are not heard of, and until when their leases last."""
        self._asked: dict[str, TaskOffer] = {}
        self._cluster = cluster
        self._post = post
        self._read: dict[int, int] = {}

    def poll(self) -> None:
        """Read the queue's topic."""
        for number, log in enumerate(self._cluster.topics[f"{load.APP}.tasks.{load.QUEUE}"].partitions):
            wires, self._read[number] = log.read(self._read.get(number, 0), 1_000)
            for wire in wires:
                offer = self._post.codec.decode(wire.value)
                assert isinstance(offer, TaskOffer)
                self.offers.append(("one", offer))

    def hear(self, reply: Reply) -> None:
        """An answer; it may be a grant."""
        offer = self._asked.pop(reply.command_id, None)
        if offer is not None and reply.outcome == "accepted":
            self.granted.append(offer)

    def take(self, number: int, share: bool) -> None:
        """Ask for the grant of an offer; if `share`, another worker asks too."""
        worker, offer = self.offers.pop(number)
        if share and worker == "one":
            self.offers.append(("two", offer))
        command_id = f"{offer.token}/start/{worker}"
        if command_id in self._post.sent():
            self._post.again(command_id)
            return
        self._asked[command_id] = offer
        start = c.StartStep(offer.run_id, offer.step, offer.attempt, offer.token, worker, LEASE_MS)
        self._post.send(offer.workflow_id, command_id, start)

    def end(self, number: int) -> None:
        """Report the outcome of a granted attempt."""
        offer = self.granted.pop(number)
        result, failure = load.outcome_of(call_of(offer))
        body = c.ReportStep(offer.run_id, offer.step, offer.attempt, offer.token, result, failure)
        self._post.send(offer.workflow_id, f"{offer.token}/report", body)

    def vanish(self, number: int, now: float) -> None:
        """The worker is not heard of for longer than its lease."""
        self.away.append((now + LEASE_MS / 1000, self.granted.pop(number)))

    def come_back(self) -> None:
        """One that was away goes on as if nothing had been."""
        self.granted.append(self.away.pop(0)[1])
        self.end(len(self.granted) - 1)


def call_of(offer: TaskOffer) -> StepCall:
    """The attempt that an offer is for."""
    return StepCall(
        offer.workflow_id, offer.run_id, offer.step, offer.attempt, offer.token, offer.name, offer.arguments
    )
