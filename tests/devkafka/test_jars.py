"""Fetching: what is not the locked jar is refused, and the second time needs nobody."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafkaError, jars

COORDINATES = ("org.example:alpha:1.0", "org.example.sub:beta_2.13:2.5")


class Repository:
    """A Maven repository in a directory, and a lock that fits it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = ""
        for coordinate in COORDINATES:
            content = coordinate.encode() * 100
            path = self.path(coordinate)
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            self.lock += f"{coordinate} sha256:{hashlib.sha256(content).hexdigest()}\n"

    def path(self, coordinate: str) -> Path:
        """Where a jar lies."""
        group, artifact, version = coordinate.split(":")
        return self.directory.joinpath(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = Repository(tmp_path / "repository")
    monkeypatch.setenv(jars.MIRROR_VARIABLE, str(made.directory))
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def address(repository: Repository) -> Iterator[str]:
    """The repository over HTTP."""
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(repository.directory))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.jar"))


def test_the_packaged_lock_pins_the_broker_and_its_logging() -> None:
    rows = jars.parse_lock(jars.packaged_lock())
    assert len(rows) == 45
    versions = {f"{row.group}:{row.artifact}": row.version for row in rows}
    assert len(versions) == 45, "one version of each"
    assert versions["org.apache.kafka:kafka_2.13"] == "4.4.0"
    assert versions["org.apache.kafka:kafka-clients"] == "4.4.0"
    assert versions["org.apache.logging.log4j:log4j-slf4j-impl"] == "2.25.5"
    assert list(rows) == sorted(rows, key=lambda row: row.coordinate)


@pytest.mark.parametrize("line", ["org.example:alpha sha256:" + "0" * 64, "org.example:alpha:1 sha256:0", "x"])
def test_a_damaged_lock_is_named(line: str) -> None:
    with pytest.raises(DevKafkaError, match=r"kafka\.lock line 2"):
        jars.parse_lock("\n" + line)


def test_the_second_time_needs_nobody(repository: Repository, cache: Path) -> None:
    first = jars.fetch_jars(cache, repository.lock)
    assert names(first) == ["alpha-1.0.jar", "beta_2.13-2.5.jar"]
    shutil.rmtree(repository.directory)
    assert jars.fetch_jars(cache, repository.lock) == first


def test_a_mirror_is_used(repository: Repository, address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(jars.MIRROR_VARIABLE, address + "/")
    said: list[str] = []
    assert len(names(jars.fetch_jars(cache, repository.lock, said.append))) == 2
    assert address in said[0]


def test_a_tampered_jar_is_refused_and_nothing_is_kept(
    repository: Repository, address: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jars.MIRROR_VARIABLE, address)
    repository.path(COORDINATES[1]).write_bytes(b"something else")
    with pytest.raises(DevKafkaError, match=r"org\.example\.sub:beta_2\.13:2\.5 is not the locked jar"):
        jars.fetch_jars(cache, repository.lock)
    assert not list(cache.rglob("*.jar"))


def test_a_truncated_jar_is_refused(repository: Repository, cache: Path) -> None:
    path = repository.path(COORDINATES[0])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DevKafkaError, match="not the locked jar"):
        jars.fetch_jars(cache, repository.lock)


def test_a_damaged_cache_is_fetched_anew(repository: Repository, cache: Path) -> None:
    directory = jars.fetch_jars(cache, repository.lock)
    good = (directory / "alpha-1.0.jar").read_bytes()
    (directory / "alpha-1.0.jar").write_bytes(good[:10])
    assert jars.fetch_jars(cache, repository.lock) == directory
    assert (directory / "alpha-1.0.jar").read_bytes() == good


def test_a_left_over_download_is_swept(repository: Repository, cache: Path) -> None:
    (cache / ".part-killed").mkdir()
    jars.fetch_jars(cache, repository.lock)
    assert not list(cache.glob(".part-*"))


def test_no_network_is_a_sentence(cache: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(jars.MIRROR_VARIABLE, f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(DevKafkaError, match=r"needs the network once.*ORCHESTRATOR_MAVEN_REPOSITORY"):
            jars.fetch_jars(cache, repository.lock)


def test_a_repository_without_the_jar_is_a_sentence(
    repository: Repository, address: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(jars.MIRROR_VARIABLE, address)
    repository.path(COORDINATES[0]).unlink()
    with pytest.raises(DevKafkaError, match=r"org\.example:alpha:1\.0 is not in http"):
        jars.fetch_jars(cache, repository.lock)


def test_a_full_disk_is_a_sentence(repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "NEEDED_MB", 10**9)
    with pytest.raises(DevKafkaError, match=r"make room there.*ORCHESTRATOR_CACHE"):
        jars.fetch_jars(cache, repository.lock)


def test_a_disk_that_fills_up_on_the_way_is_a_sentence(
    repository: Repository, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DevKafkaError, match="no room for Kafka's jars"):
        jars.fetch_jars(cache, repository.lock)
    assert not list(cache.glob("jars-*/*"))


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"SSL_CERT_FILE": "/a", "PIP_CERT": "/b"}, "/a"),
        ({"PIP_CERT": "/b"}, "/b"),
        ({"REQUESTS_CA_BUNDLE": "/c", "SSL_CERT_FILE": "/a"}, "/c"),
        ({}, None),
    ],
)
def test_pips_certificates_are_trusted(
    given: dict[str, str], seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with jars._company_certificates():
        assert os.environ.get("REQUESTS_CA_BUNDLE") == seen
    assert os.environ.get("REQUESTS_CA_BUNDLE") == given.get("REQUESTS_CA_BUNDLE")
