"""The ten-line producer of the documentation: no import of this package, and the engine reads what it sends."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.core.commands import StartWorkflow
from orchestrator.log.partitioner import partition_of
from tests.architecture.source import imports
from tests.engine.rig import KafkaSite, Rig

if TYPE_CHECKING:
    from orchestrator.devkafka import DevKafka

SNIPPET = Path(__file__).resolve().parents[2] / "docs" / "snippets" / "produce_command.py"
PAGE = SNIPPET.parents[1] / "produce-a-command.md"

STUB = """
import json
class Producer:
    def __init__(self, options): print(json.dumps(options))
    def produce(self, topic, key, value): print(json.dumps([topic, key, value.hex()]))
    def flush(self, timeout): return 0
"""


def code_lines() -> list[str]:
    """The lines that do something: neither docstring, comment, import nor empty."""
    module = ast.parse(SNIPPET.read_text(encoding="utf-8"))
    lines: set[int] = set()
    for node in module.body[1:]:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sorted(str(line) for line in lines)


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    assert len(code_lines()) <= 10
    imported = {one.module.partition(".")[0] for one in imports(SNIPPET)}
    assert imported <= set(sys.stdlib_module_names) | {"confluent_kafka", "fastavro"}


def test_the_page_shows_the_very_file() -> None:
    shown = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert shown.strip() == SNIPPET.read_text(encoding="utf-8").strip()


def test_its_bytes_are_a_command(tmp_path: Path) -> None:
    (tmp_path / "confluent_kafka.py").write_text(STUB, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(SNIPPET), "127.0.0.1:9092", "order-7"],
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
    assert isinstance(command.body, StartWorkflow)
    assert command.body == StartWorkflow("order", command.body.arguments)
    assert json.loads(command.body.arguments.data) == {"order_id": "7", "items": ["pen"], "cents": 9}
    assert uuid.UUID(command.id)


@pytest.mark.broker
def test_an_engine_runs_what_it_sends(kafka: DevKafka) -> None:
    from confluent_kafka.admin import AdminClient

    app = Orchestrator("shop")

    @app.workflow
    async def order(order_id: str, items: list[str], *, cents: int) -> str:
        return f"{order_id}: {items} for {cents}"

    one = Rig(app, KafkaSite("shop", kafka.bootstrap, 4))
    try:
        one.engine()
        ids = [f"order-{number}" for number in range(5)]
        for workflow_id in ids:
            done = subprocess.run([sys.executable, str(SNIPPET), kafka.bootstrap, workflow_id], check=False, timeout=60)
            assert done.returncode == 0
        assert {one.result(workflow_id) for workflow_id in ids} == {b"\"7: ['pen'] for 9\""}
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
