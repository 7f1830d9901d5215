"""`audit replay`: state and runs rebuilt from the topics alone, as of now or of a moment in the past."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from orchestrator.client.views import history_event
from orchestrator.codec.registry import codec_of
from orchestrator.config import Settings as ProcessSettings
from orchestrator.core.apply.fold import Settings
from orchestrator.errors import ConfigurationError, OrchestratorError, WorkflowNotFound
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.reader import read_partition
from orchestrator.log.topics import topic_ids
from orchestrator.projections.rebuild import END, Moment, Rebuilt, rebuild
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.store.partition_store import PartitionStore
from orchestrator.store.rows import state_hash
from orchestrator.testing.replayer import Replayer

from . import exits
from .output import dumps, output_option, print_one, print_rows
from .run_views import event_row
from .session import settings_of
from .topics import existing, log_config

RUN_COLUMNS = ("workflow_id", "run_id", "workflow_type", "status", "seq", "started_at_ms", "partition")
PARTITION_COLUMNS = (
    "partition",
    "batches",
    "events",
    "runs",
    "head",
    "head_offset",
    "now_at_ms",
    "state",
    "state_hash",
)
REPLAY_COLUMNS = ("workflow_id", "run_id", "outcome", "turns", "what")


class Wanted(NamedTuple):
    """Which runs: all (`workflow_id` ""), or one."""

    workflow_id: str
    run_id: str


def moment_of(text: str, option: str = "--until") -> Moment:
    """What `option` says: an offset (digits) or a time in ISO form, UTC unless it says so. Raises a usage error."""
    if not text:
        return END
    if text.isdigit():
        return Moment(offset=int(text))
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(
            f"{option} {text!r} is neither an offset nor a time as in 2026-11-23T21:00:00Z"
        ) from error
    return Moment(time_ms=int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))


@click.command("replay")
@click.option("--workflow", "workflow_id", default="", metavar="ID", help="One workflow's newest run.")
@click.option("--run", "run_id", default="", metavar="RUN", help="A certain run of it.")
@click.option("--all", "everything", is_flag=True, help="The whole application.")
@click.option("--partition", "numbers", type=click.IntRange(min=0), multiple=True, help="With --all: only these.")
@click.option("--until", default="", metavar="MOMENT", help="An offset, or a time as in 2026-11-23T21:00:00Z.")
@click.option("--history", is_flag=True, help="With --workflow: the run's events, as `workflow history` prints them.")
@click.option("--code", default="", metavar="MODULE:APP", help="Run this code against the runs' histories.")
@click.option("--to", "target", type=click.Path(file_okay=False, path_type=Path), metavar="DIRECTORY",
              help="Keep the state there; it can serve as ORCHESTRATOR_STATE_DIR.")  # fmt: skip
@click.option("--compare", is_flag=True, help="Compare with the state directories here; no engine may be running.")
@output_option
@click.pass_context
def replay_command(context: click.Context, /, output: str, workflow_id: str, run_id: str, **options: Any) -> None:
    """Rebuild a run, the application or a moment in time from the events topic alone; nothing else is read.

    A moment ends at the last batch that was whole then. With --code nothing is done but running the workflows' code
    against what is recorded. Exit code 1 if code or state differ.
    """
    if bool(workflow_id) == bool(options["everything"]):
        raise click.UsageError("name one run with --workflow ID (and --run), or the whole application with --all")
    if run_id and not workflow_id:
        raise click.UsageError("--run needs its --workflow")
    if options["compare"] and (options["until"] or not options["everything"]):
        raise click.UsageError("--compare is about the end of the log: --all, and no --until")
    settings = settings_of(context)
    with tempfile.TemporaryDirectory(prefix="orchestrator-replay-") as scratch:
        places = _Places(settings, options["target"] or Path(scratch), moment_of(options["until"]))
        try:
            if workflow_id:
                good = _one(places, Wanted(workflow_id, run_id), output, options)
            else:
                good = _all(places, options["numbers"], output, options)
        finally:
            places.close()
    if not good:
        raise exits.Exit(exits.FAILED)


class _Places:
    """Partitions rebuilt on disk, below one directory."""

    def __init__(self, settings: ProcessSettings, target: Path, until: Moment) -> None:
        self.settings = settings
        self.config: LogConfig = log_config(settings)
        self.until = until
        self._codec = codec_of(settings)
        self._target = target / self.config.app
        self._stores: list[PartitionStore] = []

    def rebuilt(self, number: int) -> Rebuilt:
        """A partition's state at the moment asked for."""
        place = self._target / str(number)
        if place.exists():
            raise ConfigurationError(f"{place} exists: state is rebuilt only into a place of its own")
        store = PartitionStore(place, self._codec)
        self._stores.append(store)
        slices = read_partition(self.config, self.config.topic("events"), number)
        return rebuild(number, slices, self._codec, (store, Settings(self.config.app)), self.until)

    def live_hash(self, number: int) -> bytes | None:
        """Hash of the state directory here; None: there is none. Raises StoreError while an engine has it open."""
        place = self.settings.state_dir / self.config.app / str(number)
        if not place.is_dir():
            return None
        store = PartitionStore(place, self._codec)
        try:
            return state_hash(store)
        finally:
            store.close()

    def close(self) -> None:
        """Release every directory."""
        while self._stores:
            self._stores.pop().close()


