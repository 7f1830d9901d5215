"""One call: encode, send to the workflow's partition, wait for the reply with its id, send again until it comes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from orchestrator.codec.records import Codec
from orchestrator.codec.signatures import CommandSigner
from orchestrator.core.commands import Command, QueryWorkflow, TopicCommand
from orchestrator.core.ids import MAX_COMMAND_ID
from orchestrator.core.tasks import Reply, StopStep
from orchestrator.errors import KafkaUnavailable, LimitExceeded, ReplyTimeout, UndecodableRecord
from orchestrator.log.partitioner import partition_of
from orchestrator.sdk.debugger import debugged
from orchestrator.telemetry import tracing

from .rejections import rejection
from .requests import DEFAULT_OPTIONS, NO_REQUEST, ClientOptions, Request, new_command_id
from .transport import Transport

log = logging.getLogger(__name__)

MAX_COMMAND = 1_000_000
"""Bytes of an encoded command; topics take 1 MiB with their framing."""
UNANSWERED_S = 30.0
"""After how long an endless wait says, once, that nobody answers."""


class Call(NamedTuple):
    """A command on its way: where it goes and what it says on the wire."""

    command_id: str
    what: str
    partition: int
    key: bytes
    value: bytes


class Caller:
    """Sends commands and queries of one application and pairs replies with them. Belongs to one event loop."""

    def __init__(
        self,
        app: str,
        transport: Transport,
        options: ClientOptions = DEFAULT_OPTIONS,
        codec: Codec | None = None,
        sign: CommandSigner | None = None,
    ):
        self.app = app
        self.options = options
        self.on_stop: Callable[[StopStep], None] | None = None
        """Told, on the caller's loop, which attempts are to end: a worker's."""
        self._transport = transport
        self._codec = codec or Codec()
        self._sign = sign or CommandSigner(app, None)
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def partitions(self) -> int:
        """How many partitions the application's commands have."""
        return self._transport.partitions

    async def open(self) -> None:
        """Connect. Raises KafkaUnavailable."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._transport.open, self._heard)

    async def close(self) -> None:
        """Disconnect; calls under way end with KafkaUnavailable."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                _fail(
                    waiter,
                    KafkaUnavailable(
                        "the client was closed before the reply came; whether the command counts is unknown"
                    ),
                )
        await asyncio.to_thread(self._transport.close)

    async def command(
        self, workflow_id: str, body: TopicCommand, request: Request = NO_REQUEST, partition: int = -1
    ) -> Reply:
        """Send a command; return the reply that accepts it. `partition` is given where no workflow id says it.

        Raises CommandRejected or a subclass, ReplyTimeout, KafkaUnavailable, LimitExceeded.
        """
        with tracing.calling(type(body).__name__, workflow_id):
            call = self._call(workflow_id, body, request, partition)
            reply = await self._ask(call, request.timeout_s or self.options.timeout_s, self.options.resend_s)
        if reply.outcome == "rejected":
            raise rejection(reply)
        return reply

    async def query(
        self, workflow_id: str, body: QueryWorkflow, timeout_s: float | None = 0.0, partition: int = -1
    ) -> Reply:
        """Ask a question; return the reply, `answered` or `not_ready`.

        `timeout_s` 0 is the client's own, None is endless. `partition` is given where no workflow id says it
        (`list`). Raises as `command`.
        """
        call = self._call(workflow_id, body, NO_REQUEST, partition)
        limit = self.options.timeout_s if timeout_s == 0.0 else timeout_s
        reply = await self._ask(call, limit, body.wait_ms / 1000 + self.options.resend_s)
        if reply.outcome == "rejected":
            raise rejection(reply)
        return reply

    def _call(self, workflow_id: str, body: TopicCommand, request: Request, partition: int = -1) -> Call:
        command_id = request.command_id or new_command_id()
        what = f"{type(body).__name__} of {workflow_id}" if workflow_id else f"{type(body).__name__}"
        if len(command_id) > MAX_COMMAND_ID:
            raise LimitExceeded(
                f"{what}: a command id has at most {MAX_COMMAND_ID:,} characters, this one {len(command_id):,}: take a"
                " digest of it. Nothing was sent"
            )
        command = Command(
            id=command_id,
            workflow_id=workflow_id,
            body=body,
            actor=self.options.actor,
            reason=request.reason,
            time_ms=time.time_ns() // 1_000_000,
            trace=request.trace or tracing.current(),
            reply_to=self._transport.reply_to,
        )
        value = self._codec.encode_command(command)
        if len(value) > MAX_COMMAND:
            raise LimitExceeded(
                f"{what} is {len(value):,} bytes encoded, a command carries at most {MAX_COMMAND:,}: pass a reference"
                " to the data instead, or give this client the engines' blob directory. Nothing was sent"
            )
        key = workflow_id.encode()
        chosen = partition if partition >= 0 else partition_of(key, self._transport.partitions)
        return Call(command_id, what, chosen, key, value)

    async def _ask(self, call: Call, timeout_s: float | None, resend_s: float) -> Reply:
        loop = asyncio.get_running_loop()
        started = loop.time()
        waiter: asyncio.Future[Reply] = loop.create_future()
        self._waiting.setdefault(call.command_id, []).append(waiter)
        quiet, over = timeout_s is None, False
        try:
            while True:
                headers = self._sign.headers(call.value)
                self._transport.send(call.partition, call.key, call.value, self._sent(call, waiter), headers)
                waited = loop.time() - started
                left = resend_s if timeout_s is None or over else min(resend_s, timeout_s - waited)
                done, _ = await asyncio.wait([waiter], timeout=max(left, 0.0))
                if done:
                    return waiter.result()
                waited = loop.time() - started
                over = timeout_s is not None and waited >= timeout_s
                if over and not debugged():
                    raise ReplyTimeout(self._unanswered(call, waited))
                if quiet and waited >= UNANSWERED_S:
                    quiet = False
                    log.warning("still waiting: %s", self._unanswered(call, waited))
        finally:
            if not waiter.cancel() and not waiter.cancelled():
                # A caller that was cancelled just when its answer came, or the client closed: nobody else looks at it.
                waiter.exception()
            waiters = self._waiting[call.command_id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[call.command_id]

    def _unanswered(self, call: Call, waited: float) -> str:
        return (
            f"no reply to {call.what} in {waited:.0f} s (command {call.command_id}, {self.app}.commands partition"
            f" {call.partition}): whether it counts is unknown, and sending it again with the same id is safe. Is an"
            f" engine of {self.app} running? `orchestrator doctor` tells"
        )

    def _sent(self, call: Call, waiter: asyncio.Future[Reply]) -> Callable[[str], None]:
        loop = asyncio.get_running_loop()

        def done(reason: str) -> None:
            if reason:
                error = KafkaUnavailable(
                    f"{call.what} could not be sent to {self.app}.commands partition {call.partition}: {reason}"
                )
                _soon(loop, lambda: _fail(waiter, error))

        return done

    def _heard(self, value: bytes) -> None:
        """A record of the reply partition, from the transport's thread."""
        try:
            reply = self._codec.decode(value)
        except UndecodableRecord as error:
            log.warning("a record that is no reply, on this client's reply partition: %s", error)
            return
        if self._loop is None:
            return
        if isinstance(reply, Reply):
            _soon(self._loop, lambda: self._deliver(reply))
        elif isinstance(reply, StopStep) and self.on_stop is not None:
            _soon(self._loop, partial(self.on_stop, reply))

    def _deliver(self, reply: Reply) -> None:
        for waiter in self._waiting.get(reply.command_id, ()):
            if not waiter.done():
                waiter.set_result(reply)


def _fail(waiter: asyncio.Future[Reply], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    # A reply may arrive while the loop is closing: nobody waits for it any more.
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)
