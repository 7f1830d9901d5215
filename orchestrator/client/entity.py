"""A handle of an entity: reads, and calls of its handlers, all by one key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

from orchestrator.core import commands as c
from orchestrator.core.values import Payload
from orchestrator.sdk.entity import EntityHandler, entity_id
from orchestrator.sdk.workflow import Workflow

from .calls import Calls
from .code import Code, answer_of, query_of, start_of
from .handle import Handle
from .requests import Request
from .views import JsonObject, json_object

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E")


class EntityDescription(NamedTuple):
    """An entity as its partition has it: its state as JSON (None before the first change), the run of the call that has
    its turn (""), how many calls wait, and how many there were."""

    state: Any
    running: str
    waiting: int
    calls: int
    raw: JsonObject


async def ask_entity(calls: Calls, workflow_id: str, name: str, arguments: Payload) -> Payload:
    """The answer of a query of an entity. Raises CommandRejected when the method raises, ReplyTimeout."""
    return (await calls.caller.query(workflow_id, c.QueryWorkflow("entity", "", name, arguments))).result


class EntityHandle(Generic[E]):
    """Of one key. Asks nobody whether it exists: an entity begins with its first call."""

    def __init__(self, calls: Calls, name: str, key: str, request: Request) -> None:
        self.workflow_id = entity_id(name, key)
        self.key = key
        self._calls = calls
        self._request = request

    async def send(self, handler: EntityHandler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Call a handler; returns when the call is durable. It runs when those before it have ended.

        Raises ReplyTimeout, KafkaUnavailable, DoesNotRoundTrip.
        """
        workflow: Workflow[P, R] = handler.on(self.key)
        reply = await self._calls.start(self.workflow_id, start_of(workflow, args, kwargs), self._request)
        return Handle(self._calls, Code(workflow), self.workflow_id, reply.run_id)

    async def call(self, handler: EntityHandler[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a handler and wait for its result. Raises as `send` and `Handle.result`."""
        handle = await self.send(handler, *args, **kwargs)
        return await handle.result()

    async def query(self, handler: Callable[Concatenate[E, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Read by a `@query` method: from what the last call left, at once, whatever call runs.

        Raises CommandRejected when the method raises, or would change the entity; ReplyTimeout.
        """
        name, payload = query_of(handler, args, kwargs)
        answer: R = answer_of(handler, await ask_entity(self._calls, self.workflow_id, name, payload))
        return answer

    async def describe(self) -> EntityDescription:
        """The entity's state and its queue. Raises ReplyTimeout."""
        reply = await self._calls.ask(self.workflow_id, "entity")
        raw = json_object(reply, f"the description of {self.workflow_id}")
        return EntityDescription(raw["state"], str(raw["running"]), int(raw["waiting"]), int(raw["calls"]), raw)
