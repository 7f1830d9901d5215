"""Every Kafka API against every fault of the proxy, the engine behind it: nothing lost, nothing twice, and it goes on.

`python -m tests.faults.cross` plays the whole cross once, or for `--minutes`. A cell is one API and one fault: it meets
one of the API's next requests while runs are under way, then everything must end; after that one more run must. Callers
reach the broker past the proxy, the engine reaches it through the proxy alone. AddOffsetsToTxn and TxnOffsetCommit are
not in the engine's vocabulary: there the fault meets a neighbour, an ordinary transactional loop behind the same proxy,
and the engine must not notice. With `--kept FILE` each cell is a line of that file as it ends, and a cell that is found
there is not played again: a cross that was interrupted goes on. `--table FILE` only prints the cross of such a file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import queue
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.engine.run import Engine
from orchestrator.errors import KafkaUnavailable
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Headers
from tests.faults.kafka_proxy import ACTIONS, APIS, Rule
from tests.faults.proxied import Proxied, proxied_broker
from tests.invariants.load import Expected, KafkaSite, Load, SentSignal, Site

SOCKET_S = 3.0
"""The engine's patience with one request, so that a request that nobody answers ends within a cell."""
FIRES_S = 60.0
ENDS_S = 120.0
FAULTS = tuple(action for action in ACTIONS if action not in ("hold", "error_behind"))
PIPELINED = {"Produce", "Fetch"}
"""Of the others no client has a second request under way on the same connection: what overtakes them there comes on
another connection, which is `late`."""
CLASSIC, KIP848, NEIGHBOUR = ("JoinGroup", "SyncGroup", "Heartbeat", "LeaveGroup"), ("ConsumerGroupHeartbeat",), (
    "AddOffsetsToTxn",
    "TxnOffsetCommit",
)  # fmt: skip
AT_START = {"InitProducerId", "FindCoordinator", "OffsetFetch", "JoinGroup", "SyncGroup", "ListOffsets", "Metadata"}
"""Sent when clients begin: an engine is started anew under the fault."""
AT_END = {"LeaveGroup"}
CODES = {
    "Produce": (6, 7, 19), "Fetch": (6, 5, 74), "ListOffsets": (6, 5), "Metadata": (7,), "OffsetCommit": (16, 15, 27),
    "OffsetFetch": (14, 15, 16), "FindCoordinator": (15, 7), "JoinGroup": (14, 16, 25), "Heartbeat": (16, 22, 27),
    "LeaveGroup": (16, 25), "SyncGroup": (16, 22, 27), "InitProducerId": (14, 16, 51),
    "AddPartitionsToTxn": (16, 51, 47, 48), "AddOffsetsToTxn": (16, 51, 47), "EndTxn": (14, 16, 51, 47, 48),
    "TxnOffsetCommit": (14, 16, 47), "ConsumerGroupHeartbeat": (14, 16, 110),
}  # fmt: skip
"""What a broker may answer: ask again, ask another, or never again."""


@dataclass
class Cell:
    """One API and one fault: how it was played, and what came of it."""

    api: str
    fault: str
    nth: int = 1
    code: int = 0
    delay_s: float = 2 * SOCKET_S
    by: str = "engine"
    fired: int = 0
    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    anomalies: int = 0
    problem: str = ""
    settled: bool = True
    """Whether all was answered before it was judged. What was not is missing from the log, and is not lost."""

    @property
    def sound(self) -> bool:
        """The fault met a request, and nothing came of it."""
        return self.fired > 0 and not (self.lost or self.duplicated or self.anomalies or self.problem)

    def rule(self) -> Rule:
        """For the proxy."""
        return Rule(APIS[self.api], self.fault, self.nth, delay_s=self.delay_s, code=self.code)


def cells(apis: Iterable[str], faults: Iterable[str], rng: random.Random) -> list[Cell]:
    """The cross, in a random order. What can be chosen within a cell is chosen by chance."""
    found = []
    for api in apis:
        for fault in faults:
            if fault == "reorder" and api not in PIPELINED:
                continue
            nth = 1 if api in AT_START | AT_END else rng.randint(1, 4)
            by = "neighbour" if api in NEIGHBOUR else "engine"
            code = rng.choice(CODES[api]) if fault == "error" else 0
            found.append(Cell(api, fault, nth, code, by=by))
    rng.shuffle(found)
    return found


