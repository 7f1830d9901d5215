"""Replays recorded histories against the code as it is now: a deploy that would park open runs fails here first.

Histories are files of `orchestrator workflow history ID -o jsonl`, or events. `in_second_process` replays them under
another hash seed, which finds code that depends on the order of a set.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..client.histories import event_of, read_history
from ..client.views import JsonObject
from ..core.events import Event, RunFailed, RunParked, RunPinned, RunResumed, RunStarted, RunTerminated
from ..core.replay import turns_of
from ..engine.large import filled
from ..errors import BlobError, ConfigurationError, Divergence
from ..sdk.app import Orchestrator
from ..sdk.turn import LiveRun
from ..sdk.workflow import WorkflowCode
from ..store.blobs import Blobs, DirectoryBlobs

History = tuple[str, str, list[JsonObject]]
"""A run's workflow id, run id and exported events."""

_DIVERGED = 3


class Replayer:
    """Replays histories with the workflows of one application."""

    def __init__(self, app: Orchestrator, blobs: Blobs | None = None) -> None:
        """`blobs`: where large values lie; without, a history that names such ones is refused."""
        self._app = app
        self._blobs = blobs

    def replay(self, history: str | Path | Sequence[Event], seen: int | None = None) -> int:
        """Replay one run's history; returns how many turns did as recorded.

        `seen` is the newest event whose turn is on the log, where the history ends in the middle of a run: what was
        delivered behind it is left out.

        Raises Divergence naming the event and the place, ConfigurationError when the application lacks the workflow,
        UndecodableRecord when the file is not an exported history, BlobError naming a value that is not at hand.
        """
        if isinstance(history, str | Path):
            path = Path(history)
            history = [event_of(raw, path.stem) for raw in read_history(path)]
        code, started = self._code_of(history)
        live = LiveRun(code, history[0].workflow_id, history[0].run_id, started)
        try:
            return self._turns(live, history, seen)
        finally:
            live.evict()

    def _code_of(self, history: Sequence[Event]) -> tuple[WorkflowCode, RunStarted]:
        started = history[0].body if history else None
        if not isinstance(started, RunStarted):
            raise ConfigurationError("the history does not begin with RunStarted: export it from its start")
        pinned = [event.body.version for event in history if isinstance(event.body, RunPinned)]
        version = pinned[-1] if pinned else started.version
        code = self._app.registry.workflow(started.workflow_type, version)
        if code is None:
            raise ConfigurationError(f"{self._app.name} has no workflow {started.workflow_type} version {version}")
        return code, started

    def _turns(self, live: LiveRun, history: Sequence[Event], seen: int | None) -> int:
        turns = [turn for turn in turns_of(history) if seen is None or turn[0].seq <= seen]
        recorded_until = max((number for number, (_, recorded) in enumerate(turns) if recorded), default=-1)
        for number, (delivery, recorded) in enumerate(turns):
            compared = [filled(event, self._blobs) for event in recorded]
            verdict = live.replay(filled(delivery, self._blobs), compared).verdict
            if verdict is None:
                continue
            if number > recorded_until and (_parked(history) or _ended_from_outside(history)):
                # The turn that parked the run recorded nothing, and nothing after it was delivered; a run that was
                # terminated, or whose time was over, took no turn for what came just before.
                return number
            raise Divergence(
                f"workflow {live.workflow_id or '?'}, event {delivery.seq} ({type(delivery.body).__name__}):"
                f" {verdict.message}"
            )
        return len(turns)


def _parked(history: Sequence[Event]) -> bool:
    last = [event.body for event in history if isinstance(event.body, RunParked | RunResumed)]
    return bool(last) and isinstance(last[-1], RunParked)


def _ended_from_outside(history: Sequence[Event]) -> bool:
    """Terminated or timed out: no turn of its code ended the run."""
    last = history[-1].body
    return isinstance(last, RunTerminated) or (isinstance(last, RunFailed) and not last.turn)


def reference_of(app: Orchestrator) -> str:
    """`module:name` under which another process finds the application, or ""."""
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and name != "__main__" and _importable(name):
                return f"{name}:{attribute}"
    return ""


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


async def in_second_process(reference: str, histories: Iterable[History], blobs: Path | None = None) -> None:
    """Replay histories in a new process with another hash seed. Raises Divergence; what cannot be replayed is left.

    `blobs`: the directory of large values, if they are in one.

    A process in which the module cannot be imported says nothing about the code: it passes.
    """
    own = os.environ.get("PYTHONHASHSEED", "")
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "2" if own == "1" else "1",
        "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from orchestrator.testing.replayer import main; main()",
        reference,
        str(blobs or ""),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    said, _ = await process.communicate(json.dumps(list(histories)).encode())
    if process.returncode == _DIVERGED:
        raise Divergence(
            f"{said.decode(errors='replace').strip()}\nIn a process with another hash seed: does the code walk over a"
            " set, or keep state between runs?"
        )


def main() -> None:
    """The second process: histories on standard input; exit code 3 and a message when one diverges."""
    from ..worker.loading import load_app

    replayer = Replayer(load_app(sys.argv[1]), DirectoryBlobs(Path(sys.argv[2])) if sys.argv[2] else None)
    for workflow_id, run_id, raw in json.load(sys.stdin):
        try:
            replayer.replay([event_of(event, workflow_id, run_id) for event in raw])
        except (ConfigurationError, BlobError):
            # A workflow defined inside a test, or a value in that test's memory: this process does not have it.
            continue
        except Divergence as error:
            print(error)
            raise SystemExit(_DIVERGED) from None
