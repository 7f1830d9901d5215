"""The file of `audit export`: JSON lines, each with a running sum over all before it, the last one a signature.

`sum` is the last member of a line: SHA-256 of the sum before it (32 zero bytes at first) and the line's bytes up to
`,"sum":`. So whatever was changed, removed or put in shows at its line, and every byte of the file counts. The last
line's signature is Ed25519 over `signed_bytes`. No Avro is needed to check any of this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..codec.signing import PublicKeys, Signer
from ..errors import BundleRefused

FORMAT = "orchestrator.bundle.v1"
NO_SUM = b"\x00" * 32
_MEMBER = b',"sum":"'
_TAIL = len(_MEMBER) + 64 + len(b'"}')

Json = dict[str, Any]


class Line(NamedTuple):
    """One line of a bundle; `number` counts from 1."""

    number: int
    kind: str
    content: Json


class Signature(NamedTuple):
    """Who signed a bundle, and when by that hand's clock."""

    key_id: str
    at_ms: int
    lines: int


def signed_bytes(total: bytes, key_id: str, at_ms: int, lines: int) -> bytes:
    """What the signature covers: the sum of the line before it, and what its own line says.

    The format's name and then each part: its length (four bytes, big-endian) and its bytes; numbers as decimal digits.
    """
    parts = [FORMAT.encode()]
    for data in (total, key_id.encode(), str(at_ms).encode(), str(lines).encode()):
        parts += [len(data).to_bytes(4, "big"), data]
    return b"".join(parts)


class BundleWriter:
    """Writes lines; `sign` ends it. What is not signed is no bundle."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sum = NO_SUM
        self.lines = 0

    def line(self, kind: str, content: Json) -> None:
        """One more line."""
        text = json.dumps({"kind": kind, **content}, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
        self._sum = hashlib.sha256(self._sum + text).digest()
        self._file.write(text + _MEMBER + self._sum.hex().encode() + b'"}\n')
        self.lines += 1

    def sign(self, signer: Signer, at_ms: int) -> Signature:
        """The last line."""
        made = Signature(signer.key_id, at_ms, self.lines)
        signature = signer.sign_bytes(signed_bytes(self._sum, *made))
        self.line("signature", {**made._asdict(), "signature": signature.hex()})
        return made


def read_lines(path: Path) -> Iterator[Line]:
    """The lines, each sum checked; the signature's is the last. Raises BundleRefused naming the line, OSError."""
    before, number = NO_SUM, 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            before = _checked(path, number, raw, before)
            try:
                content = json.loads(raw)
                kind = str(content["kind"])
            except (ValueError, KeyError, TypeError) as error:
                raise BundleRefused(f"{path} line {number}: it is no line of a bundle ({error})") from error
            yield Line(number, kind, content)
    if not number:
        raise BundleRefused(f"{path} is empty: it is no bundle of `orchestrator audit export`")


def _checked(path: Path, number: int, raw: bytes, before: bytes) -> bytes:
    body, tail = raw[: -_TAIL - 1], raw[-_TAIL - 1 :]
    if not raw.endswith(b'"}\n') or not tail.startswith(_MEMBER):
        what = "the file was cut there" if not raw.endswith(b"\n") else "it is no line of a bundle, or was changed"
        raise BundleRefused(f"{path} line {number}: {what}")
    total = hashlib.sha256(before + body).digest()
    if tail != _MEMBER + total.hex().encode() + b'"}\n':
        raise BundleRefused(
            f"{path} line {number}{_place(body)}: it was changed, or a line before it is gone, new or moved"
        )
    return total


def _place(body: bytes) -> str:
    """Where the record of a line stands on the log, as far as the line can still be read."""
    try:
        content = json.loads(body + b"}")
        return f" (partition {content['partition']}, offset {content['offset']})"
    except (ValueError, KeyError, TypeError):
        return ""


def check_signature(path: Path, keys: PublicKeys) -> Signature:
    """Read the whole file once: every sum, the format, the signature by one of `keys`.

    Raises BundleRefused naming the line; nothing of a bundle may be believed before.
    """
    previous = NO_SUM
    found: Line | None = None
    for line in read_lines(path):
        if found is not None:
            raise BundleRefused(f"{path} line {line.number}: something stands behind the signature")
        if line.number == 1 and (line.kind != "manifest" or line.content.get("format") != FORMAT):
            raise BundleRefused(f"{path} line 1: no manifest of {FORMAT}: made by another release, or no bundle")
        if line.kind == "signature":
            found = line
        else:
            previous = bytes.fromhex(line.content["sum"])
    if found is None:
        raise BundleRefused(f"{path}: its last line is no signature: the file was cut, or never finished")
    try:
        content = found.content
        signature = Signature(str(content["key_id"]), int(content["at_ms"]), int(content["lines"]))
        given = bytes.fromhex(content["signature"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(f"{path} line {found.number}: a signature that cannot be read ({error})") from error
    if signature.lines != found.number - 1:
        raise BundleRefused(f"{path} line {found.number}: signed for {signature.lines} lines")
    problem = keys.problem(signature.key_id, given, signed_bytes(previous, *signature))
    if problem:
        raise BundleRefused(f"{path} line {found.number}: {problem}")
    return signature
