"""Kafka's own command-line tools, by the Java classes that its scripts start: the machine needs no Kafka for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from orchestrator.devkafka.jars import class_path, fetch_jars
from orchestrator.devkafka.java import java_environment
from orchestrator.devkafka.runtime import Runtime

LOCK = "org.apache.kafka:kafka-tools:4.4.0 sha256:4eb9a7fbfd63badfd8d1a677aa2d54b47b2b2d442ff7d68fd223972afea1954c"
"""The one jar that the broker does not need itself."""
CLASSES = {
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}
"""What each script of Kafka's `bin` starts with its own arguments."""
PATIENCE_S = 60.0


def run_tool(words: Sequence[str], directory: Path) -> tuple[int, str]:
    """Run `kafka-….sh …`: its exit code, and what it printed. `directory` takes its log and temporary files."""
    runtime = Runtime.prepare()
    tools = class_path(fetch_jars(runtime.cache, LOCK))
    # Behind the broker's, so that the broker's cache of classes serves here too.
    whole = runtime._replace(class_path=os.pathsep.join((runtime.class_path, tools)))
    (directory / "tmp").mkdir(exist_ok=True)
    cached = [f"-XX:AOTCache={runtime.aot_cache}"] if runtime.aot_cache.exists() else []
    done = subprocess.run(
        whole.command([CLASSES[words[0]], *words[1:]], directory, cached),
        env=java_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
