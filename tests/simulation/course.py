"""The course of one seed: who goes on, what is delivered, what breaks, until faults end and everything is quiet."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from orchestrator import failpoints
from orchestrator.codec.records import Codec
from orchestrator.core.invariants import CLOSED
from orchestrator.core.rows import RUNS, RunRow
from orchestrator.engine import ownership, partition as engine_partition
from orchestrator.engine.loop import PartitionLoop
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import Partition, State
from orchestrator.log.ports import Out
from orchestrator.testing.memory_cluster import ABORTED
from orchestrator.testing.memory_log import MemoryGroup, create_topics
from tests.oracle.oracle import Receipt
from tests.property.folding import States
from tests.simulation import load
from tests.simulation.clients import Post, Workers
from tests.simulation.cluster import FaultyCluster
from tests.simulation.host import START_MS, DiskStore, Host
from tests.simulation.scheduling import Died, Stage

CODEC = Codec()
FAULTY_MOVES = 500
PATIENCE = 4_000
NEVER_MS = 10**15

VERDICTS = {
    "init": ("unknown",),
    "produce": ("refused", "unknown"),
    "commit": ("lost", "unknown", "late", "twice", "twice", "void"),
    "topics": ("away",),
    "store": ("full",),
}
"""What goes wrong with a call to the cluster or the disk, each of them a fault."""


POINTS = (
    *(
        "K0",
        "K21",
        "K22",
        "K16",
        "K1",
        "decided",
        "K2",
        "K3",
        "K6",
        "K8",
        "K7",
        "gate",
        "K10",
        "K9",
        "K11",
        "K12",
        "K13",
        "K23",
    ),
    *("K24", "K25", "K17", "K18", "K19", "careful", "topics", "wait", "send"),
)
"""Where a process may die: the engine's fail points, and its calls of the world around it."""


class Wrong(AssertionError):
    """Something that must not be: what, how many writes are lost or doubled by it, and in which course."""

    def __init__(self, message: str, lost: int = 0, duplicated: int = 0, course: Course | None = None) -> None:
        super().__init__(message)
        self.lost = lost
        self.duplicated = duplicated
        self.course = course


class Weather:
    """How much goes wrong in the course of a seed: most of them have one or two things that are bad."""

    def __init__(self, rng: random.Random) -> None:
        self.death = rng.choice((0.0, 0.01, 0.03, 0.06))
        self.freeze = rng.choice((0.0, 0.0, 0.01, 0.04))
        self.switch = rng.choice((0.0, 0.03, 0.1, 0.3))
        self.calls = rng.choice((0.0, 0.03, 0.12))
        self.slow = rng.choice((0.0, 0.1, 0.5))
        self.jumps = rng.choice((0.0, 0.0, 0.02, 0.08))
        self.moves = rng.choice((0.0, 0.01, 0.04))
        self.hosts = rng.choice((1, 1, 2, 2, 3))
        self.most = rng.choice((1, 2, 3, 6))
        """So many faults, then they end."""
        self.focus = rng.choice(POINTS) if rng.random() < 0.5 else ""
        """Where death comes with the chance `focused`."""
        self.focused = 0.25

    def clear(self) -> None:
        """Faults end; the order of things stays as odd as it was."""
        self.focus = ""
        self.death = self.freeze = self.calls = self.jumps = self.moves = 0.0


