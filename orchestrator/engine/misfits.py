"""Signals and events from outside whose value is not of the declared type: refused before they are recorded.

On the log, such a value would park every run that takes it. What runs send to each other is not judged: its sender
would never hear of it, and a run that is parked goes on with code that is mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..codec.payloads import message_of
from ..core.commands import Command, SendEvent, SignalWorkflow, StartWorkflow
from ..core.decide.decision import Draft, View, current_run
from ..core.events import EventSent, SignalReceived
from ..core.values import Payload
from ..core.waits import PREFIX
from ..errors import BlobError
from ..sdk.registry import Registry
from ..sdk.talk import handler_signature
from ..sdk.workflow import WorkflowCode
from ..store.large import bytes_of
from .options import EngineOptions

Decode = Callable[[Payload], Any]


def misfit(view: View, registry: Registry, options: EngineOptions, command: Command, drafts: Sequence[Draft]) -> str:
    """What is wrong with the value that a command brings to those who take it; "" if nothing is known to be.

    `drafts`: what would be recorded.
    """
    body = command.body
    if not isinstance(body, SignalWorkflow | StartWorkflow | SendEvent) or command.actor.kind == "engine":
        return ""
    if not any(isinstance(one.body, SignalReceived | EventSent) for one in drafts):
        return ""
    if isinstance(body, SignalWorkflow):
        _, run = current_run(view, command.workflow_id, body.run_id)
        code = None if run is None else registry.workflow(run.workflow_type, run.version)
        return _problem(f"signal {body.name}", body.payload, _takers(registry, code, body.name), options)
    if isinstance(body, StartWorkflow):
        code = registry.workflow(body.workflow_type, body.version)
        return _problem(f"signal {body.signal}", body.signal_payload, _takers(registry, code, body.signal), options)
    name = command.workflow_id.removeprefix(PREFIX)
    return _problem(f"event {name}", body.payload, [one.decode for one in registry.events.of(name)], options)


def _takers(registry: Registry, code: WorkflowCode | None, name: str) -> Iterable[Decode]:
    """What makes a value of a signal: the run's handler, or whatever the application declares by this name."""
    handler = None if code is None else code.handlers.signals.get(name)
    if handler is not None:
        return [handler_signature(handler).unbind]
    return [one.decode for one in registry.signals.of(name)]


def _problem(what: str, payload: Payload, takers: Iterable[Decode], options: EngineOptions) -> str:
    if len(payload.data) > options.payload_bytes:
        # That is refused for its size.
        return ""
    problem = ""
    for take in takers:
        try:
            take(bytes_of(payload, options.blobs, what))
        except BlobError:
            # The run that is to get it waits for it to be there.
            return ""
        except Exception as error:
            # A type's own validator raises what it likes.
            problem = problem or f"{what}: {message_of(error)}"
        else:
            return ""
    return problem