class ProxiedSite(KafkaSite):
    """Callers reach the broker directly, the engine through the proxy."""

    def __init__(self, app: str, stage: Proxied, **membership: object) -> None:
        super().__init__(app, stage.direct)
        options = {"socket.timeout.ms": str(int(SOCKET_S * 1000))}
        self._proxied = LogConfig(app, stage.proxied, options, **(membership or {"assignment": (0, 1)}))  # type: ignore[arg-type]

    def log(self, app: str) -> KafkaLog:
        return KafkaLog(self._proxied)

    def send(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = ()) -> None:
        """As every caller does: what was not sent is sent again, under its id; what comes next comes behind it."""
        number, deadline = partition_of(key, self.partitions), time.monotonic() + ENDS_S
        while True:
            said: queue.Queue[str] = queue.Queue()
            self._transport.send(number, key, value, said.put, headers)
            problem = said.get(timeout=ENDS_S)
            if not problem:
                return
            assert time.monotonic() < deadline, problem


class Crossed(Load):
    """The load of the invariants, whose callers do not wait for an answer before they send the next command."""

    def __init__(self, stage: Proxied, api: str, make_site: Callable[[str], Site] | None = None) -> None:
        membership: dict[str, object] = {}
        if api in CLASSIC or api in KIP848:
            membership["group_protocol"] = "consumer" if api in KIP848 else "classic"
        name = f"cross-{uuid.uuid4().hex[:8]}"
        super().__init__(name, make_site or (lambda app: ProxiedSite(app, stage, **membership)))
        self._sent: list[str] = []
        self._open: list[str] = []

    def begin(self, number: int) -> str:
        """Start a `work` run and send its signals."""
        workflow, n = f"w{number}", number % 3 + 1
        arguments = self.work.code.signature.bind((n,), {})
        sent = [self.send(workflow, c.StartWorkflow("work", arguments))]
        for value in (1_000, 1):
            sent.append(self.send(workflow, c.SignalWorkflow("go", Payload(data=b"%d" % value))))
        self._sent += sent
        self._open.append(workflow)
        signals = tuple(SentSignal(one, "test") for one in sent[1:])
        self.expected[workflow] = Expected(n * (n + 1) + 999, 2 * n, "completed", signals)
        return workflow

    def more(self, runs: int) -> None:
        """So many runs."""
        for number in range(len(self.expected), len(self.expected) + runs):
            self.begin(number)

    def settle(self) -> None:
        """Everything that was begun has ended, and every command was accepted."""
        deadline = time.monotonic() + ENDS_S
        while self._sent:
            found = self.answers(self._sent[-1], wait_s=1.0)
            assert found or time.monotonic() < deadline, f"no answer within {ENDS_S:.0f} s: {self._sent[-1]}"
            if found:
                assert found[0].outcome == "accepted", found[0]
                self.acked.add(self._sent.pop())
        while self._open:
            workflow = self._open[-1]
            assert int(self.outcome(workflow, wait_s=ENDS_S).result.data) == self.expected[workflow].result
            self._open.pop()

    def restart(self) -> Engine:
        """Another engine in the place of the one there is; one that finds no broker is started again."""
        while self.engines:
            self.engines.pop().stop(1.0)
        deadline = time.monotonic() + FIRES_S
        while True:
            try:
                return self.engine()
            except KafkaUnavailable:
                if time.monotonic() > deadline:
                    raise


@contextlib.contextmanager
def neighbour(stage: Proxied) -> Iterator[None]:
    """An ordinary consume-and-produce loop behind the proxy; what becomes of it is nobody's concern."""
    topic, over = stage.topic(), threading.Event()
    consumer = Consumer(
        {"bootstrap.servers": stage.proxied, "group.id": topic, "logger": logging.getLogger("neighbour")}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])

    def work() -> None:
        while not over.is_set():
            settings = {"bootstrap.servers": stage.proxied, "transactional.id": topic, "transaction.timeout.ms": 5_000}
            producer = Producer({**settings, "socket.timeout.ms": 2_000, "logger": logging.getLogger("neighbour")})
            with contextlib.suppress(KafkaException):
                producer.init_transactions(5)
                while not over.wait(0.05):
                    producer.begin_transaction()
                    producer.produce(topic, "x")
                    position = [TopicPartition(topic, 0, 1)]
                    producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 5)
                    producer.commit_transaction(5)

    thread = threading.Thread(target=work, name="neighbour")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        consumer.close()


def play(stage: Proxied, load: Crossed, cell: Cell) -> None:
    """One cell: the fault under load, the end of everything, one more run."""
    before = len(load.expected)
    rule = stage.proxy.add(cell.rule())
    try:
        if cell.api in AT_START or not load.engines:
            load.restart()
        deadline = time.monotonic() + FIRES_S
        load.more(1)
        while not rule.applied.wait(0.2):
            if cell.api in AT_END:
                load.restart()
            assert time.monotonic() < deadline, "the fault never fired"
            load.more(len(load.expected) < before + 40)
        load.settle()
    finally:
        stage.proxy.heal()
        cell.fired += rule.fired
    load.more(1)
    load.settle()
    cell.runs += len(load.expected) - before