def _one(places: _Places, wanted: Wanted, output: str, options: dict[str, Any]) -> bool:
    made, run_id = _found(places, wanted)
    row = made.run(wanted.workflow_id, run_id)[1]
    if options["code"]:
        return _print_replays(places, [(made, wanted.workflow_id, run_id)], options["code"], output)
    if options["history"]:
        events = made.events_of(wanted.workflow_id, run_id)
        if output != "table":
            print_rows(events, [], output)
            return True
        print_rows([event_row(history_event(raw)) for raw in events], ["seq", "at_ms", "type", "what"], output)
        return True
    print_one(made.description(wanted.workflow_id, run_id, row), output)
    return True


def _found(places: _Places, wanted: Wanted) -> tuple[Rebuilt, str]:
    """The partition that has the run, and the run's id: an application that grew keeps runs where they began."""
    key, looked = wanted.workflow_id.encode(), set[int]()
    places_left = [partition_of(key, topic_ids(places.config, auditing=True).partitions)]
    missing: WorkflowNotFound | None = None
    while places_left:
        number = places_left.pop(0)
        looked.add(number)
        made = places.rebuilt(number)
        try:
            return made, made.run(*wanted)[0]
        except WorkflowNotFound as error:
            missing = missing or error
        older = (partition_of(key, count) for count in made.epochs())
        places_left += [place for place in dict.fromkeys(older) if place not in looked | set(places_left)]
    assert missing is not None
    raise missing


def _all(places: _Places, numbers: Sequence[int], output: str, options: dict[str, Any]) -> bool:
    existing(places.config, numbers)
    chosen = numbers or tuple(range(topic_ids(places.config, auditing=True).partitions))
    if places.until.offset >= 0 and len(chosen) > 1:
        raise click.UsageError("an offset is of one partition: name it with --partition, or give --until a time")
    made = [places.rebuilt(number) for number in chosen]
    if options["code"]:
        runs = [(one, workflow_id, run_id) for one in made for workflow_id, run_id, _ in one.runs()]
        return _print_replays(places, runs, options["code"], output)
    partitions = [_partition(places, one, options["compare"]) for one in made]
    if output == "table":
        print_rows(partitions, PARTITION_COLUMNS, output)
        click.echo("")
        print_rows(_runs(made), RUN_COLUMNS, output)
    elif output == "json":
        click.echo(dumps({"partitions": partitions, "runs": list(_runs(made))}, indent=2))
    else:
        print_rows(({"kind": "partition", **one} for one in partitions), [], output)
        print_rows(({"kind": "run", **one} for one in _runs(made)), [], output)
    return all(one["state"] != "different" for one in partitions)


def _partition(places: _Places, made: Rebuilt, compare: bool) -> dict[str, Any]:
    said = made.summary()
    live = places.live_hash(made.partition) if compare else None
    if live is None:
        state = "no state directory here" if compare else "not compared"
    else:
        state = "equal" if live.hex() == said["state_hash"] else "different"
    runs = Counter(row.status for _, _, row in made.runs())
    return {**said, "runs": dict(sorted(runs.items())), "state": state}


def _runs(made: Sequence[Rebuilt]) -> Iterator[dict[str, Any]]:
    for one in made:
        for workflow_id, run_id, row in one.runs():
            yield one.description(workflow_id, run_id, row)


def _print_replays(places: _Places, runs: Sequence[tuple[Rebuilt, str, str]], reference: str, output: str) -> bool:
    from orchestrator.worker.loading import load_app

    replayer = Replayer(load_app(reference), DirectoryBlobs(places.settings.blobs))
    rows = [_replay(replayer, *run) for run in runs]
    print_rows(rows, REPLAY_COLUMNS, output)
    return all(row["outcome"] == "repeated" for row in rows)


def _replay(replayer: Replayer, made: Rebuilt, workflow_id: str, run_id: str) -> dict[str, Any]:
    row = made.run(workflow_id, run_id)[1]
    said: dict[str, Any] = {"workflow_id": workflow_id, "run_id": run_id, "turns": None, "what": ""}
    try:
        turns = replayer.replay(made.history(workflow_id, run_id), row.turn)
    except OrchestratorError as error:
        return {**said, "outcome": type(error).__name__, "what": str(error)}
    return {**said, "outcome": "repeated", "turns": turns}