class Course:
    """What happens in a seed (`World` of its hosts)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.weather = Weather(rng)
        self.codec = CODEC
        self.stage = Stage()
        self.now = 0.0
        self.told: Counter[str] = Counter()
        """How often each fault struck, and each point was reached."""
        self.story: list[str] = []
        self.faults = 0
        self.farewell = rng.random() < 0.15
        """Whether in the end everybody leaves in good order."""
        self.moves = 0
        self.partitions = rng.choice((1, 1, 2))
        self.cluster = FaultyCluster(
            self, lambda: f"{rng.getrandbits(64):016x}", lambda: START_MS + int(self.now * 1000)
        )
        create_topics(self.cluster, load.APP, self.partitions, [load.QUEUE])
        self.group = MemoryGroup(self.partitions)
        self.seen: dict[int, States] = {number: {} for number in range(self.partitions)}
        self.receipts: list[tuple[Receipt, bool]] = []
        self.begun: list[str] = []
        self.work = load.make_work(rng)
        self.far = any(kind == "far" for one in self.work for kind, *_ in one.plan)
        self.post = Post(self.cluster, self.codec, self.work, rng)
        self.workers = Workers(self.cluster, self.post)
        self.hosts: list[Host] = []
        self.disks: list[dict[int, DiskStore]] = []
        self.adrift: list[Out] = []
        """Records of dead producers that are still on their way."""
        self._read: dict[int, int] = {}
        self._caused: set[str] = set()
        self.started = 0
        self.acting: Host | None = None
        """Whose membership callback runs, if one does."""
        self.options = EngineOptions(
            batch_ms=10**9,
            batch_bytes=rng.choice((1, 512 * 1024, 512 * 1024)),
            cached_runs=rng.choice((0, 5_000)),
            careful_attempts=PATIENCE,
            claims_back=rng.random() < 0.8,
            start_within_ms=1_000,
            hand_over_ms=1_500,
            retention_ms=NEVER_MS,
            skew_ms=rng.choice((0, 5_000)),
            instance="",
        )

    # -- what its world asks of it ------------------------------------------------------------------------------------

    def prompt(self) -> bool:
        """Whether what is there comes at once."""
        return self.rng.random() >= self.weather.slow

    def verdict(self, verb: str) -> str:
        """See `Fate`."""
        rng, weather = self.rng, self.weather
        if verb == "send":
            return "queued" if rng.random() < weather.slow else ""
        if verb == "slot":
            return "busy" if rng.random() < weather.calls else ""
        if verb in ("ended", "healthy"):
            return verb if rng.random() < 0.5 else ""
        if verb == "topics" and self.stage.current is None:
            return ""
        if verb == "store" and rng.random() < 0.1:
            return "keep"
        if verb == "note":
            return "lost" if rng.random() < weather.calls else ""
        rare = 0.2 if verb in ("topics", "store", "init") else 1.0
        if self.faults >= self.weather.most or rng.random() >= weather.calls * rare:
            return ""
        chosen = rng.choice(VERDICTS[verb])
        self._struck(f"{verb} {chosen}")
        return chosen

    def _struck(self, what: str) -> None:
        self.faults += 1
        self._note(what)

    def _note(self, what: str) -> None:
        actor = self.stage.current
        host = actor.owner if actor is not None else self.acting
        self.told[what] += 1
        self.story.append(f"{self.now:.3f} {what}" + (f", host {host.number}" if isinstance(host, Host) else ""))

    def at(self, point: str) -> None:
        """A place between two verbs, in the thread of an engine's partition or membership."""
        actor = self.stage.current
        host = actor.owner if actor is not None else self.acting
        if host is None:
            return
        assert isinstance(host, Host)
        if host.dead:
            raise Died
        self.told[point] += 1
        rng, weather = self.rng, self.weather
        chance = rng.random()
        if chance < (weather.focused if point == weather.focus else weather.death) and self.faults < self.weather.most:
            self._struck(f"died at {point}")
            host.dead = True
            raise Died
        if actor is None:
            return
        if self.cluster.late and chance > 0.7:
            self._arrive()
        if chance < weather.death + weather.freeze and self.faults < self.weather.most:
            self._struck("freeze")
            host.frozen = True
            self.stage.wait(None, 0.0)
        elif chance < weather.death + weather.freeze + weather.switch:
            self.stage.wait(None, 0.0)

    def _arrive(self) -> None:
        state = ABORTED if self.rng.random() < 0.3 and self.weather.calls else ""
        if self.cluster.arrive(self.rng.randrange(len(self.cluster.late)), state):
            self._note("void end" if state else "early end")

    # -- the course --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until everything is quiet. Raises Wrong when that does not come."""
        with determined(self):
            for self.moves in range(PATIENCE):
                if self.moves == FAULTY_MOVES or self.faults >= self.weather.most:
                    self._clear()
                self.now += self.rng.choice((0.0, 0.0, 0.0, 0.001, 0.004))
                if not self._move():
                    if self._over():
                        return
                    self._pass_time()
        raise Wrong(f"not quiet after {PATIENCE} moves: {self.where_it_stands()}")

    def _move(self) -> bool:
        """One thing happens; False if there is nothing but time."""
        for reply in self.post.hear():
            if not self._visible(reply.command_id):
                raise Wrong(f"command {reply.command_id} has its answer before its outcome is on the log")
            self.workers.hear(reply)
        self.workers.poll()
        rng, weather = self.rng, self.weather
        moves: list[tuple[Callable[..., None], Any]] = []
        for actor in self.stage.actors:
            host = actor.owner
            assert isinstance(host, Host)
            if not host.frozen and actor.ready(self.now):
                moves += [(self._resume, actor)] * 3
        for host in self.hosts:
            self._host_moves(host, moves)
        self._outer_moves(moves)
        if weather.moves and rng.random() < weather.moves and self.faults < self.weather.most:
            rng.choice((self._usher, self._blackout, self._expire))()
            return True
        if rng.random() < weather.jumps:
            self._jump()
            return True
        if not moves:
            return False
        move, of = rng.choice(moves)
        move(of)
        return True

    def _host_moves(self, host: Host, moves: list[tuple[Callable[..., None], Any]]) -> None:
        if host.frozen:
            moves += [(self._thaw, host)]
            if not host.ports.member.expelled and not host.ports.member._stopped:
                moves += [(self._expel, host)]
            return
        if host.dead:
            moves += [(self._bury, host)]
            return
        for feed in host.ports.feeds:
            moves += [(self._deliver, (feed, number)) for number in feed.waits()]
        if host.ports.producer.queue or host.ports.producer.acks:
            moves += [(self._flush, host)]
        if host.ports.member.due() and not host.leaving:
            moves += [(self._membership, host)]
        moves += [(self._end, (host, token)) for token in list(host.executor.calls)[:4]]
        if host.leaving and not host.ports.member._stopped and host.released():
            moves += [(self._withdraw, host)]
        if host.gone():
            moves += [(self._retire, host)]

    def _outer_moves(self, moves: list[tuple[Callable[..., None], Any]]) -> None:
        moves += [(self.post.next, queue) for queue in self.post.queues]
        moves += [(self._take, number) for number in range(len(self.workers.offers))]
        moves += [(self._work, number) for number in range(len(self.workers.granted))]
        if self.workers.away and self.workers.away[0][0] < self.now:
            moves += [(self._late_work, None)]
        if self.cluster.late:
            moves += [(self._late_end, None)]
        if self.adrift:
            moves += [(self._drift, None)]
        if sum(not host.dead and not host.leaving for host in self.hosts) < self.weather.hosts:
            moves += [(self._spawn, None)]

    # -- moves -------------------------------------------------------------------------------------------------------

    def _resume(self, actor: Any) -> None:
        self.stage.resume(actor)
        if actor.owner.dead:
            self._kill(actor.owner)

    def _deliver(self, of: Any) -> None:
        feed, number = of
        feed.pump(number, self.rng.choice((1, 2, 1_000)))

    def _flush(self, host: Host) -> None:
        if self.rng.random() < 0.5:
            host.ports.producer.flush()
        else:
            host.ports.producer.acknowledge()

    def _membership(self, host: Host) -> None:
        self.acting = host
        try:
            host.ports.member.step()
        except Died:
            self._kill(host)
        finally:
            self.acting = None

    def _end(self, of: Any) -> None:
        host, token = of
        host.executor.end(token, self.rng.random() < 0.7)

    def _take(self, number: int) -> None:
        self.workers.take(number, self.rng.random() < 0.3)

    def _work(self, number: int) -> None:
        if self.weather.calls and self.rng.random() < 0.3:
            self._note("worker vanished")
            self.workers.vanish(number, self.now)
            return
        self.workers.end(number)

    def _late_work(self, _: object) -> None:
        if self.rng.random() < 0.7:
            self.workers.come_back()
        else:
            self.workers.away.pop(0)

    def _late_end(self, _: object) -> None:
        self._arrive()

    def _drift(self, _: object) -> None:
        out = self.adrift.pop(0)
        if self.rng.random() < 0.5:
            self.cluster.send(out)

    def _spawn(self, _: object) -> None:
        """A process starts, on a disk that another one left or on a new one."""
        self.started += 1
        disk = self.disks.pop(0) if self.disks and self.rng.random() < 0.7 else {}
        options = self.options_for(f"host-{self.started}")
        self.hosts.append(Host(self, self.started, options, disk))

    def options_for(self, instance: str) -> EngineOptions:
        """One options object a host."""
        values = {**self.options.__dict__, "instance": instance}
        return EngineOptions(**values)

    def _kill(self, host: Host) -> None:
        """The process is dead: its disk and what it had sent are left."""
        host.frozen = False
        host.die()
        producer = host.ports.producer
        self.adrift += [out for out, _ in producer.queue]
        rng = self.rng
        if rng.random() < 0.2 and self.weather.death:
            self._note("disk lost")
            host.disk.clear()
        for store in host.disk.values():
            if rng.random() < 0.3 and self.weather.death:
                self._note("disk fell back")
                store.fall_back()
        self.disks.append(host.disk)

    def _bury(self, host: Host) -> None:
        """The group notices that a member is dead."""
        host.ports.member.expel()
        self.hosts.remove(host)

    def _withdraw(self, host: Host) -> None:
        host.ports.member.stop()

    def _retire(self, host: Host) -> None:
        host.dead = True
        self.stage.end(host)
        self.hosts.remove(host)
        self.disks.append(host.disk)

    def _thaw(self, host: Host) -> None:
        host.frozen = False

    def _expel(self, host: Host) -> None:
        self._note("expelled")
        host.ports.member.expel()

    def _usher(self) -> None:
        """Somebody leaves in good order, or one more comes."""
        self._struck("rescale")
        staying = [host for host in self.hosts if not host.dead and not host.leaving and not host.frozen]
        if staying and self.rng.random() < 0.6:
            self.rng.choice(staying).leave()
        else:
            self._spawn(None)

    def _blackout(self) -> None:
        """A process is killed between two moves."""
        alive = [host for host in self.hosts if not host.dead]
        if alive:
            self._struck("killed")
            host = self.rng.choice(alive)
            host.dead = True
            self._kill(host)

    def _expire(self) -> None:
        """The coordinator ends a transaction that was open for too long."""
        if lanes := self.cluster.open_lanes():
            self._struck("transaction timed out")
            self.cluster.expire(self.rng.choice(lanes))

    def _jump(self) -> None:
        """Time passes at once, or a machine's wall clock jumps; another sender repeats itself."""
        rng = self.rng
        kind = rng.choice(("time", "clock", "again"))
        if kind == "time":
            self.now += rng.choice((0.05, 0.6, 2.5, 6.0))
        elif kind == "clock" and self.hosts:
            # Against a clock that is ahead of the brokers' no lease can be judged: see the oracle's check_silence.
            ahead = (-60_000, -700) if self.far else (-60_000, -700, 700, 60_000)
            rng.choice(self.hosts).clock.ahead_ms += rng.choice(ahead)
        elif self.post.sent():
            self.post.again(rng.choice(self.post.sent()))

    def _pass_time(self) -> None:
        """To the next moment that somebody waits for."""
        moments = [actor.deadline for actor in self.stage.actors if not actor.done]
        if not moments:
            raise Wrong(f"nothing is left to happen: {self.where_it_stands()}")
        self.now = max(self.now, min(moments))

    # -- the end -----------------------------------------------------------------------------------------------------

    def owners(self) -> dict[int, PartitionLoop]:
        """The loops that own partitions now."""
        return {
            partition.number: partition._loop
            for host in self.hosts
            for partition in host.partitions
            if partition.state is State.OWNED and partition._loop is not None
        }

    def _over(self) -> bool:
        """Whether all is quiet and, if so it is to be, everybody has left."""
        if not self.hosts and not self.weather.hosts:
            return True
        if not self._quiet():
            return False
        if self.farewell:
            self.weather.hosts = 0
            for host in self.hosts:
                if not host.leaving:
                    host.leave()
        return not self.farewell

    def _clear(self) -> None:
        """Faults end, and clocks are set right."""
        self.weather.clear()
        for host in self.hosts:
            host.clock.ahead_ms = 0

    def _visible(self, command_id: str) -> bool:
        """Whether some event that readers see was caused by a command."""
        for number, log in enumerate(self.cluster.topics[f"{load.APP}.events"].partitions):
            wires, self._read[number] = log.read(self._read.get(number, 0), 1 << 30)
            for wire in wires:
                self._caused.add(self.codec.decode_event(wire.key, wire.value).event.cause.command_id)
        return command_id in self._caused

    def _quiet(self) -> bool:
        """Whether all was done that was asked for."""
        owners = self.owners()
        if len(owners) < self.partitions or self.post.unanswered:
            return False
        return not any(self._open(loop) for loop in owners.values())

    def _open(self, loop: PartitionLoop) -> list[str]:
        found = [
            f"{key[0]} {row.status} {row.parked_message}"
            for key, row in loop.ground.overlay.scan(RUNS, ())
            if isinstance(row, RunRow) and row.status not in CLOSED
        ]
        unsaid = [] if loop.outbox.empty else ["outbox"]
        return found + unsaid + ([] if loop._unproven is None else ["unproven"])

    def where_it_stands(self) -> str:
        """For messages."""
        parts = [f"unanswered {self.post.unanswered}"]
        for host in self.hosts:
            flags = [flag for flag in ("dead", "frozen", "leaving") if getattr(host, flag)]
            parts.append(f"host {host.number} {flags} {sorted(host.executor.calls)}")
            parts += [f"  {_told(partition)}" for partition in host.partitions]
        parts += [f"partition {number}: open {self._open(loop)}" for number, loop in self.owners().items()]
        return "\n".join(parts)

    def close(self) -> None:
        """End what still runs."""
        for host in self.hosts:
            host.die()


def _told(partition: Partition) -> str:
    return f"partition {partition.number} {partition.state} {partition.problem}"


@contextmanager
def determined(course: Course) -> Iterator[None]:
    """Everything that a process takes from its machine comes from the seed."""
    rng = course.rng
    with (
        mock.patch.object(
            ownership, "secrets", SimpleNamespace(token_hex=lambda n: f"{rng.getrandbits(8 * n):0{2 * n}x}")
        ),
        mock.patch.object(ownership, "socket", SimpleNamespace(gethostname=lambda: "host")),
        mock.patch.object(ownership, "os", SimpleNamespace(getpid=lambda: 1)),
        mock.patch.object(engine_partition, "random", rng),
    ):
        failpoints.watch(course.at)
        try:
            yield
        finally:
            failpoints.watch(None)
