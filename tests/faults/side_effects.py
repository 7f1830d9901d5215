"""Side effects, counted outside: processes are killed or frozen while steps want an effect of a receiver, which counts.

`python -m tests.faults.side_effects --trials 300` plays every fault until each cell of the table has so many trials. It
goes on where an interrupted one ended (`--directory`), and brings its own broker unless `--bootstrap` names one. The
last line is one JSON object. A cell is a fault, the moment of it (before the request, after the receiver applied it,
after the tool returned) and what the step is: `retry+key` hands its idempotency key on, the others do not.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from orchestrator.client.kafka import KafkaTransport
from orchestrator.codec.records import Codec
from orchestrator.config import Settings
from orchestrator.core import commands as c, events as e
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.values import Payload
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.topics import init_topics
from tests.faults import effect_app

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
PATIENCE_S = 120.0
LEASE_S = 3
SLOTS = 1_024
PHASES = ("before", "applied", "returned")


class Policy(NamedTuple):
    """What a step says of a crash, and whether it hands its key on."""

    on_crash: str
    keyed: bool


POLICIES = {
    "retry+key": Policy("retry", True),
    "retry": Policy("retry", False),
    "fail": Policy("fail", False),
    "park": Policy("park", False),
}


class Fault(NamedTuple):
    """Whom it hits (the engine that runs local steps, or the worker of a queue), and whether it is frozen or killed.

    `point`: the victim kills itself at this fail point, once what is held goes on.
    """

    victim: str
    freeze: bool
    point: str = ""

    @property
    def kill_point(self) -> str:
        """The name of the fail point, "" without one."""
        return self.point.partition(":")[0]


FAULTS = {
    "engine killed": Fault("engine", False),
    "engine frozen": Fault("engine", True),
    "worker killed": Fault("worker", False),
    "worker frozen": Fault("worker", True),
    "worker killed with a result": Fault("worker", False, "K20:1:kill"),
}


class Trial(NamedTuple):
    """One run of one step, whose first attempt meets the fault."""

    name: str
    phase: str
    policy: str


class Receiver:
    """The receiver's process, and its receipts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        command = [sys.executable, "-m", "tests.faults.receiver", str(file)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def held(self) -> set[str]:
        """The trials whose attempts are held now."""
        return set(self._ask("/held"))

    def release(self) -> None:
        """Let them go on, if they can."""
        self._ask("/release", b"")

    def _ask(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, PATIENCE_S) as answer:
            return json.load(answer)

    def receipts(self) -> tuple[Counter[str], Counter[str]]:
        """How often the effect of each trial was (asked for, applied)."""
        found = [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]
        return Counter(one["trial"] for one in found), Counter(one["trial"] for one in found if one["applied"])

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


class Outcomes:
    """What the log says of the trials, read by the published rule."""

    def __init__(self, bootstrap: str, app: str, codec: Codec) -> None:
        self._codec = codec
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{app}.watching",
                                   "isolation.level": "read_committed", "enable.auto.commit": False})  # fmt: skip
        self._consumer.assign([TopicPartition(f"{app}.events", number, 0) for number in range(PARTITIONS)])
        self._batches = [BatchAssembler(f"{app}.events/{number}") for number in range(PARTITIONS)]
        self.ended: dict[str, str] = {}
        self.parked: dict[str, tuple[str, str]] = {}
        """Run and step of what a person has to decide."""

    def read(self) -> None:
        """What is new."""
        for message in self._consumer.consume(5_000, 0.1):
            assert message.error() is None, message.error()
            record = self._codec.decode_event(message.key(), message.value())
            batch = self._batches[message.partition()].feed(record, message.offset())
            for event in (one.event for one in (batch.records if batch is not None else ())):
                if isinstance(event.body, e.RunCompleted):
                    self.ended[event.workflow_id] = json.loads(event.body.result.data)
                elif isinstance(event.body, e.StepParked):
                    self.parked[event.workflow_id] = (event.run_id, event.body.step)
                else:
                    assert not isinstance(event.body, e.RunFailed | e.RunParked), event

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


