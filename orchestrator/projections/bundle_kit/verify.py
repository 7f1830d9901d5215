"""Verifies what a bundle of `orchestrator audit export` holds, with Python's standard library alone (see FORMAT.md).

Exit code 0: nothing was found; 1: something was. Who signed the manifest is for `ssh-keygen -Y verify` to say.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import sys
import time
import zipfile
from typing import Any

ZERO, TAG, FORMAT = b"\0" * 32, b"orchestrator.event.v1", "orchestrator.bundle.v1"
ENDS = ("RunCompleted", "RunFailed", "RunCancelled", "RunTerminated", "RunContinuedAsNew")

# Ed25519 (RFC 8032), verifying only: there is no secret to leak.
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT = -121665 * pow(121666, P - 2, P) % P, pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]


def add(a: Point, b: Point) -> Point:
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while n:
        total = add(total, point) if n & 1 else total
        point, n = add(point, point), n >> 1
    return total


def point_of(data: bytes) -> Point:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    x = x if (x * x - x2) % P == 0 else x * ROOT % P
    if y >= P or (x * x - x2) % P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(public: bytes, signature: bytes, data: bytes) -> bool:
    try:
        a, r, s = point_of(public), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    except ValueError:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + data).digest(), "little") % ORDER
    one, two = times(s, BASE), add(r, times(h, a))
    same = all((one[at] * two[2] - two[at] * one[2]) % P == 0 for at in (0, 1))
    return len(signature) == 64 and s < ORDER and same


# Avro's binary encoding of what is looked at: n long, s string or bytes, f boolean, o optional (s, n).
HEAD, ANCHOR = "ssnssnnfonnnnssn", "ssnnnnsnss"


def number(data: bytes, at: int) -> tuple[int, int]:
    rest = shift = 0
    while True:
        rest |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return (rest >> 1) ^ -(rest & 1), at


def read(form: str, data: bytes, at: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    for kind in form:
        value: Any = None
        if kind == "o":
            value, at = read("sn", data, at + 1) if data[at] else (None, at + 1)
        else:
            value, at = (data[at], at + 1) if kind == "f" else number(data, at)
            if kind == "s":
                value, at = data[at : at + value], at + value
        values.append(value)
    return values, at


def sized(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Bundle:
    """A bundle whose files are those of its manifest, and what is wrong with it."""

    def __init__(self, path: str) -> None:
        self.zip, self.found = zipfile.ZipFile(path), list[str]()
        self.told = json.loads(self.zip.read("manifest.json"))
        files = self.told["files"]
        self.need(self.told["format"] == FORMAT, f"it is no bundle of {FORMAT}")
        names = sorted([*files, "manifest.json", "manifest.json.sig"])
        self.need(names == sorted(self.zip.namelist()), "its files are not those that the manifest names")
        for name in [] if self.found else files:
            with self.zip.open(name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            self.need(digest == files[name], f"{name} is not what the manifest says")

    def need(self, good: bool, what: str) -> None:
        self.found += [] if good else [what]

    def split(self, value: bytes) -> tuple[str, int]:
        """A record's type, and where its fields begin, in either framing."""
        single = value[:2] == b"\xc3\x01"
        name = value[2:10].hex() if single else self.told["registry_ids"][str(int.from_bytes(value[1:5], "big"))]
        return self.told["schemas"][name].split("/")[-1].split(".")[0], 10 if single else 5


