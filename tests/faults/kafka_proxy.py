"""A TCP proxy that reads Kafka's request headers and applies scripted rules to single requests. It rewrites nothing.

It stands in front of a broker listener that is advertised on the proxy's own port. Every client connection has one
broker connection. A rule takes the n-th request of one API that comes after the rule was added:

- `hold`: the client's connection is dropped, the request is kept, and `release()` later delivers it on the broker
  connection that it would have used;
- `drop`: the request is lost together with the client's connection and the broker's;
- `disconnect`: the request reaches the broker, its response never reaches the client: the connection is dropped;
- `delay`: the request, and all behind it on its connection, wait `delay_s` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from dataclasses import dataclass, field
from typing import Literal

PRODUCE, METADATA, INIT_PRODUCER_ID, ADD_PARTITIONS, ADD_OFFSETS, END_TXN = 0, 3, 22, 24, 25, 26
WAIT_S = 30.0


@dataclass
class Rule:
    """What happens to the `nth` (from 1) request of an API; applied once, then `applied` is set."""

    api: int
    action: Literal["hold", "drop", "disconnect", "delay"]
    nth: int = 1
    delay_s: float = 0.0
    seen: int = 0
    applied: threading.Event = field(default_factory=threading.Event)

    def takes(self, api: int) -> bool:
        """Count this request; True if the rule is meant for it."""
        if api != self.api or self.applied.is_set():
            return False
        self.seen += 1
        return self.seen == self.nth


@dataclass(frozen=True)
class Request:
    """One request as it went through, in order of arrival."""

    api: int
    version: int
    correlation_id: int


@dataclass
class _Held:
    frame: bytes
    broker: asyncio.StreamWriter
    answered: threading.Event


class KafkaProxy:
    """The proxy in a thread of its own: `with KafkaProxy(port=listen, broker_port=upstream) as proxy:`.

    `seen` holds every request that arrived. `port` 0 chooses a free one (then read `port`).
    """

    def __init__(self, broker_port: int, port: int = 0) -> None:
        self.port = port
        self.seen: list[Request] = []
        self._broker_port = broker_port
        self._rules: list[Rule] = []
        self._held: list[_Held] = []
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka-proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> KafkaProxy:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(WAIT_S)
        except OSError:
            self._stop_loop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(WAIT_S)
        self._stop_loop()

    def add(self, rule: Rule) -> Rule:
        """Apply this rule from now on; its `applied` says when it has been."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def release(self) -> None:
        """Deliver every held request to the broker; returns when the broker has answered each (nobody hears it)."""
        with self._lock:
            held, self._held = self._held, []
        for item in held:
            self._loop.call_soon_threadsafe(item.broker.write, item.frame)
        for item in held:
            assert item.answered.wait(WAIT_S), "the broker did not answer a released request"

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client_in: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        broker: asyncio.StreamWriter | None = None
        try:
            broker_in, broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
            awaited: dict[int, threading.Event] = {}
            answers = asyncio.ensure_future(self._answers(broker_in, client, awaited))
            try:
                if await self._requests(client_in, client, broker, awaited):
                    await answers
            finally:
                answers.cancel()
        except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            pass  # either side has gone, or the proxy is closing: both connections are closed below
        finally:
            client.close()
            if broker is not None:
                broker.close()
            self._tasks.discard(task)

    async def _requests(
        self,
        client_in: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        broker: asyncio.StreamWriter,
        awaited: dict[int, threading.Event],
    ) -> bool:
        """Pass requests on until a rule ends the connection; whether the broker's answer is still to be awaited."""
        while True:
            head = await client_in.readexactly(4)
            body = await client_in.readexactly(struct.unpack(">i", head)[0])
            request = Request(*struct.unpack(">hhi", body[:8]))
            with self._lock:
                self.seen.append(request)
                rule = next((rule for rule in self._rules if rule.takes(request.api)), None)
            action = rule.action if rule is not None else "pass"
            if action in ("hold", "disconnect"):
                awaited[request.correlation_id] = threading.Event()
            if action == "hold":
                with self._lock:
                    self._held.append(_Held(head + body, broker, awaited[request.correlation_id]))
            elif action != "drop":
                await asyncio.sleep(rule.delay_s if rule is not None else 0)
                broker.write(head + body)
                await broker.drain()
            if action in ("hold", "disconnect", "drop"):
                client.transport.abort()
            if rule is not None:
                rule.applied.set()
            if action in ("hold", "disconnect", "drop"):
                return action != "drop"

    async def _answers(
        self, broker_in: asyncio.StreamReader, client: asyncio.StreamWriter, awaited: dict[int, threading.Event]
    ) -> None:
        """Pass whole answers on until the broker ends the connection or has given the answer that is awaited."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await broker_in.readexactly(4)
                body = await broker_in.readexactly(struct.unpack(">i", head)[0])
                answered = awaited.get(struct.unpack(">i", body[:4])[0])
                if answered is not None:
                    answered.set()
                    break
                if not client.is_closing():
                    client.write(head + body)
                    await client.drain()
        client.close()
