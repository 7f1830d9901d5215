"""A step that somebody outside speaks for: a webhook, another process, a person."""

from __future__ import annotations

from typing import Any

from orchestrator.codec.payloads import adapter
from orchestrator.core.ids import of_idempotency_key
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Failure
from orchestrator.errors import ConfigurationError

from .calls import Calls
from .requests import NO_REQUEST, Request


class StepHandle:
    """One step, by the idempotency key that it handed on (`step_info().idempotency_key`).

    Every method returns once its effect is durable, and raises CommandRejected when the step waits for nothing any
    more, RunClosed, ReplyTimeout and KafkaUnavailable.
    """

    def __init__(self, calls: Calls, key: str, request: Request = NO_REQUEST) -> None:
        """Raises ConfigurationError when `key` is no idempotency key."""
        try:
            self.workflow_id, self.run_id, self.step = of_idempotency_key(key)
        except ValueError:
            raise ConfigurationError(
                f"{key!r} is no idempotency key of a step: three parts with / between them, as"
                " step_info().idempotency_key gives it"
            ) from None
        self._calls = calls
        self._request = request

    def __repr__(self) -> str:
        return f"StepHandle({self.workflow_id!r}, {self.run_id!r}, {self.step!r})"

    async def complete(self, result: Any = None) -> Reply:
        """Give the step its result, as if it had returned that. An attempt that runs is told to end."""
        payload = adapter(Any).encode(result)
        return await self._calls.complete_step(self.workflow_id, self.run_id, self.step, payload, self._request)

    async def fail(self, message: str, error_type: str = "StepFailed") -> Reply:
        """End the step with an error that the workflow's code sees. It is not tried again."""
        failure = Failure(error_type, message, retryable=False)
        return await self._calls.fail_step(self.workflow_id, self.run_id, self.step, failure, self._request)

    async def heartbeat(self, details: Any = None) -> Reply:
        """Say that the step is alive; its next attempt gets `details`."""
        payload = adapter(Any).encode(details)
        return await self._calls.beat_step(self.workflow_id, self.run_id, self.step, payload, self._request)
