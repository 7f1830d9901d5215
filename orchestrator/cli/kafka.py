"""`orchestrator kafka`: the embedded Kafka in the background, for development."""

from __future__ import annotations

from pathlib import Path

import click

from . import exits
from .output import Progress, output_option, print_one, say

NOT_RUNNING = 3
"""Exit code of `status` when none runs, as init scripts have it."""


@click.group()
def kafka() -> None:
    """Start and stop the embedded Kafka (for development; it listens on 127.0.0.1 only)."""


@kafka.command()
@click.option("--nodes", type=click.IntRange(1, 9), default=1, show_default=True, help="Brokers.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9092,
    show_default=True,
    help="Of the first node, the others follow; 0: any free ones.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keeps the data; without it they are gone at the end.",
)
@output_option
def start(nodes: int, port: int, directory: Path | None, output: str) -> None:
    """Start Kafka in the background and return when it is ready. It runs until `orchestrator kafka stop`."""
    from orchestrator.devkafka import background

    line = Progress()
    try:
        found, new = background.start(background.Wanted(nodes, port, directory), line.show)
    finally:
        line.clear()
    if not new:
        say("Kafka is running already")
    print_one({"running": True, **found.facts()}, output)


@kafka.command()
@output_option
def stop(output: str) -> None:
    """End the Kafka in the background; returns when its processes are gone. Fine when none runs."""
    from orchestrator.devkafka import background

    found = background.stop()
    say("no Kafka runs in the background" if found is None else "Kafka stopped")
    if output != "table":
        print_one({"running": False, "stopped": found is not None}, output)


@kafka.command()
@output_option
def status(output: str) -> None:
    """Say whether a Kafka runs in the background; exit code 0 if so, 3 if not."""
    from orchestrator.devkafka import background

    found = background.status()
    if found is None:
        if output == "table":
            say("no Kafka runs in the background (orchestrator kafka start)")
        else:
            print_one({"running": False}, output)
        raise exits.Exit(NOT_RUNNING)
    print_one({"running": True, **found.facts()}, output)
