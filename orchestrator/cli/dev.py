"""`orchestrator dev`: Kafka, topics, engine and worker in one command, for development."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import click

from orchestrator.config import Settings

from . import exits
from .output import say
from .owned import Owned
from .repeats import Repeats
from .session import connected, settings_of
from .watching import SourceWatch, complaint

RELOAD_GRACE_S = 5.0
LOOK_S = 0.3
"""Seconds between two looks at the processes and at the source files."""
DEV_PARTITIONS = 4


class Plan(NamedTuple):
    """What to run: names of the processes with their command lines, all under one environment."""

    processes: Mapping[str, list[str]]
    environment: Mapping[str, str]
    grace_s: float


class Crew:
    """The processes of `dev`, started and ended together."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._members: list[Owned] = []

    def start(self) -> None:
        """Start every process."""
        for name, arguments in self._plan.processes.items():
            member = Owned(name, arguments, self._plan.environment)
            self._members.append(member)
            say(f"  {name} started (pid {member.pid})")

    def stop(self) -> None:
        """Drain every process and wait until all have ended."""
        try:
            for member in self._members:
                member.drain()
            for member in self._members:
                member.wait(self._plan.grace_s)
        except KeyboardInterrupt:
            # A second Ctrl-C: whoever sits here has waited enough.
            self.kill()
            raise
        self._members = []

    def kill(self) -> None:
        """End every process at once. What was running runs again at the next start."""
        for member in self._members:
            member.drain()
        for member in self._members:
            member.kill()
        self._members = []

    def lost(self) -> tuple[str, int] | None:
        """Name and exit code of a process that ended by itself."""
        for member in self._members:
            code = member.ended()
            if code is not None:
                return member.name, code
        return None


@click.command()
@click.argument("app", metavar="[MODULE:ATTR]", default="")
@click.option("--reload", is_flag=True, help="Start anew when a Python file below this directory changes.")
@click.option("--port", type=click.IntRange(0, 65_535), default=9092, show_default=True, help="Of the embedded Kafka.")
@click.pass_context
def dev(context: click.Context, /, app: str, reload: bool, port: int) -> None:
    """Run Kafka, topics, engine and worker of MODULE:ATTR until Ctrl-C.

    With --bootstrap or ORCHESTRATOR_BOOTSTRAP that Kafka is used instead of the embedded one. Coroutines are thrown
    away and replayed after every turn, and runs that ended are replayed in a second process with another hash seed, so
    that code that does not replay is found here.
    """
    settings = settings_of(context).with_changes(app=app or None)
    _loaded(settings)
    given = context.find_root().params.get("bootstrap") or os.environ.get("ORCHESTRATOR_BOOTSTRAP")
    # An orderly end for `kill` as for Ctrl-C: the processes first, Kafka last.
    signal.signal(signal.SIGTERM, _interrupt)
    # A shell starts background jobs with SIGINT ignored; `kill -INT` must end this one all the same.
    signal.signal(signal.SIGINT, _interrupt)
    with ExitStack() as stack:
        if not given:
            settings = settings.with_changes(bootstrap=_start_kafka(stack, settings, port))
        crew = Crew(_prepare(settings, reload, own_kafka=not given))
        repeats = Repeats(settings.app, partial(connected, settings), settings.blobs)
        stack.callback(_wind_up, crew, repeats)
        crew.start()
        repeats.start()
        code = _reloading(crew, repeats) if reload else _until_lost(crew)
    if code:
        raise exits.Exit(code)


def _loaded(settings: Settings) -> Any:
    """The application: what is wrong with its code is said before anything starts."""
    from orchestrator.worker.loading import load_app

    return load_app(settings.required_app())


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _wind_up(crew: Crew, repeats: Repeats) -> None:
    say("ending: running steps may finish ...")
    try:
        repeats.stop(once_more=crew.lost() is None)
    except KeyboardInterrupt:
        crew.kill()
        raise
    finally:
        crew.stop()


def _start_kafka(stack: ExitStack, settings: Settings, port: int) -> str:
    try:
        from orchestrator.devkafka import DevKafka
    except ImportError as error:
        raise click.UsageError(
            "the embedded Kafka needs an extra: pip install 'durable-orchestrator[kafka]'; or give --bootstrap"
        ) from error
    started = time.monotonic()
    directory = settings.state_dir / "kafka"
    is_new = not directory.exists()
    broker = DevKafka.start(directory=directory, port=port, progress=lambda line: say(f"  {line} ..."))
    stack.callback(_stop_kafka, broker.stop)
    say(f"  Kafka ready at {broker.bootstrap} ({time.monotonic() - started:.1f} s)")
    if is_new:
        _set_aside(settings.state_dir / "engine")
    return broker.bootstrap


def _set_aside(state: Path) -> None:
    """What was folded from the log of a Kafka that is gone: its partitions would stand still before a new log."""
    if state.exists():
        aside = next(path for n in count(1) if not (path := state.with_name(f"{state.name}-{n}")).exists())
        state.rename(aside)
        say(f"  this Kafka is new: what was folded from the one before lies in {aside}, and may be deleted")


def _stop_kafka(stop: Callable[[], object]) -> None:
    stop()
    say("Kafka stopped")


def _prepare(settings: Settings, reload: bool, own_kafka: bool) -> Plan:
    """Load the application once to check it, create its topics, and say what to run."""
    from orchestrator.codec.registry import register_schemas
    from orchestrator.log.topics import init_topics

    from .topics import log_config, queues_of

    name = str(_loaded(settings).name)
    partitions = DEV_PARTITIONS if own_kafka else settings.partitions
    queues = queues_of(settings)
    init_topics(log_config(settings, name), partitions, queues, settings.replication_factor)
    register_schemas(settings)
    say(f"  topics of {name} ready")
    environment = {
        **os.environ,
        "ORCHESTRATOR_APP": settings.app,
        "ORCHESTRATOR_BOOTSTRAP": settings.bootstrap,
        "ORCHESTRATOR_STATE_DIR": str(settings.state_dir / "engine" if own_kafka else settings.state_dir),
        "ORCHESTRATOR_BLOB_DIR": str(settings.blobs),
        "ORCHESTRATOR_GRACE_S": str(RELOAD_GRACE_S if reload else settings.grace_s),
        "ORCHESTRATOR_DEV": "1",
    }
    processes = {f"engine of {name}": ["engine", "run", "--owned"]}
    if queues:
        processes[f"worker of {', '.join(queues)}"] = ["worker", "run", "--owned", *_queue_options(queues)]
    return Plan(processes, environment, RELOAD_GRACE_S if reload else settings.grace_s)


def _queue_options(queues: list[str]) -> list[str]:
    return [word for queue in queues for word in ("--queue", queue)]


def _until_lost(crew: Crew) -> int:
    while (lost := crew.lost()) is None:
        time.sleep(LOOK_S)
    name, code = lost
    say(f"error: the {name} ended by itself with code {code}; its last lines above say why")
    return exits.FAILED


def _reloading(crew: Crew, repeats: Repeats) -> int:
    watch = SourceWatch(Path.cwd())
    told = False
    while True:
        time.sleep(LOOK_S)
        changed = watch.changed()
        wrong = complaint(changed)
        if wrong:
            say(f"not reloaded: {wrong}")
        elif changed:
            say(f"{changed[0]} changed: handing over to new processes ...")
            crew.stop()
            repeats.renew()
            crew.start()
            told = False
        lost = crew.lost()
        if lost and not told:
            say(f"the {lost[0]} ended by itself with code {lost[1]}; it starts again when a file changes")
            told = True
