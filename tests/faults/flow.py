"""Flow control under fail-over: three engines killed at random never hold more than N slots, of a limit or of a key of
it, let no more begin than a rate allows, and leave nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.client.kafka import KafkaTransport
from orchestrator.codec.records import Codec
from orchestrator.config import Settings
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import LimitNeed
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.topics import init_topics
from tests.faults import flow_app
from tests.oracle.raw import read_raw

ROOT = Path(__file__).parents[2]
PARTITIONS = 6
ENGINES = 3
STALLED_AFTER_S = 90.0
"""Nothing came on the log for so long, though runs have not ended: longer than any of their timers."""
STARVED = "starved"
ENDINGS = (e.RunCompleted, e.RunFailed, e.RunCancelled, e.RunTerminated)
TENANTS = ("a", "b", "c")
LIMITS = {"calls": flow_app.N, "runs": flow_app.RUNS} | {f"tenants|{one}": flow_app.PER_TENANT for one in TENANTS}
"""How many at once, by limit and key."""
RATES = {f"rated|{one}": (flow_app.BEGINS, flow_app.WITHIN) for one in TENANTS} | {"spaced": (1, flow_app.EVERY)}
"""How many begins in any while, by limit and key."""


class Engines:
    """Three engine processes of one group; each life has a state of its own."""

    def __init__(self, bootstrap: str, app: str, directory: Path) -> None:
        self.bootstrap, self.app, self.directory = bootstrap, app, directory
        self.receipts = directory / "receipts"
        self.receipts.touch()
        self.living: list[subprocess.Popen[bytes]] = []
        self.killed: dict[int, int] = {}
        self._lives = 0

    def start(self) -> None:
        """One more."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")} | {
            "PYTHONPATH": str(ROOT),
            "ORCHESTRATOR_APP": "tests.faults.flow_app:app",
            "ORCHESTRATOR_APP_NAME": self.app,
            "ORCHESTRATOR_BOOTSTRAP": self.bootstrap,
            "ORCHESTRATOR_STATE_DIR": str(self.directory / f"state-{self._lives}"),
            "ORCHESTRATOR_ISOLATION": "thread",
            "ORCHESTRATOR_GROUP_PROTOCOL": "classic",
            "ORCHESTRATOR_GRACE_S": "3",
            "FLOW_RECEIPTS": str(self.receipts),
        }
        command = [sys.executable, "-m", "orchestrator.cli.main", "engine", "run"]
        with open(self.directory / f"engine-{self._lives}.log", "wb") as out:
            self.living.append(
                subprocess.Popen(
                    command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
                )
            )
        self._lives += 1

    def kill(self, rng: random.Random) -> None:
        """SIGKILL one of them."""
        engine = self.living.pop(rng.randrange(len(self.living)))
        assert engine.poll() is None, self.said()
        engine.send_signal(signal.SIGKILL)
        engine.wait(30)
        self.killed[engine.pid] = time.monotonic_ns()

    def said(self) -> str:
        """The ends of what the engines have said."""
        logs = sorted(self.directory.glob("engine-*.log"))[-ENGINES:]
        return "\n".join(f"{log.name}: {log.read_text('utf-8', 'replace')[-1500:]}" for log in logs)

    def end(self) -> None:
        """None is left."""
        for engine in self.living:
            engine.kill()
            engine.wait(30)


def bodies_of(events: Sequence[e.Event], *kinds: type) -> Iterator[tuple[e.Event, e.Body]]:
    """Events of these kinds."""
    return ((event, event.body) for event in events if isinstance(event.body, kinds))


def named(need: LimitNeed) -> str:
    """A limit and its key."""
    return f"{need.name}|{need.key}" if need.key else need.name


def granted_at(events: Sequence[e.Event]) -> dict[str, list[int]]:
    """When the home granted begins of each limit, by its partition's clock."""
    needs: dict[str, tuple[LimitNeed, ...]] = {}
    found: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event.body, e.SlotsAwaited | e.SlotsGranted):
            known = needs.setdefault(event.body.task.id, event.body.needs)
            for need in known if isinstance(event.body, e.SlotsGranted) else ():
                found.setdefault(named(need), []).append(event.recorded_at_ms)
    return found


