"""The producers of the documentation: no import of this package, and the engine reads what they send."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core.commands import CancelWorkflow, Command, SignalWorkflow, StartWorkflow
from orchestrator.core.events import CommandForwarded, SignalReceived
from orchestrator.core.values import Payload
from orchestrator.log.partitioner import partition_of
from tests.architecture.source import imports
from tests.docs.pages import blocks
from tests.engine.rig import KafkaSite, MemorySite, Rig

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

SNIPPETS = Path(__file__).resolve().parents[2] / "docs" / "snippets"
START, STEER = SNIPPETS / "produce_command.py", SNIPPETS / "steer_command.py"
PAGE, BUGS = SNIPPETS.parent / "produce-a-command.md", SNIPPETS.parent / "bugs.md"

shop = Orchestrator("shop")
approved = shop.signal("approved", bool)


@shop.workflow
async def order(order_id: str, items: list[str], cents: int) -> str:
    assert await approved.wait()
    return f"{order_id}: {items} for {cents}"


STUB = """
import json
class Producer:
    def __init__(self, options): print(json.dumps(options))
    def produce(self, topic, key, value): print(json.dumps([topic, key, value.hex()]))
    def flush(self, timeout): return 0
"""


def code_lines(snippet: Path) -> list[str]:
    """The lines that do something: neither docstring, comment, import nor empty."""
    module = ast.parse(snippet.read_text(encoding="utf-8"))
    lines: set[int] = set()
    for node in module.body[1:]:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sorted(str(line) for line in lines)


@pytest.mark.parametrize(("snippet", "most"), [(START, 10), (STEER, 15)], ids=lambda one: getattr(one, "stem", ""))
def test_it_is_short_and_imports_nothing_of_ours(snippet: Path, most: int) -> None:
    assert len(code_lines(snippet)) <= most
    imported = {one.module.partition(".")[0] for one in imports(snippet)}
    assert imported <= set(sys.stdlib_module_names) | {"confluent_kafka", "fastavro"}


def test_the_page_shows_the_very_files() -> None:
    blocks = PAGE.read_text(encoding="utf-8").split("```python\n")
    shown = [block.split("```")[0].strip() for block in blocks[1:3]]
    assert shown == [snippet.read_text(encoding="utf-8").strip() for snippet in (START, STEER)]


def sent_by(tmp_path: Path, snippet: Path, *words: str) -> Command:
    """The command that a snippet hands to Kafka's client."""
    (tmp_path / "confluent_kafka.py").write_text(STUB, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(snippet), "127.0.0.1:9092", "order-7", *words],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    options, sent = (json.loads(line) for line in done.stdout.splitlines())
    assert options["partitioner"] == "murmur2_random"
    command = Codec().decode_command(bytes.fromhex(sent[2]))
    assert (sent[0], sent[1], command.workflow_id) == ("shop.commands", "order-7", "order-7")
    assert uuid.UUID(command.id)
    return command


def test_its_bytes_are_a_command(tmp_path: Path) -> None:
    command = sent_by(tmp_path, START)
    assert isinstance(command.body, StartWorkflow)
    assert command.body == StartWorkflow("order", command.body.arguments)
    assert json.loads(command.body.arguments.data) == {"order_id": "7", "items": ["pen"], "cents": 9}


def test_the_bytes_to_a_run_are_commands(tmp_path: Path) -> None:
    signal = sent_by(tmp_path, STEER, "SignalWorkflow")
    assert (signal.body, signal.reason) == (SignalWorkflow("approved", Payload(data=b"true")), "")
    cancel = sent_by(tmp_path, STEER, "CancelWorkflow")
    assert (cancel.body, cancel.reason) == (CancelWorkflow(), "the customer left")


def records_of_the_page() -> dict[str, bytes]:
    """The records that are shown in hexadecimal, by their command."""
    rows = re.findall(r"\| `(\w+)` \| `(c301 [0-9a-f ]+)` \|", PAGE.read_text(encoding="utf-8"))
    return {name: bytes.fromhex(row) for name, row in rows}


@pytest.mark.parametrize(("name", "ends"), [("SignalWorkflow", "completed"), ("CancelWorkflow", "cancelled")])
def test_the_very_bytes_of_the_page_reach_a_run(name: str, ends: str) -> None:
    one = Rig(shop, MemorySite("shop"))
    try:
        one.engine()
        one.start("order-7", order, "7", ["pen"], 9)
        for _ in range(2):  # the id makes the second a duplicate
            one.send_raw(b"order-7", records_of_the_page()[name])
        assert one.outcome("order-7").code == ends
        (event,) = [event for event in one.events("order-7") if event.cause.command_id == "a1"]
        assert type(event.body).__name__ == {"SignalWorkflow": "SignalReceived"}.get(name, "CancelRequested")
    finally:
        one.close()


class ToARig:
    """A producer's `produce`, as the documentation calls it."""

    def __init__(self, one: Rig) -> None:
        self._one = one

    def produce(self, topic: str, key: str, value: bytes, partition: int) -> None:
        assert topic == "shop.commands"
        self._one.send_raw(key.encode(), value, partition)


@pytest.mark.contract("forwarded")
def test_what_the_page_of_bugs_sends_astray_is_forwarded_and_counts_once() -> None:
    (shown,) = [block.text for block in blocks(BUGS) if "CommandForwarded" in block.text]
    one = Rig(shop, MemorySite("shop"))
    try:
        one.engine()
        one.start("order-7", order, "7", ["pen"], 9)
        exec(shown, {"producer": ToARig(one), "signal": records_of_the_page()["SignalWorkflow"]})
        assert one.outcome("order-7").code == "completed"
        assert [(body.command_id, body.to_partition) for body in one.wait_for(CommandForwarded, count=2)] == [
            ("a1", 1)
        ] * 2
        assert [type(event.body) for event in one.events("order-7")].count(SignalReceived) == 1
    finally:
        one.close()


def ran(snippet: Path, *words: str) -> None:
    """Run a snippet; it must have been acknowledged."""
    assert subprocess.run([sys.executable, str(snippet), *words], check=False, timeout=60).returncode == 0


@pytest.mark.broker
def test_an_engine_runs_what_it_sends(kafka: DevKafka) -> None:
    from confluent_kafka.admin import AdminClient

    one = Rig(shop, KafkaSite("shop", kafka.bootstrap, 4))
    try:
        one.engine()
        ids = [f"order-{number}" for number in range(4)]
        for workflow_id in ids:
            ran(START, kafka.bootstrap, workflow_id)
        for workflow_id in ids[1:]:
            ran(STEER, kafka.bootstrap, workflow_id, "SignalWorkflow")
        ran(STEER, kafka.bootstrap, ids[0], "CancelWorkflow")
        assert {one.result(workflow_id) for workflow_id in ids[1:]} == {b"\"7: ['pen'] for 9\""}
        assert one.outcome(ids[0]).code == "cancelled"
        found = {
            Codec().decode_command(record.value).workflow_id: number
            for number, records in one.records("commands").items()
            for record in records
            if record.key.startswith(b"order-")
        }
        assert found == {workflow_id: partition_of(workflow_id.encode(), 4) for workflow_id in ids}
    finally:
        one.close()
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        ours = [name for name in admin.list_topics(timeout=30).topics if name.startswith("shop.")]
        for future in admin.delete_topics(ours).values():
            future.result(30)
