"""The broker's jars: fetched once by our own lock, checked against its SHA-256 sums, offline ever after."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from .errors import DevKafkaError
from .places import locked, need_space

MIRROR_VARIABLE = "ORCHESTRATOR_MAVEN_REPOSITORY"
SIZES = "sizes.json"
"""Written into a complete directory: name and bytes of every jar, so that a damaged cache is seen and fetched anew."""
NEEDED_MB = 150
TIMEOUT_S = 30
LOCK_WAIT_S = 600.0
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
EXTRA = "pip install 'durable-orchestrator[kafka]' (in a checkout: pip install \".[dev]\")"


class Jar(NamedTuple):
    """One line of the lock: a Maven coordinate and the SHA-256 of its jar in hex."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """`group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"


def packaged_lock() -> str:
    """The text of `kafka.lock`, which is part of this package."""
    return resources.files(__package__).joinpath("kafka.lock").read_text(encoding="utf-8")


def parse_lock(text: str) -> tuple[Jar, ...]:
    """The lines of a lock. Raises DevKafkaError naming a line that is not `group:artifact:version sha256:HEX`."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        coordinate, _, digest = line.strip().partition(" sha256:")
        parts = coordinate.split(":")
        if len(parts) != 3 or len(digest) != 64:
            raise DevKafkaError(f"kafka.lock line {number} is not 'group:artifact:version sha256:...': {line!r}")
        group, artifact, version = parts
        found.append(Jar(group, artifact, version, digest))
    return tuple(found)


def fetch_jars(cache: Path, lock: str | None = None, progress: Callable[[str], None] | None = None) -> Path:
    """The directory that holds exactly the jars of `lock` (default: the package's), below `cache`.

    The first call downloads them from Maven Central, or from ORCHESTRATOR_MAVEN_REPOSITORY (an address, or a
    directory laid out as a Maven repository). Raises DevKafkaError: no network, a jar that is not the locked one,
    a full disk. Nothing is left half done: the directory appears when every sum was right.
    """
    text = packaged_lock() if lock is None else lock
    rows = parse_lock(text)
    directory = cache / f"jars-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if _complete(directory, rows):
        return directory
    busy = f"another process has been fetching Kafka into {cache} for {LOCK_WAIT_S:.0f} s: end it and try again"
    with locked(cache / "jars.lock", LOCK_WAIT_S, busy):
        if _complete(directory, rows):
            return directory
        need_space(cache, NEEDED_MB, "fetching Kafka")
        shutil.rmtree(directory, ignore_errors=True)
        _sweep(cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as scratch:
            try:
                _fetch_all(rows, Path(scratch), progress or _silent)
                os.replace(Path(scratch) / "jars", directory)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise DevKafkaError(f"no room for Kafka's jars in {cache}: {NEEDED_MB} MB are needed") from error
                raise
    return directory


def class_path(directory: Path) -> str:
    """Java's class path over a fetched directory: sorted, because the AOT cache depends on the order."""
    return os.pathsep.join(str(path) for path in sorted(directory.glob("*.jar")))


def _silent(_text: str) -> None:
    """No progress wanted."""


def _complete(directory: Path, rows: tuple[Jar, ...]) -> bool:
    try:
        sizes = json.loads((directory / SIZES).read_text(encoding="utf-8"))
        return set(sizes) == {row.name for row in rows} and all(
            (directory / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError):
        return False


def _sweep(cache: Path) -> None:
    """Remove what a killed download left; we hold the lock, so nobody is using it."""
    for left in cache.glob(".part-*"):
        shutil.rmtree(left, ignore_errors=True)


def _fetch_all(rows: tuple[Jar, ...], scratch: Path, progress: Callable[[str], None]) -> None:
    jars = scratch / "jars"
    jars.mkdir()
    repository = os.environ.get(MIRROR_VARIABLE, "").strip()
    resolve = _resolver(scratch / "repository", repository)
    sizes = {}
    with _company_certificates():
        for number, row in enumerate(rows, 1):
            if number % 15 == 1:
                progress(f"fetching Kafka from {repository or 'Maven Central'}: jar {number} of {len(rows)}")
            target = jars / row.name
            shutil.copyfile(resolve(row), target)
            with target.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != row.sha256:
                raise DevKafkaError(
                    f"{row.coordinate} is not the locked jar: sha256 {digest}, kafka.lock says {row.sha256}. Nothing "
                    f"was kept. The download was cut or altered on the way ({repository or 'Maven Central'}): try "
                    f"again, or name another repository in {MIRROR_VARIABLE}"
                )
            sizes[row.name] = target.stat().st_size
    (jars / SIZES).write_text(json.dumps(sizes), encoding="utf-8")


def _resolver(repository_cache: Path, repository: str) -> Callable[[Jar], Path]:
    """How to get one jar: jgo knows the layout of repositories and the transport, nothing else of it is used."""
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise DevKafkaError(f"the embedded Kafka needs an extra: {EXTRA}; or use a Kafka of yours") from error
    remote: dict[str, str] | None = None
    local: list[Path] = []
    if "://" in repository:
        remote = {"mirror": repository.rstrip("/")}
    elif repository:
        remote, local = {}, [Path(repository).expanduser()]
    context = MavenContext(repo_cache=repository_cache, local_repos=local, remote_repos=remote, timeout=TIMEOUT_S)

    def resolve(row: Jar) -> Path:
        try:
            return Path(context.project(row.group, row.artifact).at_version(row.version).artifact().resolve())
        except OSError as error:
            # Errors of requests are OSErrors without a number.
            if error.errno in NO_ROOM:
                raise
            raise DevKafkaError(
                f"{row.coordinate} cannot be fetched from {repository or 'Maven Central'} ({_reason(error)}): the "
                f"first start needs the network once. Check it and the proxy settings, name a mirror in "
                f"{MIRROR_VARIABLE}, or use a Kafka of yours (ORCHESTRATOR_BOOTSTRAP)"
            ) from error
        except RuntimeError as error:
            raise DevKafkaError(
                f"{row.coordinate} is not in {repository or 'Maven Central'}: check {MIRROR_VARIABLE}"
            ) from error

    return resolve


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: requests wraps the sentence that matters three times."""
    inner: BaseException = error
    while isinstance(deeper := getattr(inner, "reason", None) or (inner.args[0] if inner.args else None), Exception):
        inner = deeper
    return " ".join(f"{type(inner).__name__}: {inner}".split())[:200]


@contextmanager
def _company_certificates() -> Iterator[None]:
    """Trust what pip trusts: requests alone would not know the certificate authority of a company."""
    given = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    if not given or os.environ.get("REQUESTS_CA_BUNDLE"):
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = given
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]
