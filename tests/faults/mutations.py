"""Records that no honest client sends: bytes that are none of ours, commands with wild fields, real ones with bits
flipped. Everything follows from a seed."""

from __future__ import annotations

import random
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from orchestrator.codec.records import Codec
from orchestrator.core import commands as c, events as e, rows as r
from orchestrator.core.tasks import Reply, TaskOffer
from orchestrator.core.values import NOTHING, Payload, ReplyTo

TARGETS = 12
"""Runs that poison aims at, `t0` and so on; whatever becomes of them is their own affair."""
LARGEST = 60_000
HINTS: dict[Any, dict[str, Any]] = {}

INTEGERS = (0, 1, 2, 3, -1, -5, 7, 1_000, 60_000, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63), -(2**31))
FLOATS = (0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e308)
WORDS = (
    "", "0:1", "0:2", "0:-1", "complete", "completed", "fail", "failed", "started", "retry", "heartbeat", "cancelled",
    "allow", "reject", "use_existing", "terminate_existing", "queue", "skip", "buffer_all", "buffer_one", "allow_all",
    "cancel_other", "cancel_oldest", "cancel_newest", "round_robin", "describe", "result", "update", "history", "list",
    "routing", "schedule", "schedules", "limit", "limits", "events", "approvals", "approval", "code", "entity", "json",
    "bytes", "int", "str", "time", "go", "target", "doubles", "ok", "UTC", "Europe/Berlin", "../../etc/passwd", "/",
    "* * * * *", "*/0 * * * *", "0 0 30 2 *", "@hourly", "1-99999999", "a" * 300, "\x00", "é\U0001f600",
    "poison.events", "poison.commands", "poison.dead-letters", "poison.replies", "tasks.x", "\ud7ff\uffff", "{}", "[",
)  # fmt: skip
NESTED = b"[" * 4_000 + b"]" * 4_000
JSON = (
    b"null", b"{}", b"[]", b"1", b'"x"', b"", b"{", b"nul", b"\xff\xfe", b'{"x":1}', b"1e999", b"NaN", b"-0",
    b'"\\ud800"', NESTED, b'{"a":' * 1_500, b"9" * 5_000, b'{"limit":"x"}', b'{"limit":1e999}', b'{"after":5}',
    b'{"after":[1,2,3]}', b'{"after":["running",-1,{}]}', b'{"where":[["a","=","{"]]}', b'{"where":[[1]]}',
    b'{"where":7}', b'{"from_seq":-9223372036854775809}', b'{"from_seq":[]}', b'{"status":["x"]}', b'{"limit":-1}',
    b'{"task":{}}', b'{"approval":[]}', b'{"x":' + b"[" * 3_000 + b"]" * 3_000 + b"}", b"[" + b"[]," * 9_000 + b"[]]",
)  # fmt: skip


class Poison(NamedTuple):
    """A record, and which kind of mutation made it. None is Kafka's null: no key, a tombstone."""

    kind: str
    key: bytes | None
    value: bytes | None


