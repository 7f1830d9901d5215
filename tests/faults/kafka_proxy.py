"""A TCP proxy that reads Kafka's request headers and does harm to single requests. One file, standard library only.

It stands in front of a broker listener whose advertised address is the proxy's own. Every client connection has one
broker connection. What is passed on is passed on unchanged; only the action `error` makes bytes of its own.

  error         the proxy answers with an error code; the broker never sees the request
  error_behind  as `error`, but once the next request of its connection was passed on, or after the delay
  drop          the request is lost, the connection stays: the client waits for its time-out
  drop_answer   the broker carries the request out, its answer is lost, the connection stays
  delay         the request, and all behind it on its connection, wait
  delay_answer  the answer, and all behind it on its connection, wait
  disconnect    the connection ends instead of the request being passed on
  cut_answer    the broker carries the request out, the connection ends instead of the answer
  black_hole    from this request on nothing passes in either direction, and nothing says so
  reorder       the request is passed on after the next one of its connection
  late          the client's connection ends, and the request is delivered after the delay on the broker connection
                that it would have used: what a network does that still holds a packet of a connection given up;
                with until=API the delay begins when the next request of that API comes by
  hold          as `late`, whenever `release()` is called (from Python)

From the shell (it ends with Ctrl-C, and prints one JSON line for every fault that fired):

  python kafka_proxy.py --broker 127.0.0.1:19094 --listen 19095 --fault EndTxn:late:until=Produce,delay=0.5
  python kafka_proxy.py --broker 127.0.0.1:19094 --listen 19095 --chance 0.1 --apis EndTxn,Produce --seed 7

The broker must advertise the proxy's address for that listener, or clients go past the proxy:

  listeners=DIRECT://127.0.0.1:19092,PROXIED://127.0.0.1:19094
  advertised.listeners=DIRECT://127.0.0.1:19092,PROXIED://127.0.0.1:19095
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import random
import signal
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 0, 1, 2, 3, 8, 9, 10
JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP, INIT_PRODUCER_ID = 11, 12, 13, 14, 22
ADD_PARTITIONS, ADD_OFFSETS, END_TXN, TXN_OFFSET_COMMIT, CONSUMER_GROUP_HEARTBEAT = 24, 25, 26, 28, 68
APIS = {
    "Produce": PRODUCE, "Fetch": FETCH, "ListOffsets": LIST_OFFSETS, "Metadata": METADATA,
    "OffsetCommit": OFFSET_COMMIT, "OffsetFetch": OFFSET_FETCH, "FindCoordinator": FIND_COORDINATOR,
    "JoinGroup": JOIN_GROUP, "Heartbeat": HEARTBEAT, "LeaveGroup": LEAVE_GROUP, "SyncGroup": SYNC_GROUP,
    "InitProducerId": INIT_PRODUCER_ID, "AddPartitionsToTxn": ADD_PARTITIONS, "AddOffsetsToTxn": ADD_OFFSETS,
    "EndTxn": END_TXN, "TxnOffsetCommit": TXN_OFFSET_COMMIT, "ConsumerGroupHeartbeat": CONSUMER_GROUP_HEARTBEAT,
}  # fmt: skip
NAMES = {number: name for name, number in APIS.items()}
ACTIONS = (
    "error", "error_behind", "drop", "drop_answer", "delay", "delay_answer", "disconnect", "cut_answer", "black_hole",
    "reorder", "late", "hold",
)  # fmt: skip
NOT_COORDINATOR = 16
WAIT_S = 30.0


@dataclass
class Rule:
    """What happens to the `nth` (from 1) request of an API and to the `times - 1` after it; then `applied` is set."""

    api: int
    action: str
    nth: int = 1
    times: int = 1
    delay_s: float = 0.5
    code: int = NOT_COORDINATOR
    until: int = -1
    """The delay of `late` begins with the next request of this API, whoever sends it."""
    seen: int = 0
    fired: int = 0
    applied: threading.Event = field(default_factory=threading.Event)

    def takes(self, api: int) -> bool:
        """Count this request; True if the rule is meant for it."""
        if api != self.api or self.fired >= self.times:
            return False
        self.seen += 1
        return self.seen >= self.nth

    def done(self) -> None:
        """It was applied once more."""
        self.fired += 1
        if self.fired >= self.times:
            self.applied.set()


@dataclass
class Chaos:
    """Rules by chance: every request of these APIs meets one of the actions with probability `chance`."""

    seed: int
    apis: Sequence[int]
    chance: float
    actions: Sequence[str] = ("late", "delay", "delay_answer")
    least_s: float = 0.02
    most_s: float = 0.35

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def rule(self, api: int) -> Rule | None:
        """What this request meets."""
        if api not in self.apis or self._random.random() >= self.chance:
            return None
        return Rule(api, self._random.choice(self.actions), delay_s=self._random.uniform(self.least_s, self.most_s))


@dataclass
class _Held:
    frame: bytes
    broker: asyncio.StreamWriter
    answered: threading.Event


class _Reader:
    """Reads a request's body; `flexible` is Kafka's word for compact lengths and tagged fields."""

    def __init__(self, data: bytes, flexible: bool) -> None:
        self._data, self._at, self._flexible = data, 0, flexible

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        return int(value)

    def skip(self, size: int) -> None:
        self._at += size

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def _length(self, form: str) -> int:
        return self._varint() - 1 if self._flexible else self.number(form)

    def text(self, form: str = "h") -> bytes:
        size = max(0, self._length(form))
        self._at += size
        return self._data[self._at - size : self._at]

    def texts(self, before: int, size: int, after: int) -> None:
        """Pass over texts, bytes and texts."""
        for number in range(before + after):
            self.skip(size if number == before else 0)
            self.text()
        self.skip(0 if after else size)

    def tags(self) -> None:
        for _ in range(self._varint() if self._flexible else 0):
            self._varint()
            self._at += self._varint()

    def partition(self, size: int, rest: Callable[[], object] = lambda: None) -> int:
        """The number of a partition, of whose fields nothing else is wanted."""
        number = self.number("i")
        self.skip(size)
        rest()
        self.tags()
        return number

    def topics(self, partition: Callable[[], int]) -> list[tuple[bytes, list[int]]]:
        """An array of names, each with an array of what `partition` reads."""
        found = []
        for _ in range(max(0, self._length("i"))):
            name, parts = self.text(), []
            for _ in range(max(0, self._length("i"))):
                parts.append(partition())
            self.tags()
            found.append((name, parts))
        return found


class _Writer:
    """Writes an answer's body."""

    def __init__(self, flexible: bool) -> None:
        self.data, self._flexible = b"", flexible

    def put(self, form: str, *values: int) -> _Writer:
        self.data += struct.pack(f">{form}", *values)
        return self

    def length(self, size: int, form: str = "i") -> _Writer:
        """Of an array or a text; -1 is null. All of ours are short."""
        return self.put("B", size + 1) if self._flexible else self.put(form, size)

    def text(self, value: bytes | None = b"") -> _Writer:
        self.length(-1 if value is None else len(value), "h")
        self.data += value or b""
        return self

    def tags(self) -> _Writer:
        return self.put("B", 0) if self._flexible else self

    def topics(self, topics: list[tuple[bytes, list[int]]], partition: Callable[[int], object]) -> _Writer:
        self.length(len(topics))
        for name, parts in topics:
            self.text(name).length(len(parts))
            for number in parts:
                partition(number)
            self.tags()
        return self


