"""An application whose engines, callers and log a test holds in its hands: in memory, or on a real broker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from confluent_kafka import Consumer, Producer, TopicPartition

from orchestrator import Orchestrator
from orchestrator.client.kafka import KafkaTransport
from orchestrator.codec.records import Codec
from orchestrator.codec.signatures import CommandSigner
from orchestrator.config import Settings
from orchestrator.core import commands as c
from orchestrator.core.events import Event
from orchestrator.core.replay import Batch, BatchAssembler
from orchestrator.core.tasks import Reply, StopStep
from orchestrator.core.values import Payload, ReplyTo
from orchestrator.engine.clock import Clock
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Headers, Log, Out
from orchestrator.log.topics import init_topics
from orchestrator.sdk.execution import ExecutorOptions, StepExecutor
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import Store
from orchestrator.testing.clock import SkippingClock
from orchestrator.testing.memory_cluster import MemoryCluster
from orchestrator.testing.memory_log import MemoryGroup, MemoryLog, create_topics
from orchestrator.worker.threads import ThreadExecutor
from tests.oracle.raw import READ_COMMITTED, READ_UNCOMMITTED, End, RawRecord, log_ends, open_transactions, read_raw

PATIENCE_S = 20.0


def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Site(Protocol):
    """Where an application's log lies."""

    partitions: int
    reply_to: ReplyTo

    def log(self, app: str) -> Log: ...
    def send(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = ()) -> None: ...
    def transact(self, topic: str, partition: int, key: bytes, value: bytes) -> None: ...
    def replies(self) -> Iterable[bytes]: ...
    def wait(self, timeout_s: float) -> None: ...
    def records(self, topic: str, committed: bool = True) -> dict[int, list[RawRecord]]: ...
    def ends(self, topic: str) -> dict[int, End]: ...
    def open_transactions(self, topic: str) -> list[int]: ...
    def group_offsets(self) -> dict[int, int]: ...
    def close(self) -> None: ...


