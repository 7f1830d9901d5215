"""A poison campaign: mutated records among good runs, then every single record is accounted for.

`python -m tests.faults.poison --records 100000 --seed 7` plays it on the log in memory, `--bootstrap HOST:PORT` on a
real broker. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Producer

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core import commands as c, events as e
from orchestrator.core.apply.fold import Settings
from orchestrator.core.replay import BatchAssembler
from orchestrator.core.values import Payload
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.run import Engine
from orchestrator.errors import UndecodableRecord
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Out
from orchestrator.projections.folding import StateFold
from orchestrator.store.memory_store import MemoryStore
from orchestrator.store.rows import state_hash
from orchestrator.testing.clock import SkippingClock
from tests.engine.rig import KafkaSite, MemorySite, Rig
from tests.faults.mutations import TARGETS, Mutator, Poison
from tests.faults.poison_app import app, doubles

PARTITIONS = 2
SLICE = 250
"""Records between two good runs."""
PATIENCE_S = 60.0
LATER_S = 3_600.0


@dataclass
class Report:
    """What was sent, what became of it, and what must be nothing."""

    seed: int
    records: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    good_runs: int = 0
    slowest_good_run_s: float = 0.0
    claims: int = 0
    crashes: int = 0
    stalls: int = 0
    contained: list[str] = field(default_factory=list)
    """Commands whose decision met a defect of ours: dead-lettered, the partition went on."""
    unaccounted: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Nothing crashed, stalled or vanished, and no defect was met."""
        return not (self.crashes or self.stalls or self.contained or self.unaccounted)


