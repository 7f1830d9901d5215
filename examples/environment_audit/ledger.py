"""The demo's ledger: what was paid and what a kill cost, recomputed from the receipts and the raw topics.

    python examples/environment_audit/ledger.py --bootstrap 127.0.0.1:9092 --app audit --receipts receipts.jsonl

It shares no code with the engine: it reads `schemas/` with fastavro, the events topic with a bare consumer, and the
file that the model server fsyncs before it answers. The last line printed is one JSON object.

Paid: received and not rate limited. Cut by the stream: the server broke the answer off. Cut by a kill: paid, but its
result never reached the log although nothing else was wrong. Repeated: sent when its result was on the log already.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import fastavro
import fastavro.schema
from confluent_kafka import Consumer, KafkaException, TopicPartition

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
TIMEOUT_S = 60.0


class Raw(NamedTuple):
    """A record of the events topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes


class Fact(NamedTuple):
    """A committed event: its type's name, its fields, where it stands."""

    name: str
    fields: dict[str, Any]
    raw: Raw


class Call(NamedTuple):
    """One request that the model server received. `end`: answered, broke, rate_limited, or "" when it was cut."""

    key: str
    label: str
    at_ms: int
    end: str
    tokens: int


@dataclass
class Ledger:
    """The figures; None: not known, because the calls went to an endpoint without receipts."""

    steps: int = 0
    model_calls: int | None = None
    cut_by_kill: int | None = None
    cut_by_stream: int | None = None
    repeated_calls: int | None = None
    kills: int = 0
    rate_limited: int | None = None
    tokens_saved: int | None = None
    audit: str = ""
    report: str = ""
    notes: list[str] = field(default_factory=list[str])

    def last_line(self) -> str:
        """One JSON object, for programs."""
        return json.dumps({name: value for name, value in vars(self).items() if name != "notes"}, ensure_ascii=False)


# -- the log ----------------------------------------------------------------------------------------------------------


def event_schemas() -> dict[bytes, tuple[str, Any]]:
    """The schemas of `schemas/events` by the fingerprint that stands before every record."""
    found: dict[bytes, tuple[str, Any]] = {}
    for path in sorted((SCHEMAS / "events").glob("*.avsc")):
        source = json.loads(path.read_text(encoding="utf-8"))
        canonical = fastavro.schema.to_parsing_canonical_form(source)
        mark = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        found[mark] = (path.name.split(".")[0], fastavro.parse_schema(source, _force=True))
    return found


def committed(records: Iterable[Raw]) -> Iterator[Fact]:
    """The facts of one partition: batches whose footer covers them, and claims. What is void is left out."""
    schemas = event_schemas()
    pending: list[Fact] = []
    for raw in records:
        if raw.value[:2] != b"\xc3\x01" or raw.value[2:10] not in schemas:
            raise SystemExit(
                f"events/{raw.partition} offset {raw.offset} is no event of schemas/: {raw.value[:10].hex()}"
            )
        name, schema = schemas[raw.value[2:10]]
        body = io.BytesIO(raw.value[10:])
        fields: Any = fastavro.schemaless_reader(body, schema, None)  # pyright: ignore[reportUnknownMemberType]
        fact = Fact(name, dict(fields), raw)
        if name == "PartitionClaimed":
            pending.clear()
            yield fact
        elif name != "BatchFooter":
            pending.append(fact)
        else:
            root = hashlib.sha256(b"".join(hash_of(one.raw) for one in pending)).digest()
            if root != fact.fields["root"]:
                raise SystemExit(f"events/{raw.partition} offset {raw.offset}: this footer does not cover its events")
            yield from pending
            pending.clear()


def hash_of(raw: Raw) -> bytes:
    """The event hash of format v1."""
    parts = (struct.pack(">I", len(raw.key)), raw.key, struct.pack(">I", len(raw.value)), raw.value)
    return hashlib.sha256(b"orchestrator.event.v1" + b"".join(parts)).digest()


