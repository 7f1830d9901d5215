"""A kill campaign: an engine process under a seeded load is killed again and again; then the oracle judges the log."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from orchestrator import config
from orchestrator.client.kafka import KafkaTransport
from orchestrator.codec.records import Codec
from orchestrator.core import commands as c, events as e
from orchestrator.core.apply.fold import Settings
from orchestrator.core.rows import META, POSITION_KEY
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.topics import init_topics
from orchestrator.store.partition_store import PartitionStore
from tests.engine.dumps import dumps
from tests.faults import kill_app
from tests.faults.hits import Run, runs_met
from tests.oracle.oracle import (
    Dumps,
    Evidence,
    Expected,
    LoadModel,
    Receipt,
    SentSignal,
    StatePosition,
    check,
    replies_of,
)
from tests.oracle.raw import READ_COMMITTED, READ_UNCOMMITTED, RawRecord, log_ends, open_transactions, read_raw
from tests.oracle.verdict import Verdict

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
FIRES_WITHIN_S = 40.0
FINISHES_WITHIN_S = 120.0
DRAINING = {"K14", "K24"}
ENDINGS = (e.RunCompleted, e.RunFailed, e.RunCancelled, e.RunTerminated)


class Kill(NamedTuple):
    """One death: at the `hit`-th time that `point` is reached; point "" after `hit` milliseconds.

    `DRAINING` are reached by draining. `isolation` is where steps run meanwhile; `empty` begins the life with no state
    on disk.
    """

    point: str
    hit: int
    isolation: str = "thread"
    empty: bool = False


@dataclass(frozen=True)
class Site:
    """Where a campaign plays: broker, application, directory, and how partitions come to the engine."""

    bootstrap: str
    app: str
    directory: Path
    membership: str = "static"
    group_protocol: str = "consumer"
    checkpoints: bool = False


@dataclass
class Found:
    """What a campaign did and saw. `met`: each death's point, and the runs that were at work then."""

    verdict: Verdict
    expected: int
    membership: str = ""
    fired: Counter[str] = field(default_factory=Counter)
    met: Sequence[tuple[str, set[Run]]] = ()
    receipts: int = 0
    resumed: int = 0
    open_transactions: Sequence[int] = ()


