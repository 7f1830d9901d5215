"""The file of `audit export`: a ZIP whose manifest has the SHA-256 of every other file, and a detached signature of it.

The signature is OpenSSH's (`ssh-keygen -Y verify`), so that a bundle is verified without this package: FORMAT.md and
verify.py in it say how. What a ZIP holds beside its files' contents (times, attributes) is not signed and says nothing.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from ..codec.signing import PublicKeys, Signer
from ..errors import BundleRefused

FORMAT = "orchestrator.bundle.v1"
MANIFEST, SIGNATURE, ANCHORS = "manifest.json", "manifest.json.sig", "anchors.jsonl"
KIT = Path(__file__).parent / "bundle_kit"
KIT_FILES = ("FORMAT.md", "verify.py")
READ = 1 << 20

Json = dict[str, Any]


def records_name(partition: int) -> str:
    """The file of a partition's records."""
    return f"records/{partition}.jsonl"


def blob_name(name: str) -> str:
    """The file of a large value."""
    return f"blobs/{name}"


class Signature(NamedTuple):
    """Who signed a bundle, when by that hand's clock, and how many files."""

    key_id: str
    at_ms: int
    files: int


class BundleWriter:
    """Writes one file after the other; `seal` ends it. What is not sealed is no bundle."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._open: IO[bytes] | None = None
        self._name = ""
        self._digest = hashlib.sha256()
        self.files: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Also of one that is given up: its file is whoever's who opened it to remove."""
        self._end()
        self._zip.close()

    def begin(self, name: str) -> None:
        """A file of rows begins; one ends when another begins."""
        self._end()
        self._name, self._digest = name, hashlib.sha256()
        self._open = self._zip.open(self._info(name), "w", force_zip64=True)

    def row(self, content: Json) -> None:
        """One more line of the file that was begun."""
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        assert self._open is not None, "begin() names the file first"
        self._open.write(text)
        self._digest.update(text)

    def file(self, name: str, data: bytes) -> None:
        """A whole file."""
        self.begin(name)
        assert self._open is not None
        self._open.write(data)
        self._digest.update(data)

    def seal(self, manifest: Json, signer: Signer, at_ms: int) -> Signature:
        """The reader's kit, the manifest and its signature."""
        for name in KIT_FILES:
            self.file(name, (KIT / name).read_bytes())
        self._end()
        signed = {"format": FORMAT, **manifest, "made_at_ms": at_ms, "key_id": signer.key_id, "files": self.files}
        text = json.dumps(signed, ensure_ascii=False, indent=1).encode() + b"\n"
        self._zip.writestr(self._info(MANIFEST), text)
        self._zip.writestr(self._info(SIGNATURE), signer.sign_file(text))
        self._zip.close()
        return Signature(signer.key_id, at_ms, len(self.files))

    def _end(self) -> None:
        if self._open is not None:
            self._open.close()
            self.files[self._name] = self._digest.hexdigest()
            self._open = None

    @staticmethod
    def _info(name: str) -> zipfile.ZipInfo:
        # The same content gives the same file: no moment and no machine in it.
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        return info


class Opened(NamedTuple):
    """A bundle that is what somebody with one of the keys given signed."""

    path: Path
    manifest: Json
    signature: Signature

    def rows(self, name: str) -> Iterator[Json]:
        """The lines of one of its files. Raises BundleRefused for what is none."""
        with _reading(self.path, name) as bundle, bundle.open(name) as file:
            for line in file:
                yield json.loads(line)

    def file(self, name: str) -> bytes:
        """One of its files, whole. Raises BundleRefused when there is none."""
        with _reading(self.path, name) as bundle:
            return bundle.read(name)


def open_bundle(path: Path, keys: PublicKeys) -> Opened:
    """Check the signature of the manifest, and every file against it; nothing of a bundle may be believed before.

    Raises BundleRefused, naming the file, and OSError.
    """
    with _reading(path, MANIFEST) as bundle:
        text, armour = bundle.read(MANIFEST), bundle.read(SIGNATURE)
        key_id, problem = keys.file_problem(armour, text)
        if problem:
            raise BundleRefused(f"{path}: {MANIFEST}: {problem}")
        manifest = json.loads(text)
        if manifest.get("format") != FORMAT:
            raise BundleRefused(f"{path}: no manifest of {FORMAT}: made by another release")
        files: dict[str, str] = manifest["files"]
        there = bundle.namelist()
        for name in {*files, *there} - {MANIFEST, SIGNATURE}:
            if name not in files or there.count(name) != 1:
                what = "is not one of the files that were signed" if name not in files else "is missing, or there twice"
                raise BundleRefused(f"{path}: {name} {what}")
    for name, signed in files.items():
        if _digest(path, name) != signed:
            raise BundleRefused(f"{path}: {name} is not what was signed")
    return Opened(path, manifest, Signature(key_id, int(manifest["made_at_ms"]), len(files)))


def _digest(path: Path, name: str) -> str:
    digest = hashlib.sha256()
    with _reading(path, name) as bundle, bundle.open(name) as file:
        while data := file.read(READ):
            digest.update(data)
    return digest.hexdigest()


@contextmanager
def _reading(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as bundle:
            yield bundle
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        what = f"{name} cannot be read ({error}): the file was changed or cut, or is no bundle of `audit export`"
        raise BundleRefused(f"{path}: {what}") from error