def read_topic(bootstrap: str, topic: str) -> dict[int, list[Raw]]:
    """Every committed record up to the end as of now. Raises SystemExit with a sentence when Kafka does not answer."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "ledger", "isolation.level": "read_committed"}
    more = {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, **more})
    found: dict[int, list[Raw]] = {}
    deadline = time.monotonic() + TIMEOUT_S
    try:
        about = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
        if about.error is not None:
            raise KafkaException(about.error)
        ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=20) for n in about.partitions}
        missing = {n for n, (low, high) in ends.items() if low < high}
        consumer.assign([TopicPartition(topic, n, ends[n][0]) for n in sorted(missing)])
        while missing:
            for message in consumer.consume(1_000, 0.2):
                error, partition, offset = message.error(), message.partition(), message.offset()
                if partition is None or offset is None or (error is not None and error.name() != "_PARTITION_EOF"):
                    raise KafkaException(error)
                if error is not None:
                    # Transaction markers are never delivered: only this event tells that they were passed.
                    missing -= {partition} if offset >= ends[partition][1] else set()
                    continue
                raw = Raw(partition, offset, message.timestamp()[1], message.key() or b"", message.value() or b"")
                found.setdefault(partition, []).append(raw)
            if time.monotonic() > deadline:
                raise SystemExit(f"{topic}: not read to its end in {TIMEOUT_S:.0f} s; is a transaction hanging?")
    except KafkaException as failure:
        raise SystemExit(f"{topic} at {bootstrap}: {failure}; is Kafka running there?") from failure
    finally:
        consumer.close()
    return found


# -- the receipts -----------------------------------------------------------------------------------------------------


def read_receipts(path: Path) -> list[Call]:
    """The calls in the order in which they were received; a last line that was not finished is left out."""
    calls: dict[int, Call] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:
        said = json.loads(line)
        number, what = said["n"], said["event"]
        if what == "received":
            label = str(said.get("label") or said.get("step") or "")
            calls[number] = Call(said["key"], label, int(said["time"] * 1000), "", said["prompt_tokens"])
        elif what in ("answered", "broke", "rate_limited"):
            call = calls[number]
            calls[number] = call._replace(end=what, tokens=call.tokens + said.get("completion_tokens", 0))
    return list(calls.values())


# -- the sums ---------------------------------------------------------------------------------------------------------


def settle(facts: Sequence[Fact], calls: Sequence[Call] | None) -> Ledger:
    """Everything that follows from the log and the receipts."""
    results = {key_of(fact): fact for fact in facts if fact.name == "StepCompleted"}
    lost = deaths(facts)
    ledger = Ledger(steps=len(results), kills=len({fact.fields["instance"] for fact in lost}))
    if calls is None:
        ledger.notes.append("no receipts: the calls went to an endpoint of your own, so nothing can be said about them")
        return ledger
    paid = [call for call in calls if call.end != "rate_limited"]
    ledger.model_calls = len(paid)
    ledger.rate_limited = len(calls) - len(paid)
    ledger.cut_by_stream = sum(call.end == "broke" for call in paid)
    repeated = [call for call in paid if call.key in results and results[call.key].raw.timestamp_ms < call.at_ms]
    ledger.repeated_calls = len(repeated)
    used = {call.key: call for call in paid if call.end == "answered" and call not in repeated}
    kept = {key: call for key, call in used.items() if key in results}
    cut = [call for call in paid if call.end != "broke" and call not in repeated and kept.get(call.key) is not call]
    ledger.cut_by_kill = len(cut)
    ledger.tokens_saved = saved(lost, results, kept)
    for what, some in (("cut by a kill", cut), ("repeated", repeated)):
        ledger.notes += [f"{what}: {call.label or call.key}, {call.tokens} tokens" for call in some]
    return ledger


def key_of(fact: Fact) -> str:
    """The idempotency key that a step hands on: workflow, run, step, percent-encoded."""
    return "/".join(quote(fact.fields[name], safe="") for name in ("workflow_id", "run_id", "step"))


def deaths(facts: Sequence[Fact]) -> list[Fact]:
    """Claims that followed an owner which never released its partition; each with that owner as `instance`."""
    owner: dict[int, str] = {}
    found: list[Fact] = []
    for fact in facts:
        partition = fact.raw.partition
        if fact.name == "PartitionReleased":
            owner.pop(partition, None)
        elif fact.name == "PartitionClaimed":
            before = owner.get(partition)
            if before is not None and before != fact.fields["instance"]:
                found.append(fact._replace(fields={"instance": before}))
            owner[partition] = fact.fields["instance"]
    return found


def saved(lost: Sequence[Fact], results: dict[str, Fact], kept: dict[str, Call]) -> int:
    """Tokens of every result that stood on the log before a kill: a restart from scratch pays them again, each time."""
    return sum(
        kept[key].tokens
        for death in lost
        for key, result in results.items()
        if key in kept and result.raw.partition == death.raw.partition and result.raw.offset < death.raw.offset
    )


def lines(ledger: Ledger) -> Iterator[str]:
    """The readable ledger."""

    def row(what: str, value: object, why: str = "") -> str:
        return f"  {what:<34}{'not known' if value is None else value!s:>10}  {why}".rstrip()

    yield "Ledger (recomputed from the receipts and the raw topics)"
    yield row("steps with a result", ledger.steps)
    yield row("model calls paid", ledger.model_calls)
    yield row("  cut by a kill", ledger.cut_by_kill, "paid, and the answer never reached the log")
    yield row("  cut by a broken stream", ledger.cut_by_stream)
    yield row("  repeated", ledger.repeated_calls, "sent although the result was on the log")
    yield row("rate limited (not paid)", ledger.rate_limited)
    yield row("engines killed", ledger.kills)
    yield row("tokens saved", ledger.tokens_saved, "a restart from scratch would have paid them again")
    for note in ledger.notes:
        yield f"  {note}"
    yield f"  audit verify: {ledger.audit or 'not run'}"
    yield f"  report: {ledger.report or 'none'}"


def main(arguments: list[str] | None = None) -> int:
    """Print the ledger. 0, or 1 when the log or the receipts cannot be read."""
    parser = argparse.ArgumentParser(description="What the demo paid, from the receipts and the raw topics.")
    parser.add_argument("--bootstrap", required=True, help="Kafka's address")
    parser.add_argument("--app", required=True, help="the application's name")
    parser.add_argument("--receipts", type=Path, help="the model server's receipts; without it calls are not counted")
    parser.add_argument("--audit", default="", help="the verdict of `orchestrator audit verify`, to be printed")
    parser.add_argument("--report", default="", help="where the report lies, to be printed")
    options = parser.parse_args(arguments)
    partitions = read_topic(options.bootstrap, f"{options.app}.events")
    facts = [fact for number in sorted(partitions) for fact in committed(partitions[number])]
    ledger = settle(facts, read_receipts(options.receipts) if options.receipts else None)
    ledger.audit, ledger.report = options.audit, options.report
    for line in lines(ledger):
        print(line)
    print(ledger.last_line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