class Campaign:
    """Kills by plan, then lets everything finish and judges."""

    app = "tests.faults.kill_app:app"
    command = ("-m", "orchestrator.cli.main", "engine", "run")
    effects: Sequence[str] = kill_app.EFFECTS
    outside = True
    """Whether effects and answers are judged: of a log that lost its end they tell more than is there any more."""
    runs_a_life = 2
    patience_s = FINISHES_WITHIN_S

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.site = site
        self.rng = rng
        self.codec = Codec()
        self.expected: dict[str, Expected] = {}
        self.fired: Counter[str] = Counter()
        self.deaths: list[tuple[str, int]] = []
        self.resumed = 0
        self._unsent: list[str] = []
        """What became of each command, as the producer told: why it was not sent, mostly nothing."""
        self._given = 0
        self._retried: set[tuple[str, str, int]] = set()
        self._receipts = site.directory / "receipts"
        self._fire_log = site.directory / "fired"
        site.directory.mkdir(parents=True, exist_ok=True)
        init_topics(LogConfig(site.app, site.bootstrap), PARTITIONS)
        self._transport = KafkaTransport(site.app, config.Settings(app_name=site.app, bootstrap=site.bootstrap))
        self._transport.open(self.heard)

    def heard(self, reply: bytes) -> None:
        """What a caller is told; the log is judged, not this."""

    def run(self, kills: Sequence[Kill]) -> Found:
        """Die as planned, finish, judge."""
        try:
            for number, kill in enumerate(kills):
                self._life(number, kill)
            self._finish(len(kills))
        finally:
            self._transport.close()
        return self._judge()

    # -- the load ----------------------------------------------------------------------------------------------------

    def feed(self, count: int) -> None:
        """Start so many runs, and send each its signals: some at once, some before it waits, none lost."""
        for _ in range(count):
            workflow = f"w{len(self.expected)}"
            n, values = self.rng.randint(1, 4), (self.rng.randint(1, 99), self.rng.randint(1, 99))
            arguments = kill_app.load.code.signature.bind((workflow, n), {})
            self._send(workflow, c.StartWorkflow("load", arguments))
            signals = tuple(
                SentSignal(self._send(workflow, c.SignalWorkflow("go", Payload(data=str(value).encode()))))
                for value in values
            )
            status = "completed"
            self.expected[workflow] = Expected(kill_app.result_of(n, values), kill_app.steps_of(n), status, signals)
            self.expected[workflow + kill_app.CHILD] = Expected(kill_app.CHILD_RESULT, kill_app.CHILD_STEPS, status)

    def _send(self, workflow: str, body: c.TopicCommand) -> str:
        return self._send_as(uuid.UUID(int=self.rng.getrandbits(128)).hex, workflow, body)

    def _send_as(self, command_id: str, workflow: str, body: c.TopicCommand) -> str:
        command = c.Command(command_id, workflow, body, reply_to=self._transport.reply_to)
        key, value = workflow.encode(), self.codec.encode_command(command)
        self._given += 1
        self._transport.send(partition_of(key, PARTITIONS), key, value, self._unsent.append)
        return command_id

    # -- lives and deaths --------------------------------------------------------------------------------------------

    def _life(self, number: int, kill: Kill) -> None:
        if kill.empty:
            for path in sorted(self.site.directory.glob("state/**/*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        self.feed(self.runs_a_life)
        plan = f"{kill.point}:{kill.hit}:kill" if kill.point else ""
        engine = self._engine(number, plan, kill.isolation)
        try:
            if kill.point in DRAINING:
                self._drain(engine, number)
            if kill.point:
                self._until_fired(engine, kill)
            else:
                time.sleep(kill.hit / 1000)
                assert engine.poll() is None, self._said(number)
                os.kill(engine.pid, signal.SIGKILL)
                self.fired["random"] += 1
            assert engine.wait(30) == -signal.SIGKILL, self._said(number)
        finally:
            engine.kill()
            engine.wait(30)
        self.deaths.append((kill.point or "random", engine.pid))
        if kill.point:
            lines = self._fire_log.read_text(encoding="utf-8").splitlines()
            assert lines[-1] == f"{kill.point}:{kill.hit}:kill:{engine.pid}", (kill, lines[-1])
            self.fired[kill.point] += 1

    def _drain(self, engine: subprocess.Popen[bytes], number: int) -> None:
        """Ask the engine to hand over once it owns a partition."""
        deadline = time.monotonic() + FIRES_WITHIN_S
        while ": claim " not in self._said(number):
            assert engine.poll() is None, self._said(number)
            assert time.monotonic() < deadline, self._said(number)
            time.sleep(0.02)
        engine.send_signal(signal.SIGTERM)

    def _until_fired(self, engine: subprocess.Popen[bytes], kill: Kill) -> None:
        """Feed the engine until it has died of its fail point."""
        deadline = time.monotonic() + FIRES_WITHIN_S
        while True:
            try:
                engine.wait(1.0)
                return
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, f"{kill} did not fire"
                self.feed(1)

    def environ(self, state: str = "state") -> dict[str, str]:
        """What every process of the application is told."""
        return {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")} | {
            "PYTHONPATH": str(ROOT),
            "ORCHESTRATOR_APP": self.app,
            "ORCHESTRATOR_APP_NAME": self.site.app,
            "ORCHESTRATOR_BOOTSTRAP": self.site.bootstrap,
            "ORCHESTRATOR_STATE_DIR": str(self.site.directory / state),
        }

    def _engine(self, number: int, plan: str, isolation: str, state: str = "state") -> subprocess.Popen[bytes]:
        site = self.site
        environ = self.environ(state) | {
            "ORCHESTRATOR_MEMBERSHIP": site.membership,
            "ORCHESTRATOR_ISOLATION": isolation,
            "ORCHESTRATOR_GRACE_S": "3",
            "ORCHESTRATOR_FAILPOINTS": plan,
            "ORCHESTRATOR_FAILPOINT_LOG": str(self._fire_log),
            "KILLS_RECEIPTS": str(self._receipts),
        }
        if site.checkpoints or plan.startswith("K15:"):
            environ["ORCHESTRATOR_CHECKPOINT_URL"] = (site.directory / "checkpoints").as_uri()
            environ["ORCHESTRATOR_CHECKPOINT_EVERY_EVENTS"] = "20"
        if site.membership == "static":
            environ["ORCHESTRATOR_ASSIGNMENT"] = f"0-{PARTITIONS - 1}"
        else:
            environ["ORCHESTRATOR_GROUP_PROTOCOL"] = site.group_protocol
        command = [sys.executable, *self.command]
        with open(self._log_of(number), "wb") as out:
            return subprocess.Popen(
                command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def _log_of(self, number: int) -> Path:
        return self.site.directory / f"engine-{number}.log"

    def _said(self, number: int) -> str:
        return self._log_of(number).read_text(encoding="utf-8", errors="replace")[-3000:]

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self, number: int) -> None:
        """A last engine without faults: everything ends, and it ends cleanly."""
        engine = self._engine(number, "", "thread")
        try:
            self._until_works(engine, number)
            self._until_ended(engine, number)
            engine.send_signal(signal.SIGTERM)
            code = engine.wait(60)
            assert code == 0, f"exit code {code}\n{self._said(number)}"
        finally:
            engine.kill()
            engine.wait(30)

    def _until_works(self, engine: subprocess.Popen[bytes], number: int) -> None:
        """Wait until an engine hears signals: the lives before it may have left it nothing to do."""
        while b" works on " not in self._log_of(number).read_bytes():
            assert engine.poll() is None, self._said(number)
            time.sleep(0.05)

    def _until_ended(self, engine: subprocess.Popen[bytes], number: int) -> None:
        """Wait until every run has ended; a look at a long log costs time, and the next one comes later for it."""
        deadline = time.monotonic() + self.patience_s
        while True:
            began = time.monotonic()
            left = self._unfinished()
            if not left:
                return
            assert engine.poll() is None, self._said(number)
            # Without this a run whose start never reached the log would be waited for, and called stuck.
            assert not any(self._unsent), f"commands of the load were never sent: {set(filter(None, self._unsent))}"
            silent = self._given - len(self._unsent)
            assert began < deadline, (
                f"{len(left)} runs have not ended: {left[:5]}; of {silent} commands the producer told nothing\n"
                f"{self._said(number)}"
            )
            time.sleep(max(0.5, time.monotonic() - began))

    def _unfinished(self) -> list[str]:
        """Workflows without an end. Runs that two kills in their turn parked are resumed, as a person would."""
        ended: set[str] = set()
        parked: dict[tuple[str, str], int] = {}
        for raw in self._all(self._read("events", READ_COMMITTED)):
            event = self.codec.decode_event(raw.key, raw.value).event
            if isinstance(event.body, ENDINGS):
                ended.add(event.workflow_id)
            elif isinstance(event.body, e.RunParked):
                parked[event.workflow_id, event.run_id] = event.seq
            elif isinstance(event.body, e.RunResumed):
                parked.pop((event.workflow_id, event.run_id), None)
        for (workflow, run), seq in parked.items():
            if (workflow, run, seq) not in self._retried:
                self._retried.add((workflow, run, seq))
                self._send(workflow, c.RetryWorkflow(run))
                self.resumed += 1
        return sorted(self.expected.keys() - ended)

    def _read(self, topic: str, isolation: str) -> dict[int, list[RawRecord]]:
        return read_raw(self.site.bootstrap, f"{self.site.app}.{topic}", isolation)

    @staticmethod
    def _all(records: dict[int, list[RawRecord]]) -> list[RawRecord]:
        return [raw for part in records.values() for raw in part]

    def _judge(self) -> Found:
        assert not any(self._unsent), "commands of the load were never sent"
        replies = replies_of(self._all(self._read("replies", READ_COMMITTED)))
        acked = {reply.command_id for reply in map(self._reply, replies) if reply.outcome == "accepted"}
        receipts = [line.split() for line in self._receipts.read_text(encoding="utf-8").splitlines()]
        events, everything = self._read("events", READ_COMMITTED), self._read("events", READ_UNCOMMITTED)
        state, rows = self._state(events)
        verdict = check(
            events,
            everything,
            LoadModel(self.expected, acked),
            Evidence(
                self._read("commands", READ_COMMITTED),
                replies if self.outside else [],
                [Receipt(key, int(at_ms)) for key, at_ms in receipts if self.outside],
                state,
                ends=log_ends(self.site.bootstrap, f"{self.site.app}.events"),
                dumps=rows,
                effects=self.effects if self.outside else (),
            ),
        )
        still_open = open_transactions(self.site.bootstrap, f"{self.site.app}.events")
        met = runs_met(everything, self.codec, [pid for _, pid in self.deaths])
        return Found(
            verdict,
            len(self.expected),
            self.site.membership,
            self.fired,
            [(point, met[pid]) for point, pid in self.deaths],
            len(receipts),
            self.resumed,
            still_open,
        )

    def _reply(self, raw: RawRecord) -> Reply:
        reply = self.codec.decode(raw.value)
        assert isinstance(reply, Reply)
        return reply

    def _state(self, events: dict[int, list[RawRecord]]) -> tuple[dict[int, StatePosition], dict[int, Dumps]]:
        """What the last engine's directories claim, and their rows beside the fold of the log."""
        positions, rows = {}, {}
        for number in range(PARTITIONS):
            store = PartitionStore(self.site.directory / "state" / self.site.app / str(number), self.codec)
            position = store.get(META, POSITION_KEY)
            positions[number] = StatePosition(position.next_offset, position.footer_hash)
            rows[number] = dumps(store, self.codec, Settings(self.site.app), events[number])
            store.close()
        return positions, rows