class Mutator:
    """Makes poison from a seed: commands, or records of another `kind`."""

    def __init__(self, seed: int | str, reply_to: ReplyTo, kind: Any = None) -> None:
        self.rng = random.Random(f"poison/{seed}")
        self._codec = Codec()
        self._reply_to = reply_to
        self._kind = kind
        self.runs: list[tuple[str, str]] = []
        self.steps: list[tuple[str, str, str]] = []
        """Runs, and their steps, that were seen: a wild command is worth more where it meets one."""
        self._made: list[bytes] = []
        self._kinds: Sequence[tuple[str, Callable[[], bytes | None]]] = (
            *[("wild fields", self._wild)] * 12,
            *[("bit flips", self._flipped)] * 4,
            ("truncated", self._truncated),
            ("noise", lambda: self.rng.randbytes(self.rng.randrange(80))),
            ("noise behind a schema", lambda: self._header() + self.rng.randbytes(self.rng.randrange(200))),
            ("unknown fingerprint", lambda: b"\xc3\x01" + self.rng.randbytes(8) + self._body()),
            ("wrong magic", lambda: self.rng.randbytes(2) + self._whole()[2:]),
            ("a registry's framing", lambda: b"\x00" + self.rng.randbytes(4) + self._body()),
            ("bytes left over", lambda: self._whole() + self.rng.randbytes(self.rng.randrange(1, 20))),
            ("huge varint", lambda: self._spliced(b"\xff" * self.rng.choice((8, 9, 10, 11, 300)) + b"\x01")),
            ("number beyond 64 bits", lambda: self._spliced(b"\xff" * 9 + bytes([self.rng.randrange(2, 128)]))),
            ("huge array", lambda: self._spliced(b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f")),
            ("negative length", lambda: self._spliced(b"\x03")),
            ("not UTF-8", lambda: self._spliced(b"\x08\xff\xfe\xc0\x80")),
            ("a record of another kind", self._other_kind),
            ("deep recursion", self._deep),
            ("duplicate", self._whole),
            ("empty", lambda: b""),
            ("tombstone", lambda: None),
        )

    def next(self) -> Poison:
        """The next record."""
        kind, make = self.rng.choice(self._kinds)
        value = make()
        return Poison(kind, self._key(value), None if value is None else value[:LARGEST])

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _key(self, value: bytes | None) -> bytes | None:
        """Mostly the workflow id of the command, as producers do; else none, an empty one, or noise."""
        if self.rng.random() < 0.8 and value:
            try:
                return self._codec.decode_command(value).workflow_id.encode()[:1_000]
            except Exception:
                return self.rng.choice((b"t1", b"t2", b"t3"))
        return self.rng.choice((None, b"", b"\x00footer", b"\x00claim", b"\xff\xfe", b"k" * 2_000, b"t1"))

    def _header(self) -> bytes:
        return self._whole()[:10]

    def _body(self) -> bytes:
        return self._whole()[10:]

    def _whole(self) -> bytes:
        """A command as it may really come: one of the last ones, or a new one."""
        if self._made and self.rng.random() < 0.5:
            return self.rng.choice(self._made)
        return self._wild()

    def _wild(self) -> bytes:
        made = self._codec.encode(self.command() if self._kind is None else self.value(self._kind, ""))
        self._made.append(made)
        del self._made[:-200]
        return made

    def _flipped(self) -> bytes:
        data = bytearray(self._whole())
        for _ in range(self.rng.choice((1, 1, 1, 2, 8))):
            at = self.rng.randrange(min(len(data), 400))
            data[at] ^= 1 << self.rng.randrange(8)
        return bytes(data)

    def _truncated(self) -> bytes:
        whole = self._whole()
        return whole[: self.rng.randrange(len(whole))]

    def _spliced(self, what: bytes) -> bytes:
        """Put bytes somewhere into the body, over what is there or before it."""
        whole = self._whole()
        at = self.rng.randrange(10, min(len(whole), 300) + 1)
        return whole[:at] + what + whole[at + self.rng.choice((0, 1, len(what))) :]

    def _other_kind(self) -> bytes:
        return self.rng.choice(
            (
                self._codec.seal(e.Event("t1", "r", 1, e.TimerFired("0:1", 1))).value,
                self._codec.encode(Reply("id", "t1", "r", "accepted")),
                self._codec.encode(TaskOffer("t1", "r", "0:1", 1, "t", "n", NOTHING, "k")),
                self._codec.encode(r.CurrentRow("r")),
            )
        )

    def _deep(self) -> bytes:
        """An outbox row that holds an outbox row that holds ...: rows embed whole records."""
        return deep(self._codec, self.rng.choice((3, 100, 2_000)))

    # -- commands ----------------------------------------------------------------------------------------------------

    def command(self) -> c.Command:
        """A command whose bytes are in order and whose fields are anything."""
        kind = self.rng.choice(typing.get_args(c.TopicCommand))
        body = self.value(kind, "body")
        fresh = uuid.UUID(int=self.rng.getrandbits(128)).hex
        command_id = self.rng.choice((*[fresh] * 8, "same", self._text("id")))
        reply_to = None
        if self.rng.random() < 0.6:
            reply_to = self._reply_to if self.rng.random() < 0.9 else self.value(ReplyTo, "reply_to")
        workflow = self._workflow(kind)
        if "run_id" in body._fields and self.runs and self.rng.random() < 0.7:
            workflow, body = self._aimed(body)
        made = c.Command(command_id, workflow, body, reply_to=reply_to)
        return made if self.rng.random() < 0.7 else made._replace(actor=self.value(type(made.actor), "actor"))

    def _aimed(self, body: Any) -> tuple[str, Any]:
        """At a run that is there, and if it can be at a step of it."""
        if "step" not in body._fields or not self.steps:
            workflow, run = self.rng.choice(self.runs)
            return workflow, body._replace(run_id=run)
        workflow, run, step = self.rng.choice(self.steps)
        body = body._replace(run_id=run, step=step)
        if "token" in body._fields and self.rng.random() < 0.9:
            body = body._replace(attempt=1, token=f"{run}/{step}/1")
        return workflow, body

    def _workflow(self, kind: Any) -> str:
        """Mostly what the command is meant for: then it gets further than its first refusal."""
        name = kind.__name__
        if self.rng.random() < 0.85:
            if "Schedule" in name or (name == "ReportChild" and self.rng.random() < 0.5):
                return f"schedule/{self.rng.randrange(4)}"
            if "Event" in name and name != "DeliverEvent":
                return f"event/{self.rng.randrange(4)}"
            if name in ("AcquireSlots", "ReleaseSlots"):
                return f"limits/{self.rng.randrange(3)}"
            if name == "QueryWorkflow" and self.rng.random() < 0.5:
                return self.rng.choice(("", "event/1", "limits/1", "schedule/1", "counter/1"))
        return self.rng.choice((f"t{self.rng.randrange(TARGETS)}", self._text("workflow_id")))

    def _text(self, name: str) -> str:
        if name == "run_id" and self.rng.random() < 0.7:
            return self.rng.choice(self.runs)[1] if self.runs else ""
        if name == "workflow_type":
            return self.rng.choice(("target", "doubles", "counter.add", *WORDS))
        if name == "workflow_id":
            return self.rng.choice((f"t{self.rng.randrange(TARGETS)}", "schedule/1", "event/1", "limits/1", *WORDS))
        if name == "overlap":
            return self.rng.choice(("skip", "buffer_all", "allow_all", "cancel_other", *WORDS))
        if name in ("timezone",):
            return self.rng.choice(("UTC", "UTC", *WORDS))
        return self.rng.choice(WORDS)

    def _integer(self, name: str) -> int:
        found = self.rng.choice((*INTEGERS, self.rng.getrandbits(40)))
        # A schedule of every few milliseconds is refused, and nothing more would be learned of it.
        return found * 1_000_000 if name in ("every_ms",) and 0 < found < 1_000_000 else found

    def value(self, hint: Any, name: str) -> Any:
        """Any value of a type hint, for a field of that name."""
        rng = self.rng
        if hint is str:
            return self._text(name)
        if hint is int:
            return self._integer(name)
        if hint is bool:
            return rng.random() < 0.5
        if hint is float:
            return rng.choice(FLOATS)
        if hint is bytes:
            return rng.choice(JSON)
        if hint is Payload and rng.random() < 0.8:
            return Payload(data=rng.choice(JSON))
        if typing.get_origin(hint) is tuple:
            return tuple(self.value(typing.get_args(hint)[0], name) for _ in range(rng.choice((0, 1, 1, 2, 3))))
        if isinstance(hint, types.UnionType):
            inner = next(part for part in typing.get_args(hint) if part is not types.NoneType)
            return None if rng.random() < 0.5 else self.value(inner, name)
        hints = HINTS.setdefault(hint, typing.get_type_hints(hint))
        known = hint._field_defaults
        # Half of the fields that have a default keep it: else nothing gets past the first check.
        return hint(*(
            known[one] if one in known and rng.random() < 0.5 else self.value(hints[one], one) for one in hint._fields
        ))  # fmt: skip


def deep(codec: Codec, levels: int) -> bytes:
    """An outbox row within an outbox row, so many times."""
    row: Any = r.OutboxRow("replies", 0, "k", Reply("id", "t1", "r", "accepted"), "t1", "r")
    inner = codec.encode(row)
    marker = codec.encode(Reply("id", "t1", "r", "accepted"))
    at = inner.index(marker)
    # The length before the embedded bytes is a varint; it is written anew at each level, from the inside out.
    before = inner[: at - len(_length(len(marker)))]
    after = inner[at + len(marker) :]
    found = marker
    for _ in range(levels):
        found = before + _length(len(found)) + found + after
    return found


def _length(size: int) -> bytes:
    rest, out = size << 1, bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)
