"""Durable execution on Kafka.

Workflows are ordinary sequential Python, every step is recorded before the next begins.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from .core.values import RetryPolicy
from .errors import (
    ChildCancelled,
    ChildFailed,
    OrchestratorError,
    StepCancelled,
    StepFailed,
    StepTimeout,
    WorkflowFailed,
)
from .sdk.app import Orchestrator
from .sdk.context import continue_as_new, now, random, run_info, uuid4
from .sdk.messages import Query, Signal, query, signal
from .sdk.step import Failed, Step, StepInfo, step_info
from .sdk.workflow import Workflow

__all__ = [
    "ChildCancelled",
    "ChildFailed",
    "Failed",
    "Orchestrator",
    "OrchestratorError",
    "Query",
    "RetryPolicy",
    "Signal",
    "Step",
    "StepCancelled",
    "StepFailed",
    "StepInfo",
    "StepTimeout",
    "Workflow",
    "WorkflowFailed",
    "continue_as_new",
    "now",
    "query",
    "random",
    "run_info",
    "signal",
    "step_info",
    "uuid4",
]


def _connect(app: Orchestrator, **settings: Any) -> AbstractAsyncContextManager[Any]:
    from .client.client import Client

    return Client.connect(app, **settings)


Orchestrator.connector = staticmethod(_connect)