VERSIONS = {
    PRODUCE: (3, 12, 9), FETCH: (7, 17, 12), LIST_OFFSETS: (4, 9, 6), METADATA: (13, 13, 9), OFFSET_COMMIT: (7, 9, 8),
    OFFSET_FETCH: (8, 9, 6), FIND_COORDINATOR: (1, 3, 3), JOIN_GROUP: (2, 6, 6), HEARTBEAT: (1, 4, 4),
    LEAVE_GROUP: (1, 2, 4), SYNC_GROUP: (1, 4, 4), INIT_PRODUCER_ID: (0, 5, 2), ADD_PARTITIONS: (0, 3, 3),
    ADD_OFFSETS: (0, 3, 3), END_TXN: (0, 4, 3), TXN_OFFSET_COMMIT: (3, 3, 3), CONSUMER_GROUP_HEARTBEAT: (0, 1, 0),
}  # fmt: skip
"""The first and the last version of each API that `error` can answer, and the first one that is flexible."""


def error_answer(frame: bytes, code: int) -> bytes:
    """The answer, without its length, by which a broker refuses this request. Raises ValueError where it cannot."""
    api, version, correlation, client = struct.unpack_from(">hhih", frame)
    least, most, flexible_from = VERSIONS.get(api, (0, -1, 0))
    if not least <= version <= most:
        raise ValueError(f"no error answer is known for {NAMES.get(api, api)} v{version}")
    flexible = version >= flexible_from
    reader, out = _Reader(frame[10 + max(0, client) :], flexible), _Writer(flexible)
    reader.tags()
    out.put("i", correlation).tags()
    if api in _BODIES:
        _BODIES[api](reader, out, version, code)
    else:
        out.put("ih", 0, code)
    return out.tags().data


