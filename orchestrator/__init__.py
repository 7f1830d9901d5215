"""Durable execution on Kafka.

Workflows are ordinary sequential Python, every step is recorded before the next begins.
"""

from __future__ import annotations

import typing as _typing

from .errors import (
    ChildCancelled,
    ChildFailed,
    CommandRejected,
    CompensationFailed,
    ConfigurationError,
    DoesNotRoundTrip,
    KafkaUnavailable,
    OrchestratorError,
    Overloaded,
    ReplyTimeout,
    RunCancelled,
    RunClosed,
    RunEnded,
    RunFailed,
    RunParked,
    RunTerminated,
    StepCancelled,
    StepFailed,
    StepTimeout,
    UpdateFailed,
    UpdateRejected,
    WorkflowAlreadyClosed,
    WorkflowAlreadyRunning,
    WorkflowFailed,
    WorkflowNotFound,
)
from .sdk.app import Orchestrator as _Application
from .sdk.approvals import Approval, approval
from .sdk.attributes import Attribute, set_summary
from .sdk.context import continue_as_new, now, random, run_info, sleep_until, uuid4
from .sdk.entity import EntityHandler
from .sdk.events import Event, wait_event
from .sdk.external import ExternalWorkflow, external_workflow
from .sdk.limits import Limit
from .sdk.messages import Query, Signal, query, signal
from .sdk.patches import deprecate_patch, patched
from .sdk.retry import RetryPolicy
from .sdk.saga import Saga
from .sdk.step import Failed, Step, StepInfo, step_info
from .sdk.updates import Update, update
from .sdk.workflow import Workflow

if _typing.TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager as _Context

    from .client.batches import Selection as Selection
    from .client.blocking import BlockingClient as BlockingClient
    from .client.client import Client as Client
    from .client.entity import EntityHandle as EntityHandle
    from .client.handle import Handle as Handle
    from .client.requests import ClientOptions as _ClientOptions
    from .client.schedules import Schedule as Schedule
    from .client.updates import UpdateHandle as UpdateHandle
    from .config import Settings as _Settings
    from .core.calendars import Calendar as Calendar

__all__ = [
    "Approval",
    "Attribute",
    "BlockingClient",
    "Calendar",
    "ChildCancelled",
    "ChildFailed",
    "Client",
    "CommandRejected",
    "CompensationFailed",
    "ConfigurationError",
    "DoesNotRoundTrip",
    "EntityHandle",
    "EntityHandler",
    "Event",
    "ExternalWorkflow",
    "Failed",
    "Handle",
    "KafkaUnavailable",
    "Limit",
    "Orchestrator",
    "OrchestratorError",
    "Overloaded",
    "Query",
    "ReplyTimeout",
    "RetryPolicy",
    "RunCancelled",
    "RunClosed",
    "RunEnded",
    "RunFailed",
    "RunParked",
    "RunTerminated",
    "Saga",
    "Schedule",
    "Selection",
    "Signal",
    "Step",
    "StepCancelled",
    "StepFailed",
    "StepInfo",
    "StepTimeout",
    "Update",
    "UpdateFailed",
    "UpdateHandle",
    "UpdateRejected",
    "Workflow",
    "WorkflowAlreadyClosed",
    "WorkflowAlreadyRunning",
    "WorkflowFailed",
    "WorkflowNotFound",
    "approval",
    "continue_as_new",
    "deprecate_patch",
    "external_workflow",
    "now",
    "patched",
    "query",
    "random",
    "run_info",
    "set_summary",
    "signal",
    "sleep_until",
    "step_info",
    "update",
    "uuid4",
    "wait_event",
]

_CALLERS = {
    "BlockingClient": ".client.blocking",
    "Client": ".client.client",
    "Calendar": ".core.calendars",
    "EntityHandle": ".client.entity",
    "Handle": ".client.handle",
    "Schedule": ".client.schedules",
    "Selection": ".client.batches",
    "UpdateHandle": ".client.updates",
}
"""What only callers need is imported at first use: engines, workers and step processes start without it."""


class Orchestrator(_Application):
    """An application. Its name `[a-z0-9-]+` begins the names of its topics, group and transactional ids."""

    def connect(self, settings: _Settings | None = None, *, options: _ClientOptions | None = None) -> _Context[Client]:
        """A client of this application, for the time of an `async with` block; settings come from the environment.

        Raises KafkaUnavailable when no broker answers, ConfigurationError when the application's topics are missing.
        """
        from .client.client import Client
        from .client.requests import DEFAULT_OPTIONS

        return Client.connect(self, settings, options=options or DEFAULT_OPTIONS)


def __getattr__(name: str) -> _typing.Any:
    if name not in _CALLERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_CALLERS[name], __name__), name)
    return value