def held(events: Sequence[e.Event]) -> tuple[Counter[str], Counter[str], set[str]]:
    """(the most that each limit held at once, what it holds and lets wait at the end, tasks ever granted).

    Counted from the records of the limits' home alone, in the log's order.
    """
    most: Counter[str] = Counter()
    now: Counter[str] = Counter()
    needs: dict[str, tuple[LimitNeed, ...]] = {}
    waiting: set[str] = set()
    granted: set[str] = set()
    for event in events:
        body = event.body
        if isinstance(body, e.SlotsAwaited):
            needs[body.task.id] = body.needs
            waiting.add(body.task.id)
        elif isinstance(body, e.SlotsGranted):
            assert body.task.id not in granted, f"{body.task.id} was granted twice"
            granted.add(body.task.id)
            waiting.discard(body.task.id)
            needs.setdefault(body.task.id, body.needs)
            for limit in map(named, needs[body.task.id]):
                now[limit] += limit in LIMITS
                most[limit] = max(most[limit], now[limit])
        elif isinstance(body, e.SlotsReleased):
            if body.task.id in waiting:
                waiting.discard(body.task.id)
            else:
                now.subtract(limit for limit in map(named, needs[body.task.id]) if limit in LIMITS)
    now.update({"waiting": len(waiting)})
    return most, now, granted


def most_at_work(engines: Engines, without: set[str]) -> Counter[str]:
    """The most attempts of each limit carried out at once, by what they wrote down. An attempt ends with its engine.

    Attempts of terminated runs are left out: they are told to end when their slot is free already.
    """
    open_: dict[tuple[str, ...], int] = {}
    spans: list[tuple[str, int, int]] = []
    for line in engines.receipts.read_text("utf-8").splitlines():
        what, *task, at = line.split()
        if task[1] in without:
            continue
        if what == "begin":
            open_[tuple(task)] = int(at)
        else:
            spans.append((task[0], open_.pop(tuple(task)), int(at)))
    spans += [(limit, began, engines.killed.get(int(pid), began)) for (limit, *_, pid), began in open_.items()]
    ends = [end for name, began, ended in spans for end in ((began, 1, name), (ended, -1, name))]
    most: Counter[str] = Counter()
    now: Counter[str] = Counter()
    for _, change, limit in sorted(ends):
        now[limit] += change
        most[limit] = max(most[limit], now[limit])
    return most


class Load:
    """Runs of random sizes, of random tenants, some of them terminated; and what came of them, as the log has it."""

    def __init__(self, bootstrap: str, app: str, rng: random.Random) -> None:
        self.expected: dict[str, int] = {}
        self.unsent: list[str] = []
        self._bootstrap, self._app, self._rng, self._codec = bootstrap, app, rng, Codec()
        self.transport = KafkaTransport(app, Settings(app_name=app, bootstrap=bootstrap))
        self.transport.open(lambda reply: None)

    def send(self, workflow: str, body: c.TopicCommand) -> None:
        """A command."""
        command = c.Command(uuid.UUID(int=self._rng.getrandbits(128)).hex, workflow, body)
        key = workflow.encode()
        value = self._codec.encode_command(command)
        self.transport.send(partition_of(key, PARTITIONS), key, value, self.unsent.append)

    def start(self, workflow: str, code: Any, *arguments: Any) -> None:
        """A run."""
        self.send(workflow, c.StartWorkflow(code.code.workflow_type, code.code.signature.bind(arguments, {})))

    def feed(self, count: int) -> None:
        """More runs."""
        for _ in range(count):
            workflow, steps = f"w{len(self.expected)}", self._rng.randint(1, 40)
            self.expected[workflow] = steps
            self.start(workflow, flow_app.load, steps, self._rng.choice(TENANTS))
            if self._rng.random() < 0.2:
                self.send(f"w{self._rng.randrange(len(self.expected))}", c.TerminateWorkflow())

    def events(self) -> list[e.Event]:
        """Every event, by partition."""
        found = read_raw(self._bootstrap, f"{self._app}.events").values()
        return [self._codec.decode_event(raw.key, raw.value).event for part in found for raw in part]

    def ended(self, engines: Engines) -> list[e.Event]:
        """Wait until every run has ended and nothing is held; the events."""
        deadline, seen = 0.0, -1
        while True:
            found = self.events()
            if len(found) > seen:
                deadline, seen = time.monotonic() + STALLED_AFTER_S, len(found)
            ended = {event.workflow_id for event, _ in bodies_of(found, *ENDINGS)}
            left, slots = self.expected.keys() - ended, held(found)[1]
            parked = [body for _, body in bodies_of(found, e.RunParked)]
            assert not parked, parked
            if not left and STARVED not in ended:
                self.send(STARVED, c.TerminateWorkflow())
            elif not left and sum(slots.values()) == 0:
                return found
            assert time.monotonic() < deadline, f"{len(left)} runs stand still, held: {slots}\n{engines.said()}"
            time.sleep(0.5)