class Partition:
    """Roots, the footers' chain and the runs' chains of one partition; `heads` are its footers' hashes by offset."""

    def __init__(self, bundle: Bundle, number: int) -> None:
        self.bundle, self.heads, self.some = bundle, dict[int, bytes](), bundle.told["scope"]["kind"] == "runs"
        self.whole = self.some or bundle.told["heads"][str(number)]["first_offset"] == 0
        self.last, self.batch, self.gap = ZERO if self.whole and not self.some else b"", (0, -1), -1
        self.leaves, self.events, self.runs, self.problem = list[bytes](), list[Any](), dict[bytes, Any](), ""
        for row in map(json.loads, bundle.zip.open(f"records/{number}.jsonl")):
            try:
                self.row(row, row["offset"])
            except (ValueError, IndexError, KeyError) as error:
                self.gap, self.problem = (self.gap, self.problem) if self.gap >= 0 else (row["offset"], str(error))
        bundle.need(
            self.gap < 0, f"partition {number} offset {self.gap}: {self.problem}; nothing behind it was checked"
        )
        bundle.need(self.gap >= 0 or not self.leaves, f"partition {number}: events at the end have no footer")

    def row(self, row: dict[str, Any], offset: int) -> None:
        if "hash" in row:
            self.leaves.append(bytes.fromhex(row["hash"]))
            return
        key, value = base64.b64decode(row["key"]), base64.b64decode(row["value"])
        digest, (name, at) = hashlib.sha256(TAG + sized(key, value)).digest(), self.bundle.split(value)
        head, at = read(HEAD, value, at)
        if name == "PartitionClaimed":
            at = len(value) - 1
            while value[at - 1] > 127:
                at -= 1
            # By a repair a person accepted what is broken.
            self.gap = -1 if 0 <= number(value, at)[0] <= self.gap else self.gap
            self.leaves, self.events = [], []
        elif self.gap < 0 and name != "BatchFooter":
            self.leaves.append(digest)
            self.events += [(offset, name, head[0] + b"/" + head[1], head[2], head[13], digest)] if head[2] else []
        elif self.gap < 0:
            (before, root, count), _ = read("ssn", value, at)
            good = (root, count) == (hashlib.sha256(b"".join(self.leaves)).digest(), len(self.leaves))
            if not (good or (not self.leaves and (self.some or not self.heads))) or (head[10], head[11]) <= self.batch:
                raise ValueError("the footer's root is not that of the events before it, or its batch is not the next")
            if before != (self.last or before):
                raise ValueError("the footer does not follow the one before it")
            self.heads[offset] = self.last = digest
            for at, name, run, seq, prev, one in self.events:
                known = self.runs.get(run, (0, ZERO) if self.whole else (seq - 1, prev))
                self.bundle.need((seq - 1, prev) == known, f"offset {at}: the chain of {run.decode()} is broken")
                self.runs[run] = (-1, b"") if name in ENDS else (seq, one)
            self.batch, self.leaves, self.events = (head[10], head[11]), [], []


def anchored(bundle: Bundle, parts: dict[int, Partition], keys: list[bytes]) -> None:
    known, signed = {hashlib.sha256(key).hexdigest()[:16].encode(): key for key in keys}, dict[int, str]()
    for row in map(json.loads, bundle.zip.open("anchors.jsonl")):
        value = base64.b64decode(row["value"])
        said, _ = read(ANCHOR, value, bundle.split(value)[1])
        if said[8] in known:
            text = b"orchestrator.anchor.v1" + sized(*(x if isinstance(x, bytes) else b"%d" % x for x in said[:8]))
            good = is_signed(known[said[8]], said[9], text) and parts[said[2]].heads.get(said[3]) == said[6]
            bundle.need(good, f"partition {said[2]} offset {said[3]}: a signed head that is forged, or of another log")
            at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(said[7] / 1000))
            signed[said[2]] = f"complete up to head {said[4]}/{said[5]}, signed at {at}"
    for number, part in parts.items():
        print(f"partition {number}: {len(part.heads)} batches: {signed.get(number, 'prefix only, no anchor')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Bundle)
    parser.add_argument(
        "--key", type=pathlib.Path, action="append", default=[], help="an engine's public key, PEM or OpenSSH: a file"
    )
    given = parser.parse_args()
    texts = [path.read_text() for path in given.key]
    keys = [base64.b64decode(text.split("-----")[2] if "-----" in text else text.split()[1])[-32:] for text in texts]
    found = given.bundle.found
    if not found:
        anchored(given.bundle, {n: Partition(given.bundle, n) for n in given.bundle.told["partitions"]}, keys)
    print("\n".join(found) or "nothing was found")
    sys.exit(bool(found))