class MemorySite:
    """A cluster in memory."""

    def __init__(self, app: str, partitions: int = 2) -> None:
        self.partitions = partitions
        self.cluster = MemoryCluster()
        self.group = MemoryGroup(partitions)
        create_topics(self.cluster, app, partitions)
        self.reply_to = ReplyTo(f"{app}.replies", 0)
        self._read = 0

    def log(self, app: str) -> Log:
        return MemoryLog(self.cluster, app, self.group)

    def send(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = ()) -> None:
        assert self.cluster.send(Out(topic, partition, key, value, headers)) == ""

    def transact(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """What a caller's transactional producer sends: a marker follows."""
        epoch = self.cluster.init("caller")
        self.cluster.produce("caller", epoch, topic, partition, [(key, value)])
        self.cluster.commit("caller", epoch)

    def replies(self) -> Iterable[bytes]:
        with self.cluster.changed:
            wires, self._read = self.cluster.partition(self.reply_to.topic, 0).read(self._read, 100_000)
        return [wire.value for wire in wires]

    def wait(self, timeout_s: float) -> None:
        with self.cluster.changed:
            self.cluster.changed.wait(timeout_s)

    def records(self, topic: str, committed: bool = True) -> dict[int, list[RawRecord]]:
        with self.cluster.changed:
            logs = self.cluster.topics[topic].partitions
            return {
                n: [RawRecord(*w) for w in log.read(log.start, 1 << 30, committed)[0]] for n, log in enumerate(logs)
            }

    def ends(self, topic: str) -> dict[int, End]:
        return {n: End(log.stable, log.end) for n, log in enumerate(self.cluster.topics[topic].partitions)}

    def open_transactions(self, topic: str) -> list[int]:
        return [n for n, log in enumerate(self.cluster.topics[topic].partitions) if log.open_since]

    def group_offsets(self) -> dict[int, int]:
        """What the engines' group has committed, by partition of the commands topic."""
        return {number: offset for number, (offset, _) in self.group.offsets.items()}

    def close(self) -> None:
        """Nothing is held."""


class KafkaSite:
    """A real broker; the partitions are this process's by static assignment."""

    def __init__(self, app: str, bootstrap: str, partitions: int = 2) -> None:
        self.partitions = partitions
        self._bootstrap = bootstrap
        self._config = LogConfig(app, bootstrap, assignment=tuple(range(partitions)))
        init_topics(self._config, partitions)
        self._heard: list[bytes] = []
        self.acks: list[str] = []
        """What became of each command that was sent: "", or the problem."""
        self._transport = KafkaTransport(app, Settings(app_name=app, bootstrap=bootstrap))
        self._transport.open(self._heard.append)
        self.reply_to = self._transport.reply_to

    def log(self, app: str) -> Log:
        return KafkaLog(self._config)

    def send(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = ()) -> None:
        assert topic.endswith(".commands"), topic
        number = partition if partition >= 0 else partition_of(key, self.partitions)
        self._transport.send(number, key, value, self.acks.append, headers)

    def transact(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """What a caller's transactional producer sends: a marker follows."""
        producer = Producer({"bootstrap.servers": self._bootstrap, "transactional.id": f"{topic}.caller"})
        producer.init_transactions(PATIENCE_S)
        producer.begin_transaction()
        producer.produce(topic, value, key, partition)
        producer.commit_transaction(PATIENCE_S)

    def replies(self) -> Iterable[bytes]:
        heard, self._heard[:] = list(self._heard), []
        return heard

    def wait(self, timeout_s: float) -> None:
        time.sleep(min(timeout_s, 0.005))

    def records(self, topic: str, committed: bool = True) -> dict[int, list[RawRecord]]:
        return read_raw(self._bootstrap, topic, READ_COMMITTED if committed else READ_UNCOMMITTED)

    def ends(self, topic: str) -> dict[int, End]:
        return log_ends(self._bootstrap, topic)

    def open_transactions(self, topic: str) -> list[int]:
        return open_transactions(self._bootstrap, topic)

    def group_offsets(self) -> dict[int, int]:
        """What the engines' group has committed, by partition of the commands topic."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": self._config.group})
        places = [TopicPartition(self._config.topic("commands"), number) for number in range(self.partitions)]
        found = {one.partition: one.offset for one in consumer.committed(places, timeout=PATIENCE_S)}
        consumer.close()
        return {number: offset for number, offset in found.items() if offset >= 0}

    def close(self) -> None:
        self._transport.close()


class Rig:
    """An application on a site: send commands, wait for answers, read what the log says."""

    def __init__(self, app: Orchestrator, site: Site) -> None:
        self.app = app
        self.site = site
        self.codec = Codec()
        self.sign = CommandSigner(app.name, None)
        self.stores: dict[int, MemoryStore] = {}
        self.acked: set[str] = set()
        self.engines: list[Engine] = []
        self.stops: list[StopStep] = []
        self._replies: dict[str, list[Reply]] = {}

    @property
    def cluster(self) -> MemoryCluster:
        """The cluster, of a rig in memory."""
        assert isinstance(self.site, MemorySite)
        return self.site.cluster

    # -- engines -----------------------------------------------------------------------------------------------------

    def engine(
        self,
        options: EngineOptions | None = None,
        *,
        app: Orchestrator | None = None,
        clock: Clock | None = None,
        executor: Callable[[Orchestrator, ExecutorOptions, Any], StepExecutor] = ThreadExecutor,
        stores: dict[int, MemoryStore] | None = None,
        open_store: Callable[[int, Codec], Store] | None = None,
    ) -> Engine:
        """Start a process of the application (with other code if `app` is given)."""
        code, kept = app or self.app, self.stores if stores is None else stores
        options = options or EngineOptions()
        if isinstance(self.site, KafkaSite):
            options = replace(options, prove_s=5.0)
        if isinstance(clock, SkippingClock):
            # What was skipped has not passed for the brokers.
            options = replace(options, skew_ms=0)
        engine = Engine(
            self.site.log(self.app.name),
            code.registry,
            lambda report, freed: executor(code, ExecutorOptions(freed=freed), report),
            open_store or (lambda number, codec: kept.setdefault(number, MemoryStore(codec))),
            options,
            clock,
            self.codec,
        )
        engine.start()
        self.engines.append(engine)
        return engine

    def close(self) -> None:
        """End everything that still runs."""
        for engine in self.engines:
            engine.stop(1.0)
        self.site.close()

    # -- callers -----------------------------------------------------------------------------------------------------

    def send(self, workflow: str, body: c.TopicCommand, command_id: str = "", partition: int = -1) -> str:
        """Put a command on its topic; its id."""
        command = c.Command(command_id or uuid.uuid4().hex, workflow, body, reply_to=self.site.reply_to)
        self.send_raw(workflow.encode(), self.codec.encode_command(command), partition)
        return command.id

    def send_raw(self, key: bytes, value: bytes, partition: int = -1, headers: Headers | None = None) -> None:
        """Put bytes on the commands topic, signed if the rig has a key."""
        headers = self.sign.headers(value) if headers is None else headers
        self.site.send(f"{self.app.name}.commands", partition, key, value, headers)

    def answers(self, command_id: str, count: int = 1, wait_s: float = PATIENCE_S) -> list[Reply]:
        """Wait for so many answers to a command; what came."""
        deadline = time.monotonic() + wait_s
        while True:
            self._listen()
            found = self._replies.get(command_id, [])
            left = deadline - time.monotonic()
            if len(found) >= count or left <= 0:
                return found
            self.site.wait(min(left, 0.05))

    def _listen(self) -> None:
        for value in self.site.replies():
            said = self.codec.decode(value)
            if isinstance(said, StopStep):
                self.stops.append(said)
            else:
                self._replies.setdefault(said.command_id, []).append(said)

    def wait_stops(self, count: int = 1) -> list[StopStep]:
        """Wait until callers here were told of so many attempts that they are to end."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.stops) < count:
            assert time.monotonic() < deadline, f"no {count} attempts were told to end: {self.stops}"
            self.site.wait(0.02)
            self._listen()
        return self.stops

    def ask(self, workflow: str, body: c.TopicCommand, command_id: str = "") -> Reply:
        """Send a command and wait for its answer."""
        sent = self.send(workflow, body, command_id)
        found = self.answers(sent)
        assert found, f"no answer to {type(body).__name__} for {workflow}; its log: {self.kinds(workflow)}"
        return found[0]

    def accepted(self, workflow: str, body: c.TopicCommand, command_id: str = "") -> str:
        """Send a command that must be accepted; its id."""
        reply = self.ask(workflow, body, command_id)
        assert reply.outcome == "accepted", reply
        self.acked.add(reply.command_id)
        return reply.command_id

    def start(self, workflow: str, code: Any, *args: Any, **options: Any) -> str:
        """Start a run of a workflow; the command's id."""
        arguments = code.code.signature.bind(args, {})
        return self.accepted(workflow, c.StartWorkflow(code.code.workflow_type, arguments, **options))

    def signal(self, workflow: str, name: str, data: bytes = b"null") -> str:
        """Send a signal that must be accepted; the command's id."""
        return self.accepted(workflow, c.SignalWorkflow(name, Payload(data=data)))

    def outcome(self, workflow: str, run_id: str = "", wait_s: float = PATIENCE_S) -> Reply:
        """The end of a run. Questions that a claim dropped are asked again, as every caller does."""
        deadline = time.monotonic() + wait_s
        answer = None
        while time.monotonic() < deadline:
            found = self.answers(self.send(workflow, c.QueryWorkflow("result", run_id, wait_ms=1_000)), wait_s=1.5)
            answer = found[0] if found else answer
            if found and found[0].outcome == "answered":
                return found[0]
            self.site.wait(0.05)
        raise AssertionError(f"{workflow} has not ended: {answer}; {self.kinds(workflow)}")

    def result(self, workflow: str) -> bytes:
        """The result of a run that must complete, as JSON."""
        answer = self.outcome(workflow)
        assert answer.code == "completed", answer
        return answer.result.data

    def parked(self, workflow: str) -> str:
        """The message of a run that must be parked."""
        return self.until(workflow, lambda reply: reply.code == "parked").message

    def until(self, workflow: str, holds: Callable[[Reply], bool]) -> Reply:
        """Ask for the result until what comes is as wanted."""
        deadline = time.monotonic() + PATIENCE_S
        found: list[Reply] = []
        while time.monotonic() < deadline:
            found = self.answers(self.send(workflow, c.QueryWorkflow("result")), wait_s=1.0)
            if found and holds(found[0]):
                return found[0]
            self.site.wait(0.01)
        raise AssertionError(f"{workflow}: {found}; {self.kinds(workflow)}")

    # -- what the log says -------------------------------------------------------------------------------------------

    def records(self, kind: str, committed: bool = True) -> dict[int, list[RawRecord]]:
        """A topic as a raw reader sees it."""
        return self.site.records(f"{self.app.name}.{kind}", committed)

    def batches(self) -> list[Batch]:
        """Every visible batch, by the published rule."""
        found = []
        for number, records in self.records("events").items():
            assembler = BatchAssembler(f"events/{number}")
            for raw in records:
                batch = assembler.feed(self.codec.decode_event(raw.key, raw.value), raw.offset)
                if batch is not None:
                    found.append(batch)
        return found

    def events(self, workflow: str | None = None) -> list[Event]:
        """Every event that readers see, or those of a workflow."""
        found = [record.event for batch in self.batches() for record in batch.records]
        return [event for event in found if workflow is None or event.workflow_id == workflow]

    def bodies(self, kind: type, workflow: str | None = None) -> list[Any]:
        """The visible events of one type."""
        return [event.body for event in self.events(workflow) if isinstance(event.body, kind)]

    def kinds(self, workflow: str) -> list[str]:
        """Names of a run's visible events, in order."""
        return [type(event.body).__name__ for event in self.events(workflow)]

    def wait_for(self, kind: type, workflow: str | None = None, count: int = 1) -> list[Any]:
        """Wait until the log shows so many events of a type."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = self.bodies(kind, workflow)
            if len(found) >= count:
                return found
            self.site.wait(0.02)
        raise AssertionError(f"no {count} {kind.__name__} of {workflow}: {self.bodies(kind, workflow)}")


def kill(engine: Engine) -> None:
    """End an engine as SIGKILL would, as far as one process can: no release, no report, its lanes never used again."""
    membership = engine.log.membership()
    membership.stop()
    for partition in list(engine.partitions.values()):
        loop = partition._loop
        assert loop is not None

        def dead(*_: object) -> None:
            raise SystemExit

        loop.cycle = loop.hand_over = dead  # type: ignore[method-assign, assignment]
        # One that lost its claim claims again after a while: a process that is gone does not.
        partition._claim = dead  # type: ignore[method-assign, assignment]
        partition.inbox.slot_is_free()
        assert partition.join(5.0)
    engine._shared.executor.stop(0.0)
    engine._stopping.set()
    engine._carrier._ending.set()
    engine._supervisor.stop()
    engine._guard.stop()
    engine.log.close()