class Played(NamedTuple):
    """What was seen, and nothing of it wrong."""

    kills: int
    runs: int
    steps: int


def play(bootstrap: str, directory: Path, rng: random.Random, kills: int) -> Played:
    """Three engines, as many kills at random moments; then everything ends, and the log is counted."""
    app = f"flow-{uuid.uuid4().hex[:6]}"
    init_topics(LogConfig(app, bootstrap), PARTITIONS)
    engines, load = Engines(bootstrap, app, directory), Load(bootstrap, app, rng)
    try:
        for _ in range(ENGINES):
            engines.start()
        # All but a few of its steps wait for an hour: if they held a slot, everybody else would, too.
        load.start(STARVED, flow_app.starved, flow_app.SCARCE + flow_app.N)
        for _ in range(kills):
            load.feed(8)
            time.sleep(rng.uniform(1.0, 6.0))
            engines.kill(rng)
            engines.start()
        load.feed(4)
        found = load.ended(engines)
    finally:
        engines.end()
        load.transport.close()
    assert not any(load.unsent)
    terminated = {event.run_id for event, _ in bodies_of(found, e.RunTerminated)}
    judge_slots(found, engines, terminated)
    judge_rates(granted_at(found))
    results = {event.workflow_id: body.result.data for event, body in bodies_of(found, e.RunCompleted)}
    assert results == {one: str(sum(range(load.expected[one])) + 1).encode() for one in results}
    assert len(results) + len(terminated) == len(load.expected) + 1, "and the starved one"
    return Played(kills, len(load.expected) + 1, sum(1 for _ in bodies_of(found, e.StepCompleted)))


def judge_slots(found: Sequence[e.Event], engines: Engines, terminated: set[str]) -> None:
    """Every limit was reached, none was exceeded, nothing is held; by the log, and by what was carried out."""
    most, now, granted = held(found)
    print(f"most held {dict(most)}, {len(granted)} grants, {len(terminated)} runs terminated")
    assert {name: most[name] for name in LIMITS} == LIMITS
    assert not any(now.values()), now
    for event, body in bodies_of(found, e.StepCompleted):
        assert f"{event.run_id}/{body.step}/{body.attempt}" in granted
    at_work = most_at_work(engines, terminated)
    print(f"most at work {dict(at_work)}")
    assert all(at_work[limit] <= most for limit, most in LIMITS.items()), at_work


def judge_rates(begun: dict[str, list[int]]) -> None:
    """No more began in any while than the rates allow, whoever granted it."""
    print(f"begins { ({limit: len(at) for limit, at in begun.items()}) }")
    for limit, (count, within) in RATES.items():
        spans = [later - earlier for earlier, later in zip(begun[limit], begun[limit][count:], strict=False)]
        assert all(span >= within.total_seconds() * 1000 for span in spans), f"{limit}: {min(spans)} ms, {count}"
    assert len(begun["scarce"]) == flow_app.SCARCE