class Campaign:
    """Cycles of one fault: start trials, hold their attempts, strike, wait for what becomes of them, count."""

    def __init__(self, bootstrap: str, directory: Path, fault: str, isolation: str = "thread") -> None:
        self.name, self.fault, self.isolation = fault, FAULTS[fault], isolation
        self.app = f"effects-{uuid.uuid4().hex[:8]}"
        self.codec = Codec()
        self._bootstrap = bootstrap
        self._directory = directory / self.app
        self._directory.mkdir(parents=True)
        self._grouped = fault == "engine frozen"
        init_topics(LogConfig(self.app, bootstrap), PARTITIONS, [effect_app.QUEUE])
        self.receiver = Receiver(self._directory / "receipts")
        self.outcomes = Outcomes(bootstrap, self.app, self.codec)
        self._transport = KafkaTransport(self.app, Settings(app_name=self.app, bootstrap=bootstrap))
        self._transport.open(lambda reply: None)
        self._unsent: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._judged: dict[str, int] = {}
        self._asked: set[str] = set()
        self._trials = 0
        self._engine = self._start("engine")
        self._worker = self._start("worker", self.fault.point) if self.fault.victim == "worker" else None

    # -- one cycle ---------------------------------------------------------------------------------------------------

    def cycle(self, each: int) -> dict[str, Counter[str]]:
        """A fault that hits `each` trials of every cell at once; what was counted, by cell."""
        if self.fault.point and self._trials:
            self._arm()
        trials = [self._begin(phase, policy) for phase in PHASES for policy in POLICIES for _ in range(each)]
        names = {trial.name for trial in trials}
        self._until(lambda: names <= self.receiver.held(), lambda: f"{len(names - self.receiver.held())} are not held")
        self.outcomes.read()
        hit = {name for name in names if name not in self.outcomes.ended and name not in self.outcomes.parked}
        self._strike(lambda: self._until(lambda: self._settled(trials), lambda: self._missing(trials)))
        asked, applied = self.receiver.receipts()
        found: dict[str, Counter[str]] = {}
        for trial in trials:
            self._judged[trial.name] = applied[trial.name]
            counts = found.setdefault(f"{trial.phase}/{trial.policy}", Counter())
            counts.update(self._verdict(trial, trial.name in hit, asked[trial.name], applied[trial.name]))
        self._decide()
        return found

    def _begin(self, phase: str, policy: str) -> Trial:
        self._trials += 1
        trial = Trial(f"t{self._trials}", phase, policy)
        on_crash, keyed = POLICIES[policy]
        queued = self.fault.victim == "worker"
        arguments = effect_app.trial.code.signature.bind((trial.name, phase, keyed, on_crash, queued), {})
        self._send(trial.name, c.StartWorkflow("trial", arguments))
        return trial

    def _strike(self, settle: Callable[[], None]) -> None:
        """The fault, and everything that follows until the victim is gone."""
        victim = self._worker or self._engine
        if self.fault.freeze:
            os.killpg(victim.pid, signal.SIGSTOP)
            self._replace()
            settle()
            # What it waited for is there when it thaws: it may go on before it hears that nobody waits for it.
            self.receiver.release()
            os.killpg(victim.pid, signal.SIGCONT)
            victim.send_signal(signal.SIGTERM)
            assert victim.wait(PATIENCE_S) == 0, self.said()
        elif self.fault.point:
            self.receiver.release()
            assert victim.wait(PATIENCE_S) == -signal.SIGKILL, self.said()
            self._replace()
            settle()
        else:
            # The process alone: its step processes are left to see for themselves that it is gone.
            victim.kill()
            victim.wait(PATIENCE_S)
            self._replace()
            settle()
            self.receiver.release()
        self._processes.remove(victim)

    def _arm(self) -> None:
        """A worker that meets its fail point takes the place of the one that settled the cycle before."""
        before = self._worker
        assert before is not None
        before.send_signal(signal.SIGTERM)
        assert before.wait(PATIENCE_S) == 0, self.said()
        self._processes.remove(before)
        self._worker = self._start("worker", self.fault.point)

    def _replace(self) -> None:
        if self._worker is not None:
            self._worker = self._start("worker")
        else:
            self._engine = self._start("engine")

    def _settled(self, trials: Iterable[Trial]) -> bool:
        self.outcomes.read()
        return not self._missing(trials)

    def _missing(self, trials: Iterable[Trial]) -> list[Trial]:
        known = self.outcomes.ended.keys() | self.outcomes.parked.keys()
        return [trial for trial in trials if trial.name not in known]

    def _verdict(self, trial: Trial, hit: bool, asked: int, applied: int) -> Counter[str]:
        """What one trial adds to its cell."""
        policy = POLICIES[trial.policy]
        least = 0 if trial.phase == "before" and policy.on_crash != "retry" else 1
        most = asked if trial.policy == "retry" else 1
        ended = self.outcomes.ended.get(trial.name, "parked")
        wrong = not least <= applied <= most or (policy.on_crash == "retry" and ended != "done")
        if not hit:
            return Counter(missed=1, wrong=int(wrong))
        return Counter({"trials": 1, "requests": asked, f"applied {applied}": 1, ended: 1, "wrong": int(wrong)})

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> int:
        """Wait for what people decided, and read all receipts again; how many trials changed after they were judged."""
        self._until(lambda: self._decided(), lambda: f"{self._asked - self.outcomes.ended.keys()} did not end")
        _, applied = self.receiver.receipts()
        assert not any(self._unsent), self._unsent
        return sum(applied[name] != judged for name, judged in self._judged.items())

    def _decide(self) -> None:
        """A person looks at what is parked."""
        for workflow, (run, step) in self.outcomes.parked.items():
            if workflow not in self._asked:
                self._asked.add(workflow)
                self._send(workflow, c.ResolveStep(run, step, "complete", Payload(data=b'"settled by hand"')))

    def _decided(self) -> bool:
        self.outcomes.read()
        return self.outcomes.ended.keys() >= self._asked

    def close(self) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
            process.wait(30)
        self._transport.close()
        self.outcomes.close()
        self.receiver.close()

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _send(self, workflow: str, body: c.TopicCommand) -> None:
        command = self.codec.encode_command(c.Command(uuid.uuid4().hex, workflow, body))
        key = workflow.encode()
        self._transport.send(partition_of(key, PARTITIONS), key, command, self._unsent.append)

    def _until(self, holds: Callable[[], bool], what: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"{what()}\n{self.said()}"
            time.sleep(0.02)

    def _start(self, kind: str, point: str = "") -> subprocess.Popen[bytes]:
        number = len(list(self._directory.glob("*.log")))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")} | {
            "PYTHONPATH": str(ROOT),
            "ORCHESTRATOR_APP": "tests.faults.effect_app:app",
            "ORCHESTRATOR_APP_NAME": self.app,
            "ORCHESTRATOR_BOOTSTRAP": self._bootstrap,
            # An engine that thaws beside its successor finds its own directory.
            "ORCHESTRATOR_STATE_DIR": str(self._directory / (f"state-{number}" if self._grouped else "state")),
            "ORCHESTRATOR_ISOLATION": self.isolation,
            "ORCHESTRATOR_STEP_SLOTS": str(SLOTS),
            "ORCHESTRATOR_GRACE_S": "3",
            "ORCHESTRATOR_LEASE_S": str(LEASE_S),
            "ORCHESTRATOR_QUEUES": effect_app.QUEUE,
            "EFFECTS_PORT": str(self.receiver.port),
            "ORCHESTRATOR_FAILPOINTS": point,
        }
        if not self._grouped:
            environ |= {"ORCHESTRATOR_MEMBERSHIP": "static", "ORCHESTRATOR_ASSIGNMENT": f"0-{PARTITIONS - 1}"}
        command = [sys.executable, "-m", "orchestrator.cli.main", kind, "run"]
        with open(self._directory / f"{number:04}-{kind}.log", "wb") as out:
            process = subprocess.Popen(command, env=environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        self._processes.append(process)
        return process

    def said(self) -> str:
        """The ends of what the newest processes said."""
        logs = sorted(self._directory.glob("*.log"))[-3:]
        return "\n".join(f"{log.name}: {log.read_text('utf-8', 'replace')[-1500:]}" for log in logs)


# -- the command -----------------------------------------------------------------------------------------------------


class Ledger:
    """What was counted so far, in a file: a campaign may be interrupted."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.cells: dict[str, Counter[str]] = {}
        self.faults: Counter[str] = Counter()
        if file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                self._add(**json.loads(line))

    def note(self, fault: str, cells: Mapping[str, Mapping[str, int]], late: int) -> None:
        """One campaign's cycles, after its last look at the receipts."""
        with open(self._file, "a", encoding="utf-8") as out:
            out.write(json.dumps({"fault": fault, "cells": cells, "late": late}) + "\n")
        self._add(fault, cells, late)

    def _add(self, fault: str, cells: Mapping[str, Mapping[str, int]], late: int) -> None:
        self.faults[fault] += 1
        for name, counts in cells.items():
            self.cells.setdefault(f"{fault}/{name}", Counter()).update(counts)
        if late:
            self.cells.setdefault(f"{fault}/late", Counter()).update({"wrong": late})

    def left(self, fault: str, wanted: int) -> int:
        """Trials that a cell of this fault still wants."""
        names = (f"{fault}/{phase}/{policy}" for phase in PHASES for policy in POLICIES)
        return max(wanted - self.cells.get(name, Counter())["trials"] for name in names)


def play(bootstrap: str, directory: Path, options: argparse.Namespace, ledger: Ledger) -> None:
    """Every fault in its turn, a few cycles a campaign, until each cell has its trials."""
    for fault in options.faults:
        while (left := ledger.left(fault, options.trials)) > 0:
            campaign = Campaign(bootstrap, directory, fault, options.isolation)
            try:
                for _ in range(options.cycles):
                    found = campaign.cycle(min(options.each, left))
                    left -= options.each
                    ledger.note(fault, found, 0)
                    missed = sum(counts["missed"] for counts in found.values())
                    said = f"{fault}: {ledger.faults[fault]} faults, {max(0, left)} trials a cell left"
                    print(f"{said}, {missed} were not hit", file=sys.stderr, flush=True)
                    if left <= 0:
                        break
                if late := campaign.finish():
                    ledger.note(fault, {}, late)
            finally:
                campaign.close()


def summary(ledger: Ledger) -> dict[str, Any]:
    """The table and its totals."""
    cells = {name: dict(sorted(counts.items())) for name, counts in sorted(ledger.cells.items())}
    total: Counter[str] = sum(ledger.cells.values(), Counter())
    twice = Counter[str]()
    for name, counts in ledger.cells.items():
        more = sum(count for what, count in counts.items() if what.startswith("applied ") and what > "applied 1")
        twice[name.rpartition("/")[2]] += more
    return {
        "faults": dict(ledger.faults),
        "trials": total["trials"],
        "missed": total["missed"],
        "applied_twice": {policy: twice[policy] for policy in POLICIES},
        "wrong": total["wrong"],
        "cells": cells,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300, help="of every cell")
    parser.add_argument("--each", type=int, default=10, help="trials of every cell that one fault hits")
    parser.add_argument("--cycles", type=int, default=10, help="faults of one application")
    parser.add_argument("--isolation", choices=["thread", "process"], default="thread", help="where steps run")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / "side-effects")
    parser.add_argument("--bootstrap", default="", help="play it on this broker")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    options.directory.mkdir(parents=True, exist_ok=True)
    began, ledger = time.monotonic(), Ledger(options.directory / "ledger.jsonl")
    if options.bootstrap:
        play(options.bootstrap, options.directory, options, ledger)
    else:
        with DevKafka.start(progress=lambda line: print(line, file=sys.stderr)) as kafka:
            play(kafka.bootstrap, options.directory, options, ledger)
    found = summary(ledger)
    print(json.dumps({**found, "isolation": options.isolation, "seconds": round(time.monotonic() - began, 1)}))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
