"""Durable execution on Kafka.

Workflows are ordinary sequential Python, every step is recorded before the next begins.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client.application import Orchestrator
    from .client.batches import Selection
    from .client.blocking import BlockingClient
    from .client.client import Client
    from .client.entity import EntityHandle
    from .client.handle import Handle
    from .client.schedules import Schedule
    from .client.updates import UpdateHandle
    from .core.calendars import Calendar
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

_HOMES = {
    "Orchestrator": ".client.application",
    "Selection": ".client.batches",
    "BlockingClient": ".client.blocking",
    "Client": ".client.client",
    "EntityHandle": ".client.entity",
    "Handle": ".client.handle",
    "Schedule": ".client.schedules",
    "UpdateHandle": ".client.updates",
    "Calendar": ".core.calendars",
    "ChildCancelled": ".errors",
    "ChildFailed": ".errors",
    "CommandRejected": ".errors",
    "CompensationFailed": ".errors",
    "ConfigurationError": ".errors",
    "DoesNotRoundTrip": ".errors",
    "KafkaUnavailable": ".errors",
    "OrchestratorError": ".errors",
    "Overloaded": ".errors",
    "ReplyTimeout": ".errors",
    "RunCancelled": ".errors",
    "RunClosed": ".errors",
    "RunEnded": ".errors",
    "RunFailed": ".errors",
    "RunParked": ".errors",
    "RunTerminated": ".errors",
    "StepCancelled": ".errors",
    "StepFailed": ".errors",
    "StepTimeout": ".errors",
    "UpdateFailed": ".errors",
    "UpdateRejected": ".errors",
    "WorkflowAlreadyClosed": ".errors",
    "WorkflowAlreadyRunning": ".errors",
    "WorkflowFailed": ".errors",
    "WorkflowNotFound": ".errors",
    "Approval": ".sdk.approvals",
    "approval": ".sdk.approvals",
    "Attribute": ".sdk.attributes",
    "set_summary": ".sdk.attributes",
    "continue_as_new": ".sdk.context",
    "now": ".sdk.context",
    "random": ".sdk.context",
    "run_info": ".sdk.context",
    "sleep_until": ".sdk.context",
    "uuid4": ".sdk.context",
    "EntityHandler": ".sdk.entity",
    "Event": ".sdk.events",
    "wait_event": ".sdk.events",
    "ExternalWorkflow": ".sdk.external",
    "external_workflow": ".sdk.external",
    "Limit": ".sdk.limits",
    "Query": ".sdk.messages",
    "Signal": ".sdk.messages",
    "query": ".sdk.messages",
    "signal": ".sdk.messages",
    "deprecate_patch": ".sdk.patches",
    "patched": ".sdk.patches",
    "RetryPolicy": ".sdk.retry",
    "Saga": ".sdk.saga",
    "Failed": ".sdk.step",
    "Step": ".sdk.step",
    "StepInfo": ".sdk.step",
    "step_info": ".sdk.step",
    "Update": ".sdk.updates",
    "update": ".sdk.updates",
    "Workflow": ".sdk.workflow",
}
"""Where each name lives. It is imported at first use: engines, workers and step processes start without what only
callers need, and the command line hears Ctrl-C before anything is loaded (`orchestrator/cli/starting.py`).
"""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


del TYPE_CHECKING