def _add_partitions(reader: _Reader, out: _Writer, version: int, code: int) -> None:
    reader.texts(1, 10, 0)
    topics = reader.topics(lambda: reader.number("i"))
    out.put("i", 0).topics(topics, lambda number: out.put("ih", number, code).tags())


def _produce(reader: _Reader, out: _Writer, version: int, code: int) -> None:
    reader.texts(1, 6, 0)

    def write(number: int) -> None:
        out.put("ihqq", number, code, -1, -1).put("q" * (version >= 5), *[-1] * (version >= 5))
        if version >= 8:
            out.length(0).text(None)
        out.tags()

    out.topics(reader.topics(lambda: reader.partition(0, lambda: reader.text("i"))), write).put("i", 0)


def _list_offsets(reader: _Reader, out: _Writer, version: int, code: int) -> None:
    reader.skip(5)
    topics = reader.topics(lambda: reader.partition(12))
    out.put("i", 0).topics(topics, lambda number: out.put("ihqqi", number, code, -1, -1, -1).tags())


def _offset_commit(reader: _Reader, out: _Writer, version: int, code: int, head: tuple[int, int, int]) -> None:
    reader.texts(*head)
    topics = reader.topics(lambda: reader.partition(12, reader.text))
    out.put("i", 0).topics(topics, lambda number: out.put("ih", number, code).tags())


def _offset_fetch(reader: _Reader, out: _Writer, version: int, code: int) -> None:
    reader.skip(1)  # one group is answered, the first
    out.put("i", 0).length(1).text(reader.text()).length(0).put("h", code).tags()


_BODIES: dict[int, Callable[[_Reader, _Writer, int, int], object]] = {
    PRODUCE: _produce,
    FETCH: lambda reader, out, version, code: out.put("ihi", 0, code, 0).length(0),
    LIST_OFFSETS: _list_offsets,
    METADATA: lambda reader, out, version, code: (
        out.put("i", 0).length(0).text(None).put("i", -1).length(0).put("h", code)
    ),
    OFFSET_COMMIT: functools.partial(_offset_commit, head=(1, 4, 2)),
    OFFSET_FETCH: _offset_fetch,
    FIND_COORDINATOR: lambda reader, out, version, code: (
        out.put("ih", 0, code).text(None).put("i", -1).text().put("i", -1)
    ),
    JOIN_GROUP: lambda reader, out, version, code: out.put("ihi", 0, code, -1).text().text().text().length(0),
    SYNC_GROUP: lambda reader, out, version, code: out.put("ih", 0, code).length(0),
    INIT_PRODUCER_ID: lambda reader, out, version, code: out.put("ihqh", 0, code, -1, -1),
    ADD_PARTITIONS: _add_partitions,
    TXN_OFFSET_COMMIT: functools.partial(_offset_commit, head=(2, 14, 2)),
    CONSUMER_GROUP_HEARTBEAT: lambda reader, out, version, code: (
        out.put("ih", 0, code).text(None).text(None).put("iib", 0, 0, -1)
    ),
}


_NONE = Rule(-1, "")


class _Ended(Exception):
    """A rule ended this connection."""


