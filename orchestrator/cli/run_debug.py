"""`workflow debug`: a run's code replayed in this process, in the main thread, so that breakpoints work."""

from __future__ import annotations

import pdb  # noqa: T100  # this command is a debugger's front
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from orchestrator.client.calls import Calls
from orchestrator.client.histories import event_of, read_history, turns
from orchestrator.client.views import JsonObject
from orchestrator.config import Settings
from orchestrator.core.events import Event, RunPinned, RunStarted, StepScheduled
from orchestrator.engine.large import filled
from orchestrator.errors import ConfigurationError
from orchestrator.sdk.turn import LiveRun
from orchestrator.store.blobs import DirectoryBlobs

from . import exits
from .arguments import Filled
from .output import say
from .run_views import gathered
from .session import call, settings_of

Turns = Sequence[tuple[Event, list[Event]]]


class Stop(NamedTuple):
    """Where to stop: the turn (its place in the order of deliveries) that schedules the step, and the step's event."""

    turn: int
    scheduled: StepScheduled


@click.command("debug")
@click.argument("workflow_id", metavar="ID", type=Filled())
@click.option("--step", "step", default="", metavar="N", help="Stop where step N is called: its number, or as in 0:3.")
@click.option("--run", "run_id", default="", help="A certain run; else the newest.")
@click.option(
    "--history",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An exported history, instead of an engine's.",
)
@click.option("--pdb/--no-pdb", "debugger", default=None, help="Enter pdb at the call; the default on a terminal.")
@click.pass_context
def debug_command(context: click.Context, /, workflow_id: str, step: str, run_id: str, **options: Any) -> None:
    """Replay a run's code here, without effects, up to the call of step N; your breakpoints work, nothing times out.

    What the code logs is shown, as if it were said for the first time.

    Exit code 1 if the code no longer does what the history says.
    """
    settings = settings_of(context)
    raw = read_history(options["file"]) if options["file"] else _fetch(settings, workflow_id, run_id)
    blobs = DirectoryBlobs(settings.blobs)
    history = [filled(event_of(event, workflow_id, run_id), blobs) for event in raw]
    delivered = turns(history)
    stop = _stop(delivered, step) if step else None
    use_pdb = sys.stdin.isatty() if options["debugger"] is None else bool(options["debugger"])
    if not _replay(_live_run(settings, workflow_id, run_id, history), delivered, stop, use_pdb):
        raise exits.Exit(exits.FAILED)


def _fetch(settings: Settings, workflow_id: str, run_id: str) -> list[JsonObject]:
    async def work(calls: Calls) -> list[JsonObject]:
        return [event.raw for event in await gathered(calls.history(workflow_id, run_id))]

    return call(settings, work)


def _live_run(settings: Settings, workflow_id: str, run_id: str, history: Sequence[Event]) -> LiveRun:
    from orchestrator.worker.loading import load_app

    started = history[0].body
    if not isinstance(started, RunStarted):
        raise ConfigurationError(
            f"the history of {workflow_id} does not begin with RunStarted: export it from its start"
        )
    pinned = [event.body.version for event in history if isinstance(event.body, RunPinned)]
    version = pinned[-1] if pinned else started.version
    code = load_app(settings.required_app()).registry.workflow(started.workflow_type, version)
    if code is None:
        raise ConfigurationError(f"{settings.app} has no workflow {started.workflow_type} version {version}")
    live = LiveRun(code, workflow_id, run_id, started)
    # Whoever debugs a run wants to read what its code says.
    live.loud = True
    return live


def _stop(delivered: Turns, step: str) -> Stop:
    """The turn that schedules step `step`: the n-th of the history, or an identity. Raises a usage error."""
    scheduled = [
        (number, event.body)
        for number, (_, recorded) in enumerate(delivered)
        for event in recorded
        if isinstance(event.body, StepScheduled)
    ]
    for place, (number, body) in enumerate(scheduled, 1):
        if step in (str(place), f"{body.path}:{body.n}"):
            return Stop(number, body)
    raise click.UsageError(f"the history has {len(scheduled)} steps, and no step {step!r}")


def _replay(live: LiveRun, delivered: Turns, stop: Stop | None, use_pdb: bool) -> bool:
    """Whether the code did what the history says, up to the stop."""
    for number, (delivery, recorded) in enumerate(delivered):
        at_stop = stop is not None and number == stop.turn
        debugger = _debugger(live, stop.scheduled) if stop is not None and at_stop and use_pdb else None
        if debugger is not None:
            turn = debugger.runcall(live.replay, delivery, recorded)
        else:
            turn = live.replay(delivery, recorded)
        if turn is not None and turn.verdict is not None:
            say(f"diverged at event {delivery.seq}: {turn.verdict.kind}: {turn.verdict.message}")
            return False
        if stop is not None and at_stop:
            body = stop.scheduled
            click.echo(
                f"step {body.path}:{body.n} {body.name} is called at {body.call_site}, after event {delivery.seq}"
            )
            return True
    click.echo(f"{len(delivered)} deliveries replayed as recorded; the code {live.waiting or 'has ended'}")
    return True


def _debugger(live: LiveRun, scheduled: StepScheduled) -> pdb.Pdb | None:
    """A debugger that runs on to the line that calls the step; None where that line is in another file."""
    source = live.code.fn.__code__.co_filename
    file, _, line = scheduled.call_site.rpartition(":")
    if not line.isdigit() or Path(file).name != Path(source).name:
        say(f"the call is at {scheduled.call_site}: set a breakpoint() there yourself")
        return None
    debugger = pdb.Pdb()
    debugger.set_break(source, int(line))
    # pdb stops at the first line it sees: go on from there to the breakpoint.
    debugger.rcLines.append("continue")
    return debugger
