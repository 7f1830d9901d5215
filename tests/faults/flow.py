"""Flow control under fail-over: engines killed at random never hold more than N slots, and leave none behind."""

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
from typing import NamedTuple

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
ENDS_WITHIN_S = 150.0
ENDINGS = (e.RunCompleted, e.RunFailed, e.RunCancelled, e.RunTerminated)
LIMITS = {"calls": flow_app.N, "runs": flow_app.RUNS}


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
            for need in needs[body.task.id]:
                now[need.name] += 1
                most[need.name] = max(most[need.name], now[need.name])
        elif isinstance(body, e.SlotsReleased):
            if body.task.id in waiting:
                waiting.discard(body.task.id)
            else:
                now.subtract(need.name for need in needs[body.task.id])
    now.update({"waiting": len(waiting)})
    return most, now, granted


def most_at_work(engines: Engines, without: set[str]) -> int:
    """The most attempts that were carried out at once, by what they wrote down. An attempt ends with its engine.

    Attempts of terminated runs are left out: they are told to end when their slot is free already.
    """
    spans: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    open_: dict[tuple[tuple[str, ...], int], int] = {}
    for line in engines.receipts.read_text("utf-8").splitlines():
        what, run, step, attempt, pid, at = line.split()
        if run in without:
            continue
        task = (run, step, attempt)
        if what == "begin":
            open_[task, int(pid)] = int(at)
        else:
            spans.setdefault(task, []).append((open_.pop((task, int(pid))), int(at)))
    for (task, pid), began in open_.items():
        spans.setdefault(task, []).append((began, engines.killed.get(pid, began)))
    ends = [end for found in spans.values() for span in found for end in ((span[0], 1), (span[1], -1))]
    most = count = 0
    for _, change in sorted(ends):
        count += change
        most = max(most, count)
    return most


class Played(NamedTuple):
    """What was seen, and nothing of it wrong."""

    kills: int
    runs: int
    steps: int


def play(bootstrap: str, directory: Path, rng: random.Random, kills: int) -> Played:
    """Three engines, as many kills at random moments; then everything ends, and the log is counted."""
    app = f"flow-{uuid.uuid4().hex[:6]}"
    init_topics(LogConfig(app, bootstrap), PARTITIONS)
    codec = Codec()
    engines = Engines(bootstrap, app, directory)
    transport = KafkaTransport(app, Settings(app_name=app, bootstrap=bootstrap))
    transport.open(lambda reply: None)
    unsent: list[str] = []
    expected: dict[str, int] = {}

    def send(workflow: str, body: c.TopicCommand) -> None:
        command = c.Command(uuid.UUID(int=rng.getrandbits(128)).hex, workflow, body)
        key = workflow.encode()
        transport.send(partition_of(key, PARTITIONS), key, codec.encode_command(command), unsent.append)

    def feed(count: int) -> None:
        for _ in range(count):
            workflow, steps = f"w{len(expected)}", rng.randint(1, 40)
            expected[workflow] = steps
            send(workflow, c.StartWorkflow("load", flow_app.load.code.signature.bind((steps,), {})))
            if rng.random() < 0.2:
                send(f"w{rng.randrange(len(expected))}", c.TerminateWorkflow())

    def events() -> list[e.Event]:
        found = read_raw(bootstrap, f"{app}.events").values()
        return [codec.decode_event(raw.key, raw.value).event for part in found for raw in part]

    try:
        for _ in range(ENGINES):
            engines.start()
        for _ in range(kills):
            feed(8)
            time.sleep(rng.uniform(1.0, 8.0))
            engines.kill(rng)
            engines.start()
        feed(4)
        deadline = time.monotonic() + ENDS_WITHIN_S
        while True:
            found = events()
            ended = {event.workflow_id for event, _ in bodies_of(found, *ENDINGS)}
            parked = [body for _, body in bodies_of(found, e.RunParked)]
            assert not parked, parked
            if not expected.keys() - ended and sum(held(found)[1].values()) == 0:
                break
            left = f"{len(expected.keys() - ended)} runs have not ended, held: {held(found)[1]}"
            assert time.monotonic() < deadline, f"{left}\n{engines.said()}"
            time.sleep(0.5)
    finally:
        engines.end()
        transport.close()
    assert not any(unsent)
    most, now, granted = held(found)
    terminated = {event.run_id for event, _ in bodies_of(found, e.RunTerminated)}
    print(f"most held {dict(most)}, {len(granted)} grants, {len(expected)} runs, {len(terminated)} terminated")
    assert {name: most[name] for name in LIMITS} == LIMITS
    assert not any(now.values()), now
    for event, body in bodies_of(found, e.StepCompleted):
        assert f"{event.run_id}/{body.step}/{body.attempt}" in granted
    results = {event.workflow_id: body.result.data for event, body in bodies_of(found, e.RunCompleted)}
    assert results == {
        workflow: str(sum(range(steps)) + 1).encode() for workflow, steps in expected.items() if workflow in results
    }
    assert len(results) + len(terminated) == len(expected)
    assert most_at_work(engines, terminated) <= flow_app.N
    return Played(kills, len(expected), sum(1 for _ in bodies_of(found, e.StepCompleted)))