class _Connection:
    """One client connection and its broker connection."""

    def __init__(self, proxy: KafkaProxy, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self._proxy, self._client, self._broker = proxy, client, broker
        self._fates: dict[int, Rule] = {}
        self._held: dict[int, threading.Event] = {}
        self._dark = False
        self._behind: tuple[bytes, Rule] | None = None
        self.outlives = False
        """Whether the broker's answers are still waited for once the client has gone."""

    async def requests(self, client_in: asyncio.StreamReader) -> None:
        """Pass requests on until either side has gone or a rule ends it."""
        while True:
            frame = await _frame(client_in, None if self._behind is None else self._behind[1].delay_s)
            if frame is None:
                await self._overtaken(alone=True)
                continue
            api, _, correlation = struct.unpack_from(">hhi", frame, 4)
            rule = None if self._dark or self._behind is not None else self._proxy.rule_for(api)
            if self._dark:
                continue
            if rule is not None:
                await self._harm(frame, correlation, rule)
                continue
            await self._pass(frame)
            if self._behind is not None:
                await self._overtaken(alone=False)

    async def _pass(self, frame: bytes) -> None:
        self._broker.write(frame)
        await self._broker.drain()

    async def _overtaken(self, alone: bool) -> None:
        """What waited for another request. If none came (`alone`), `reorder` has not fired, and waits on."""
        assert self._behind is not None
        (frame, rule), self._behind = self._behind, None
        if rule.action == "reorder":
            await self._pass(frame)
        else:
            answer = error_answer(frame[4:], rule.code)
            self._client.write(struct.pack(">i", len(answer)) + answer)
        if rule.action != "reorder" or not alone:
            self._proxy.fired(rule)

    async def _harm(self, frame: bytes, correlation: int, rule: Rule) -> None:
        action = rule.action
        if action in ("reorder", "error", "error_behind"):
            self._behind = frame, rule
            if action == "error":
                await self._overtaken(alone=True)
            return
        if action in ("drop_answer", "delay_answer", "cut_answer"):
            self._fates[correlation] = rule
            await self._pass(frame)
        elif action == "delay":
            await asyncio.sleep(rule.delay_s)
            await self._pass(frame)
        elif action == "black_hole":
            self._dark = True
        elif action in ("late", "hold"):
            answered = self._held[correlation] = threading.Event()
            self._client.transport.abort()
            if action == "hold":
                self._proxy.keep(_Held(frame, self._broker, answered))
            self._proxy.fired(rule)
            if action == "late":
                if rule.until >= 0:
                    await self._proxy.next_of(rule.until)
                await asyncio.sleep(rule.delay_s)
                await self._pass(frame)
            self.outlives = True
            raise _Ended
        self._proxy.fired(rule)
        if action == "disconnect":
            self._client.transport.abort()
            raise _Ended

    async def answers(self, broker_in: asyncio.StreamReader) -> None:
        """Pass whole answers on until the broker ends the connection or has given the answer that is awaited."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(broker_in, None)
                assert frame is not None
                (correlation,) = struct.unpack_from(">i", frame, 4)
                if correlation in self._held:
                    self._held[correlation].set()
                    break
                rule = self._fates.pop(correlation, _NONE)
                if rule.action == "cut_answer":
                    break
                if rule.action == "delay_answer":
                    await asyncio.sleep(rule.delay_s)
                if not (rule.action == "drop_answer" or self._dark or self._client.is_closing()):
                    self._client.write(frame)
                    await self._client.drain()
        self._client.close()


async def _frame(stream: asyncio.StreamReader, patience_s: float | None) -> bytes | None:
    """The next whole frame with its length; None if none begins in time."""
    try:
        first = await asyncio.wait_for(stream.readexactly(1), patience_s)
    except TimeoutError:
        return None
    head = first + await stream.readexactly(3)
    return head + await stream.readexactly(struct.unpack(">i", head)[0])


class KafkaProxy:
    """The proxy in a thread of its own: `with KafkaProxy(upstream, port=listen) as proxy:`.

    `counts` has every fault that fired by (API, action). `port` 0 chooses a free one (then read `port`). `told` is
    called with each rule that fired.
    """

    def __init__(self, broker_port: int, port: int = 0, host: str = "127.0.0.1") -> None:
        self.port = port
        self.counts: Counter[tuple[int, str]] = Counter()
        self.chaos: Chaos | None = None
        self.told: Callable[[Rule], None] = lambda rule: None
        self._broker = (host, broker_port)
        self._waiting: dict[int, list[asyncio.Event]] = {}
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

    def heal(self) -> None:
        """No rule, and no chance, is in force any more."""
        with self._lock:
            self._rules.clear()
            self.chaos = None

    def rule_for(self, api: int) -> Rule | None:
        """The rule that is meant for this request."""
        for event in self._waiting.pop(api, ()):
            event.set()
        with self._lock:
            rule = next((rule for rule in self._rules if rule.takes(api)), None)
            if rule is None and self.chaos is not None:
                rule = self.chaos.rule(api)
            return rule

    async def next_of(self, api: int) -> None:
        """Wait until a request of this API comes by."""
        self._waiting.setdefault(api, []).append(event := asyncio.Event())
        await event.wait()

    def fired(self, rule: Rule) -> None:
        """Count it."""
        with self._lock:
            self.counts[rule.api, rule.action] += 1
        rule.done()
        self.told(rule)

    def keep(self, held: _Held) -> None:
        """Until it is released."""
        with self._lock:
            self._held.append(held)

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
        self._tasks.add(task)  # type: ignore[arg-type]
        broker: asyncio.StreamWriter | None = None
        try:
            broker_in, broker = await asyncio.open_connection(*self._broker)
            connection = _Connection(self, client, broker)
            answers = asyncio.ensure_future(connection.answers(broker_in))
            try:
                await connection.requests(client_in)
            except _Ended:
                if connection.outlives:
                    await answers
            finally:
                answers.cancel()
        except (asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
            pass  # either side has gone, or the proxy is closing: both connections are closed below
        finally:
            client.close()
            if broker is not None:
                broker.close()
            self._tasks.discard(task)


def parse_fault(text: str) -> Rule:
    """`API:ACTION[:name=value,...]`. Raises ValueError."""
    api, action, *more = text.split(":", 2)
    if api not in APIS or action not in ACTIONS or action == "hold":
        raise ValueError(f"{text}: API:ACTION[:nth=N,times=N,delay=SECONDS,code=N,until=API]")
    given = dict(part.split("=", 1) for part in ",".join(more).split(",") if part)
    nth, times = int(given.pop("nth", 1)), int(given.pop("times", 1))
    delay_s, code = float(given.pop("delay", 0.5)), int(given.pop("code", NOT_COORDINATOR))
    until = given.pop("until", "")
    if given or (until and until not in APIS):
        raise ValueError(f"{text}: what is {', '.join(given) or until}?")
    return Rule(APIS[api], action, nth, times, delay_s, code, APIS.get(until, -1))


def _tell(rule: Rule) -> None:
    print(json.dumps({"api": NAMES[rule.api], "action": rule.action, "delay_s": round(rule.delay_s, 3)}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", required=True, metavar="HOST:PORT", help="the listener that it stands before")
    parser.add_argument("--listen", type=int, required=True, metavar="PORT", help="where clients come, on 127.0.0.1")
    parser.add_argument("--fault", action="append", default=[], metavar="API:ACTION[:nth=N,times=N,delay=S,...]")
    parser.add_argument("--chance", type=float, default=0.0, help="harm by chance: the probability for each request")
    parser.add_argument("--apis", default="EndTxn,AddPartitionsToTxn,Produce", help="whose requests, with --chance")
    parser.add_argument("--actions", default="late,delay,delay_answer", help="which actions, with --chance")
    parser.add_argument("--delay", default="0.02-0.35", metavar="LEAST-MOST", help="seconds, with --chance")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--seconds", type=float, default=0.0, help="end by itself after so long")
    options = parser.parse_args(arguments)
    try:
        host, port = options.broker.rsplit(":", 1)
        rules = [parse_fault(text) for text in options.fault]
        chosen = [APIS[name] for name in options.apis.split(",")]
        least, most = map(float, options.delay.split("-"))
    except (KeyError, ValueError) as error:
        parser.error(str(error))
    with KafkaProxy(int(port), options.listen, host) as proxy:
        proxy.told = _tell
        for rule in rules:
            proxy.add(rule)
        if options.chance:
            proxy.chaos = Chaos(options.seed, chosen, options.chance, options.actions.split(","), least, most)
        print(f"127.0.0.1:{proxy.port} before {options.broker}, seed {options.seed}", file=sys.stderr, flush=True)
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))  # background jobs of a shell ignore it
        threading.Event().wait(options.seconds or None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