class Campaign:
    """Poison for one engine. `run` sends, waits, restarts the engine with nothing, and accounts."""

    def __init__(self, seed: int, bootstrap: str = "") -> None:
        self.report = Report(seed)
        name = f"poison-{uuid.uuid4().hex[:8]}" if bootstrap else "poison"
        code = Orchestrator(name)
        code.registry = app.registry
        site = KafkaSite(name, bootstrap, PARTITIONS) if bootstrap else MemorySite(name, PARTITIONS)
        self._topic = f"{name}.commands"
        self._producer = Producer({"bootstrap.servers": bootstrap}) if bootstrap else None
        self.rig = Rig(code, site)
        self.mutator = Mutator(seed, site.reply_to)
        self.clock = SkippingClock()
        self._codec = Codec()

    def run(self, records: int) -> Report:
        """The whole campaign."""
        began = time.monotonic()
        engine = self.rig.engine(clock=self.clock)
        try:
            for start in range(0, records, SLICE):
                self._start_targets(start // SLICE)
                self._send(self.mutator.next() for _ in range(min(SLICE, records - start)))
                self._good_run(start // SLICE)
            self._settle(engine)
            # Whatever poison left a timer for is due now.
            self.clock.skip(LATER_S)
            self._good_run(records)
            self._settle(engine)
            self._crashed(engine)
            engine.stop(5.0)
            self._rebuild()
            self._account()
        finally:
            self.rig.close()
        self.report.seconds = round(time.monotonic() - began, 1)
        return self.report

    # -- sending -----------------------------------------------------------------------------------------------------

    def _start_targets(self, turn: int) -> None:
        """New runs for poison to meet, and one more of those that stand."""
        for number in (turn % TARGETS, (turn * 5 + 1) % TARGETS):
            body = c.StartWorkflow("target", Payload(data=b'{"x":1}'), conflict="terminate_existing")
            found = self.rig.answers(self.rig.send(f"t{number}", body), wait_s=PATIENCE_S)
            if not found:
                self.report.stalls += 1
            self.mutator.runs += [(f"t{number}", reply.run_id) for reply in found]
            for reply in self.rig.answers(self.rig.send(f"t{number}", c.QueryWorkflow("describe")), wait_s=PATIENCE_S):
                pending = json.loads(reply.result.data)["pending_steps"]
                self.mutator.steps += [(f"t{number}", reply.run_id, one["step"]) for one in pending]
        del self.mutator.runs[:-30]
        del self.mutator.steps[:-30]

    def _send(self, poison: Iterable[Poison]) -> None:
        for one in poison:
            self.report.records += 1
            self.report.kinds[one.kind] += 1
            place = partition_of(one.key, PARTITIONS) if one.key else self.mutator.rng.randrange(PARTITIONS)
            if self.mutator.rng.random() < 0.05:
                place = self.mutator.rng.randrange(PARTITIONS)
            if self._producer is not None:
                self._producer.produce(self._topic, one.value, one.key, place)
                self._producer.poll(0)
            else:
                out = Out(self._topic, place, one.key or b"", one.value or b"")
                assert self.rig.cluster.send(out) == ""
        if self._producer is not None:
            self._producer.flush(PATIENCE_S)

    def _good_run(self, number: int) -> None:
        """A run that must end well although poison was sent before it, in each partition."""
        for partition in range(PARTITIONS):
            names = (f"good-{number}-{n}" for n in range(100))
            name = next(name for name in names if partition_of(name.encode(), PARTITIONS) == partition)
            began = time.monotonic()
            self.rig.send(name, c.StartWorkflow("doubles", doubles.code.signature.bind((number,), {})))
            reply = self.rig.outcome(name, wait_s=PATIENCE_S)
            assert reply.result.data == b"%d" % (8 * number), reply
            self.report.slowest_good_run_s = round(max(self.report.slowest_good_run_s, time.monotonic() - began), 2)
            self.report.good_runs += 1

    def _settle(self, engine: Engine) -> None:
        """Until every record was decided. What never comes is a stall."""
        deadline = time.monotonic() + PATIENCE_S
        for number in range(PARTITIONS):
            while not self._decided(engine, number):
                if time.monotonic() > deadline:
                    self.report.stalls += 1
                    break
                time.sleep(0.01)

    @staticmethod
    def _decided(engine: Engine, number: int) -> bool:
        partition = engine.partitions.get(number)
        loop = partition._loop if partition is not None else None
        if loop is None:
            return False
        _, end = engine.log.inputs().bounds(number)
        return loop.intake.next_offset >= end and loop.idle_for() is not None

    def _crashed(self, engine: Engine) -> None:
        for partition in engine.partitions.values():
            if partition.state is not State.OWNED or partition.problem:
                self.report.crashes += 1

    def _rebuild(self) -> None:
        """State folded from the log alone equals what the engine had, poison and all."""
        options = EngineOptions()
        settings = Settings(self.rig.app.name, options.dedup_horizon_ms, options.retention_ms)
        for number, records in self.rig.records("events").items():
            fold, assembler = StateFold(MemoryStore(self._codec), settings), BatchAssembler(f"events/{number}")
            for raw in records:
                batch = assembler.feed(self._codec.decode_event(raw.key, raw.value), raw.offset)
                if batch is not None and batch.is_claim:
                    fold.claim(batch)
                elif batch is not None:
                    fold.batch(batch, raw.offset)
            if fold.hash() != state_hash(self.rig.stores[number]):
                self.report.unaccounted.append(f"partition {number}: the state is not what the log says")

    # -- accounting --------------------------------------------------------------------------------------------------

    def _account(self) -> None:
        """Each record of the commands topic has exactly one outcome."""
        ledger = Ledger(self.rig)
        self.report.claims = ledger.claims
        for number, records in self.rig.records("commands").items():
            for raw in records:
                self.report.commands += 1
                outcome = ledger.outcome(number, raw.offset, raw.value or b"")
                self.report.outcomes[outcome] += 1
                if outcome.startswith("!"):
                    self.report.unaccounted.append(f"commands/{number} offset {raw.offset}: {outcome}")
        self.report.contained = [letter.reason for letter in ledger.letters() if "a defect of" in letter.reason][:50]
        self.report.unaccounted += ledger.astray()
        del self.report.unaccounted[50:]


class Ledger:
    """What the log says of each record of the commands topic."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._codec = Codec()
        self.claims = 0
        self._letters: dict[tuple[int, int], list[e.DeadLettered]] = {}
        self._answers: dict[tuple[int, int], list[str]] = {}
        self._known: set[tuple[int, str, str]] = set()
        for batch in rig.batches():
            self.claims += batch.is_claim
            for record in batch.records:
                self._note(record.event)

    def _note(self, event: e.Event) -> None:
        body, cause = event.body, event.cause
        if isinstance(body, e.DeadLettered):
            self._letters.setdefault((body.partition, body.offset), []).append(body)
        elif cause.answers or isinstance(body, e.CommandForwarded):
            outcome = {"CommandRejected": "rejected", "CommandForwarded": "forwarded"}
            self._answers.setdefault((cause.partition, cause.offset), []).append(
                outcome.get(type(body).__name__, "accepted")
            )

    def letters(self) -> Iterator[e.DeadLettered]:
        """Every dead letter of the log."""
        return (letter for found in self._letters.values() for letter in found)

    def outcome(self, partition: int, offset: int, value: bytes) -> str:
        """Call it in the order of offsets; what begins with `!` is an anomaly."""
        letters = self._letters.get((partition, offset), [])
        answers = self._answers.get((partition, offset), [])
        if len(letters) + len(answers) > 1:
            return f"! {len(letters)} letters and {len(answers)} outcomes"
        try:
            command = self._codec.decode_command(value)
        except UndecodableRecord:
            whole = bool(letters) and letters[0].value.data == value and bool(letters[0].reason)
            return "dead letter" if whole else "! no dead letter with its bytes"
        if letters:
            return "dead letter, decoded" if letters[0].value.data == value else "! a letter of other bytes"
        name = (partition, command.workflow_id, command.id)
        if answers:
            self._known.add(name)
            return answers[0]
        if name in self._known:
            return "duplicate"
        if isinstance(command.body, c.QueryWorkflow):
            return "question"
        if isinstance(command.body, c.UpdateWorkflow):
            return "refused update"
        return f"! no outcome of {command!r:.300}"

    def astray(self) -> list[str]:
        """Dead letters that the topic for them has not, or has twice."""
        sent: Counter[tuple[int, int]] = Counter()
        for records in self._rig.records("dead-letters").values():
            for raw in records:
                letter: Any = self._codec.decode(raw.value)
                sent[letter.partition, letter.offset] += 1
        # After a claim the outbox sends again what it does not know to have arrived.
        again = self.claims > PARTITIONS
        wrong = [
            where
            for where in self._letters.keys() | sent.keys()
            if (min(sent[where], 1) if again else sent[where]) != len(self._letters.get(where, ()))
        ]
        return [f"commands/{partition} offset {offset}: its letter was sent {sent[partition, offset]} times"
                for partition, offset in sorted(wrong)]  # fmt: skip


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--bootstrap", default="", help="play it on this broker")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    print(f"seed {options.seed}", file=sys.stderr)
    report = Campaign(options.seed, options.bootstrap).run(options.records)
    print(json.dumps({**vars(report), "sound": report.sound}))
    return 0 if report.sound else 1


if __name__ == "__main__":
    raise SystemExit(main())