def stand(stage: Proxied, played: Sequence[Cell]) -> list[Cell]:
    """Play cells one after the other on one application; the oracle judges them together."""
    load = Crossed(stage, played[0].api)
    try:
        for cell in played:
            around = neighbour(stage) if cell.by == "neighbour" else contextlib.nullcontext()
            try:
                with around:
                    play(stage, load, cell)
            except Exception as error:  # whatever it is, this cell failed and the others are played
                cell.problem, cell.settled = f"{type(error).__name__}: {error}"[:300], False
        for engine in load.engines:
            engine.stop(1.0)
        verdict = load.verdict()
    finally:
        load.close()
    for cell in played:
        cell.lost, cell.duplicated, cell.anomalies = verdict.lost, verdict.duplicated, len(verdict.anomalies)
        cell.problem = cell.problem or (verdict.text()[:600] if verdict.anomalies else "")
    return list(played)


def outcome(cell: Cell | None) -> str:
    """A cell of the table."""
    if cell is None:
        return "not played"
    if cell.sound:
        return "clean"
    return "never fired" if not cell.fired else "**wrong**"


def table(found: Sequence[Cell]) -> str:
    """The whole cross, in Markdown: a line for each API, a column for each fault."""
    last = {(cell.api, cell.fault): cell for cell in found}
    head = ["API", *(f"`{fault}`" for fault in FAULTS)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for api in APIS:
        row = [
            "none" if fault == "reorder" and api not in PIPELINED else outcome(last.get((api, fault)))
            for fault in FAULTS
        ]
        lines.append(f"| {' | '.join([api, *row])} |")
    return "\n".join(lines)


def kept(path: Path | None) -> list[Cell]:
    """The cells that a file has, in the order in which they were played."""
    if path is None or not path.exists():
        return []
    return [Cell(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(seed: int, found: Sequence[Cell]) -> dict[str, object]:
    """What the last line says."""
    return {
        "seed": seed,
        "cells": len(found),
        "fired": sum(cell.fired for cell in found),
        "runs": sum(cell.runs for cell in found),
        "lost": sum(cell.lost for cell in found),
        "duplicated": sum(cell.duplicated for cell in found),
        "anomalies": sum(cell.anomalies for cell in found),
        "failed": [f"{cell.api} {cell.fault}" for cell in found if not cell.sound],
        "by_cell": [asdict(cell) for cell in found],
        "sound": bool(found) and all(cell.sound for cell in found),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apis", default=",".join(APIS), help="which APIs")
    parser.add_argument("--faults", default=",".join(FAULTS), help="which faults")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--minutes", type=float, default=0.0, help="again and again, no cell begins later; 0: once")
    parser.add_argument("--kept", type=Path, default=None, metavar="FILE", help="a line for each cell that was played")
    parser.add_argument("--table", type=Path, default=None, metavar="FILE", help="print what such a file says, no more")
    options = parser.parse_args()
    if options.table is not None:
        print(table(kept(options.table)))
        return 0
    logging.basicConfig(level=logging.CRITICAL)
    print(f"seed {options.seed}", file=sys.stderr)
    found = kept(options.kept)
    found += campaign(options, {(cell.api, cell.fault) for cell in found})
    print(json.dumps(summary(options.seed, found)))
    return 0 if found and all(cell.sound for cell in found) else 1


def campaign(options: argparse.Namespace, done: set[tuple[str, str]]) -> list[Cell]:
    """Play what is not done, once or until the time is over."""
    rng, began, found = random.Random(options.seed), time.monotonic(), list[Cell]()
    late = began + options.minutes * 60 if options.minutes else float("inf")
    with proxied_broker() as stage:
        while True:
            for cell in cells(options.apis.split(","), options.faults.split(","), rng):
                if (cell.api, cell.fault) in done:
                    continue
                if time.monotonic() > late:
                    break
                found += stand(stage, [cell])
                line = json.dumps(asdict(cell))
                print(f"{time.monotonic() - began:7.1f} s {line}", file=sys.stderr, flush=True)
                if options.kept is not None:
                    with options.kept.open("a", encoding="utf-8") as file:
                        file.write(f"{line}\n")
            if not options.minutes or options.kept is not None or time.monotonic() > late:
                return found


if __name__ == "__main__":
    raise SystemExit(main())
