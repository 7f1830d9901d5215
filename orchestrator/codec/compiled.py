"""Avro's binary encoding by generated functions: one reader and one writer a record type, straight to named tuples.

What fastavro does in two passes over a dictionary (its own, then ours) these do in one: the encoding was a third of the
engine's time (docs/adr/0008-compiled-avro.md). The schemas stay the contract, and fastavro, which parses and
fingerprints them, is the oracle of these functions' tests.

Source: Apache Avro 1.12 specification, "Binary encoding".
"""

from __future__ import annotations

import struct
import threading
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

Reader = Callable[[bytes, int], tuple[Any, int]]
"""(buffer, offset) to (value, offset after it)."""
Writer = Callable[[Any], bytes]

SMALL = 8_192
"""Numbers below this are looked up, not computed."""


# -- numbers -----------------------------------------------------------------------------------------------------------


def number(value: int) -> bytes:
    """A zigzag varint. Raises OverflowError beyond 64 bits."""
    if not -(1 << 63) <= value < 1 << 63:
        raise OverflowError(f"{value} does not fit in an Avro long (64 bits)")
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def read_number(buffer: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint and where the next value begins. Raises ValueError beyond 64 bits, IndexError at the end."""
    rest = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        rest |= (byte & 127) << shift
        if byte < 128 and (shift < 63 or byte < 2):
            return (rest >> 1) ^ -(rest & 1), at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _read_length(buffer: bytes, at: int) -> tuple[int, int]:
    length, at = read_number(buffer, at)
    if length < 0:
        raise ValueError(f"a length of {length}")
    return length, at


def _read_count(buffer: bytes, at: int) -> tuple[int, int]:
    """Items of an array's block; a negative count is followed by the block's size in bytes."""
    count, at = read_number(buffer, at)
    if count < 0:
        _, at = read_number(buffer, at)
        return -count, at
    return count, at


def _flag(byte: int) -> bool:
    if byte > 1:
        raise ValueError(f"a boolean of {byte}")
    return byte == 1


def _branch(byte: int) -> bool:
    """Whether an optional value is there. Every union of ours is [null, type]."""
    if byte == 0:
        return False
    if byte == 2:
        return True
    raise ValueError(f"branch {byte} of a union of two")


_TOOLS: Mapping[str, Any] = types.MappingProxyType(
    {
        "SMALL": tuple(map(number, range(SMALL))),
        "number": lru_cache(maxsize=4_096)(number),
        "double": struct.Struct("<d").pack,
        "read_double": struct.Struct("<d").unpack_from,
        "read_number": read_number,
        "read_length": _read_length,
        "read_count": _read_count,
        "flag": _flag,
        "branch": _branch,
        "join": b"".join,
        "new": tuple.__new__,
    }
)


# -- hints -------------------------------------------------------------------------------------------------------------


def is_named_tuple(hint: Any) -> bool:
    """Whether a hint is one of core's records."""
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _optional(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def _inner(hint: Any) -> Any:
    """The hint without `| None`."""
    return next(part for part in typing.get_args(hint) if part is not types.NoneType) if _optional(hint) else hint


def _absent(cls: Any, name: str) -> Any:
    """What a null stands for: None, or the default of a field that cannot be None."""
    if name not in cls._fields or _optional(_hints(cls)[name]):
        return None
    return cls._field_defaults.get(name)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


class Embedded(NamedTuple):
    """Which hint stands for Avro `bytes` that hold a whole record of their own, and how it gets in and out."""

    hint: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


# -- the compiler ------------------------------------------------------------------------------------------------------


class Compiler:
    """Compiles one schema file's record and those nested in it.

    `shared` are values that many records carry by identity (written from a constant, read by comparing bytes);
    `cached` classes are written once a value. `embed` says which hints stand for `bytes` that hold a whole record, with
    the functions that put it in and take it out.
    """

    def __init__(
        self,
        shared: Iterable[Any] = (),
        cached: Iterable[Any] = (),
        embedded: Embedded | None = None,
    ) -> None:
        self._shared = {type(value): value for value in shared}
        self._cached = frozenset(cached)
        self._embedded = embedded
        self._names: dict[str, Any] = dict(_TOOLS)
        if embedded is not None:
            self._names |= {"encode": embedded.encode, "decode": embedded.decode}
        # Functions are compiled at first use, by whichever threads come: they number what they make.
        self._lock = threading.Lock()
        self._made: dict[tuple[str, Any], str] = {}
        self._named: dict[str, Any] = {}

    def writer(self, schema: Any, cls: Any, head: tuple[Any, str] | None = None) -> Writer:
        """From a value of `cls` to bytes. `head` (class, field): the value is the class's, with ours in that field."""
        with self._lock:
            self._learn(schema)
            return typing.cast(Writer, self._names[self._writer(schema, cls, head)])

    def reader(self, schema: Any, cls: Any, head: tuple[Any, str] | None = None) -> Reader:
        """The inverse. Fields that the schema lacks take their defaults. Raises what malformed bytes lead it into."""
        with self._lock:
            self._learn(schema)
            return typing.cast(Reader, self._names[self._reader(schema, cls, head)])

    def rest_reader(self, schema: Any, cls: Any, outer: Any, behind: str) -> Reader:
        """Where a value of `cls` stands in one of `outer`: a reader that begins behind a field, and gives it alone."""
        names = [field["name"] for field in schema["fields"]]
        rest = {**schema, "fields": schema["fields"][names.index(behind) + 1 :]}
        with self._lock:
            self._learn(schema)
            return typing.cast(Reader, self._names[self._reader(rest, cls, (outer, ""))])

    def _learn(self, schema: Any) -> None:
        """Note the named records of a schema: a second use of one is its name alone."""
        if isinstance(schema, list):
            for part in schema:
                self._learn(part)
        elif isinstance(schema, dict):
            if schema["type"] == "record":
                self._named[schema["name"]] = schema
                for field in schema["fields"]:
                    self._learn(field["type"])
            elif schema["type"] == "array":
                self._learn(schema["items"])

    def _embeds(self, hint: Any) -> bool:
        return self._embedded is not None and hint == self._embedded.hint

    def _define(self, kind: str, key: Any, lines: list[str]) -> str:
        name = f"{kind}_{len(self._made)}"
        self._made[kind, key] = name
        exec(compile("\n".join([f"def {name}{lines[0]}", *lines[1:]]), f"<avro {kind} of {key}>", "exec"), self._names)
        return name

    def _constant(self, value: Any) -> str:
        name = f"constant_{len(self._names)}"
        self._names[name] = value
        return name

    # -- writers -------------------------------------------------------------------------------------------------------

    def _writer(self, schema: Any, cls: Any, head: tuple[Any, str] | None = None) -> str:
        key = (schema["name"], cls.__name__)
        if ("write", key) in self._made:
            return self._made["write", key]
        lines = ["(value):"]
        fields = dict(_hints(cls))
        if head is not None:
            outer, at = head
            lines.append(f"    {_unpack(outer, f'body_{at}')} = value")
            lines.append(f"    {_unpack(cls)} = body_{at}")
            fields = {**_hints(outer), **fields}
        else:
            lines.append(f"    {_unpack(cls)} = value")
        parts: list[str] = []
        for field in schema["fields"]:
            name = field["name"]
            self._write(lines, parts, f"f_{name}", field["type"], fields[name], _absent(cls, name))
        lines.append(f"    return join(({', '.join(parts)},))" if parts else "    return b''")
        name = self._define("write", key, lines)
        if cls in self._cached:
            self._names[name] = lru_cache(maxsize=1_024)(self._names[name])
        shared = self._shared.get(cls)
        if shared is not None:
            self._names[f"{name}_all"] = self._names[name]
            constant, same = self._constant(self._names[name](shared)), self._constant(shared)
            text = f"def {name}(value):\n    return {constant} if value is {same} else {name}_all(value)"
            exec(compile(text, f"<avro write of {key}>", "exec"), self._names)
        return name

    def _write(self, lines: list[str], parts: list[str], var: str, schema: Any, hint: Any, absent: Any = None) -> None:
        """Append what computes a value's bytes to `lines`, and the expressions that name them to `parts`.

        `absent` is written as null where the schema allows one.
        """
        if isinstance(schema, list):
            inner_lines: list[str] = []
            inner: list[str] = []
            self._write(inner_lines, inner, var, schema[1], _inner(hint))
            missing = f"{var} is None" if absent is None else f"{var} == {self._constant(absent)}"
            lines.append(f"    if {missing}: {var}_o = b'\\0'")
            lines.append("    else:")
            lines += [f"    {line}" for line in inner_lines]
            lines.append(f"        {var}_o = join((b'\\2', {', '.join(inner)}))")
            parts.append(f"{var}_o")
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind == "long":
            parts.append(f"SMALL[{var}] if 0 <= {var} < {SMALL} else number({var})")
        elif kind in ("string", "bytes"):
            encode = f"{var}.encode()" if kind == "string" else var
            if kind == "bytes" and self._embeds(hint):
                encode = f"encode({var})"
            lines.append(f"    {var}_b = {encode}; {var}_n = len({var}_b)")
            parts.append(f"SMALL[{var}_n] if {var}_n < {SMALL} else number({var}_n)")
            parts.append(f"{var}_b")
        elif kind == "boolean":
            parts.append(f"b'\\1' if {var} else b'\\0'")
        elif kind == "double":
            parts.append(f"double({var})")
        elif kind == "array":
            self._write_array(lines, parts, var, schema["items"], typing.get_args(hint)[0])
        else:
            record = self._named.get(kind, schema)
            parts.append(f"{self._writer(record, hint)}({var})")

    def _write_array(self, lines: list[str], parts: list[str], var: str, items: Any, hint: Any) -> None:
        inner_lines: list[str] = []
        inner: list[str] = []
        self._write(inner_lines, inner, f"{var}_i", items, hint)
        lines.append(f"    if not {var}: {var}_a = b'\\0'")
        lines.append("    else:")
        lines.append(f"        {var}_l = [number(len({var}))]")
        lines.append(f"        for {var}_i in {var}:")
        lines += [f"        {line}" for line in inner_lines]
        lines.append(f"            {var}_l += ({', '.join(inner)},)")
        lines.append(f"        {var}_l.append(b'\\0'); {var}_a = join({var}_l)")
        parts.append(f"{var}_a")

    # -- readers -------------------------------------------------------------------------------------------------------

    def _reader(self, schema: Any, cls: Any, head: tuple[Any, str] | None = None) -> str:
        key = (schema["name"], cls.__name__, len(schema["fields"]))
        if ("read", key) in self._made:
            return self._made["read", key]
        lines = ["(buffer, at):"]
        shared = self._shared.get(cls)
        if shared is not None:
            written = self._names[self._writer(schema, cls)](shared)
            lines.append(f"    if buffer.startswith({self._constant(written)}, at):")
            lines.append(f"        return {self._constant(shared)}, at + {len(written)}")
        there = {field["name"] for field in schema["fields"]}
        fields = {**(_hints(head[0]) if head else {}), **_hints(cls)}
        for field in schema["fields"]:
            name = field["name"]
            self._read(lines, f"f_{name}", field["type"], fields[name], "    ", _absent(cls, name))
        value = self._make(cls, there)
        # Without a place in it, what is the outer class's is read over.
        if head is not None and head[1]:
            outer, at = head
            value = self._make(outer, there, {at: value})
        lines.append(f"    return {value}, at")
        return self._define("read", key, lines)

    def _make(self, cls: Any, there: set[str], given: Mapping[str, str] = types.MappingProxyType({})) -> str:
        """The expression that makes a named tuple of what was read."""
        parts = []
        for name in cls._fields:
            if name in given:
                parts.append(given[name])
            else:
                parts.append(f"f_{name}" if name in there else self._constant(cls._field_defaults.get(name)))
        return f"new({self._constant(cls)}, ({', '.join(parts)}{',' if parts else ''}))"

    def _read(self, lines: list[str], var: str, schema: Any, hint: Any, pad: str, absent: Any = None) -> None:
        if isinstance(schema, list):
            lines.append(f"{pad}at += 1")
            lines.append(f"{pad}if branch(buffer[at - 1]):")
            self._read(lines, var, schema[1], _inner(hint), pad + "    ")
            lines.append(f"{pad}else: {var} = {'None' if absent is None else self._constant(absent)}")
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind == "long":
            lines.append(f"{pad}byte = buffer[at]")
            lines.append(f"{pad}if byte < 128: {var} = (byte >> 1) ^ -(byte & 1); at += 1")
            lines.append(f"{pad}else: {var}, at = read_number(buffer, at)")
        elif kind in ("string", "bytes"):
            lines.append(f"{pad}end = buffer[at]")
            lines.append(f"{pad}if end & 129: end, at = read_length(buffer, at); end += at")
            lines.append(f"{pad}else: at += 1; end = at + (end >> 1)")
            taken = "buffer[at:end].decode()" if kind == "string" else "buffer[at:end]"
            lines.append(f"{pad}{var} = {f'decode({taken})' if self._embeds(hint) else taken}; at = end")
        elif kind == "boolean":
            lines.append(f"{pad}{var} = flag(buffer[at]); at += 1")
        elif kind == "double":
            lines.append(f"{pad}({var},) = read_double(buffer, at); at += 8")
        elif kind == "array":
            self._read_array(lines, var, schema["items"], typing.get_args(hint)[0], pad)
        else:
            record = self._named.get(kind, schema)
            lines.append(f"{pad}{var}, at = {self._reader(record, hint)}(buffer, at)")

    def _read_array(self, lines: list[str], var: str, items: Any, hint: Any, pad: str) -> None:
        lines.append(f"{pad}{var}_l = []")
        lines.append(f"{pad}count_{var}, at = read_count(buffer, at)")
        lines.append(f"{pad}while count_{var}:")
        lines.append(f"{pad}    for _ in range(count_{var}):")
        self._read(lines, f"{var}_i", items, hint, pad + "        ")
        lines.append(f"{pad}        {var}_l.append({var}_i)")
        lines.append(f"{pad}    count_{var}, at = read_count(buffer, at)")
        lines.append(f"{pad}{var} = tuple({var}_l)")


def _unpack(cls: Any, body: str = "") -> str:
    """The names that a named tuple is taken apart into."""
    names = [body if body == f"body_{name}" else f"f_{name}" for name in cls._fields]
    return f"({', '.join(names)},)" if names else "()"
