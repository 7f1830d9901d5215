"""`requirements/install.py`: the sentences it says when a machine cannot carry the environment, and its shortcuts."""

from __future__ import annotations

import importlib.util
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.architecture.source import ROOT


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, told that the checkout is a temporary folder with two tiny locks."""
    spec = importlib.util.spec_from_file_location("install_environment", ROOT / "requirements" / "install.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "requirements").mkdir()
    for lock in ("demo", "dev"):
        (tmp_path / "requirements" / f"{lock}.txt").write_text(f"{lock}==1\n", encoding="utf-8")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    return module


class Commands:
    """Stands for `subprocess.run`: remembers every command and answers from a table of words → (code, output)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, venv: Path, answers: dict[str, tuple[int, str]]) -> None:
        self.seen: list[str] = []
        self._venv = venv
        self._answers = answers
        monkeypatch.setattr(subprocess, "run", self)

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        self.seen.append(line)
        code, output = next((answer for words, answer in self._answers.items() if words in line), (0, ""))
        if "venv" in command and code == 0:
            self._venv.mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, code, "", output)


def run(installer: ModuleType, monkeypatch: pytest.MonkeyPatch, lock: str) -> None:
    monkeypatch.setattr("sys.argv", ["install.py", lock])
    installer.main()


def test_a_fresh_machine_installs_by_hash_and_once(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(monkeypatch, tmp_path / ".venv", {})
    run(installer, monkeypatch, "demo")
    assert any("--require-hashes" in line and "demo.txt" in line for line in commands.seen)
    assert any("--no-index --editable" in line for line in commands.seen)
    done = len(commands.seen)
    run(installer, monkeypatch, "demo")
    assert len(commands.seen) == done, "the stamp makes the second call free"


def test_the_larger_environment_serves_the_smaller_and_builds_upon_it(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(monkeypatch, tmp_path / ".venv", {})
    run(installer, monkeypatch, "demo")
    run(installer, monkeypatch, "dev")
    assert sum("-m venv" in line for line in commands.seen) == 1
    (tmp_path / "requirements" / "demo.txt").write_text("demo==2\n", encoding="utf-8")
    done = len(commands.seen)
    run(installer, monkeypatch, "demo")
    assert len(commands.seen) == done


def test_a_changed_lock_starts_from_nothing(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(monkeypatch, tmp_path / ".venv", {})
    run(installer, monkeypatch, "demo")
    (tmp_path / "requirements" / "demo.txt").write_text("demo==2\n", encoding="utf-8")
    run(installer, monkeypatch, "demo")
    assert sum("-m venv" in line for line in commands.seen) == 2


def test_without_ensurepip_the_hosts_pip_fills_the_environment(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = (1, "ensurepip is not available")
    commands = Commands(monkeypatch, tmp_path / ".venv", {"--without-pip": (0, ""), "-m venv": missing})
    run(installer, monkeypatch, "demo")
    installs = [line for line in commands.seen if " install " in line]
    assert installs
    assert all(f"--python {tmp_path}" in line for line in installs)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"--require-hashes": (1, "NewConnectionError: nobody there")}, "package index cannot be reached"),
        ({"--require-hashes": (1, "ERROR: No space left on device")}, "disk"),
        ({"--require-hashes": (1, "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES")}, "see above"),
        ({"-m venv": (1, "no ensurepip"), "--version": (1, ""), "--without-pip": (0, "")}, "python3-venv"),
    ],
)
def test_a_failure_says_what_to_do(
    installer: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, tuple[int, str]],
    sentence: str,
) -> None:
    ordered = {"--without-pip": (0, ""), **answers}
    Commands(monkeypatch, tmp_path / ".venv", ordered)
    with pytest.raises(SystemExit, match=sentence):
        run(installer, monkeypatch, "demo")
    assert not list((tmp_path / ".venv").glob("installed-*")), "a failure leaves no stamp"


def test_an_old_python_and_a_strange_machine_are_named(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 2))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer.*PYTHON="):
        installer.check_machine()
    monkeypatch.setattr("sys.version_info", (3, 13, 0))
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(SystemExit, match="Windows"):
        installer.check_machine()
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.17"))
    with pytest.raises(SystemExit, match=r"glibc 2\.17"):
        installer.check_machine()


def test_ctrl_c_while_installing_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    script = tmp_path / "requirements" / "install.py"
    script.parent.mkdir()
    shutil.copy(ROOT / "requirements" / "install.py", script)
    for lock in ("demo", "dev"):
        (script.parent / f"{lock}.txt").touch()
    monkeypatch.setattr(subprocess, "run", interrupted)
    monkeypatch.setattr("sys.argv", ["install.py", "demo"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "environment: interrupted; the next call starts it anew\n"


def test_a_python_newer_than_the_locks_is_named(installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer.sys, "version_info", (3, 15, 0))
    with pytest.raises(SystemExit, match=r"Python 3\.11 to 3\.14"):
        run(installer, monkeypatch, "demo")


@pytest.mark.slow
def test_the_tests_are_collected_without_git() -> None:
    """An unpacked archive on a machine that has Python alone."""
    words = "from tests.architecture.source import ROOT, tracked; assert ROOT / 'Makefile' in tracked()"
    subprocess.run([sys.executable, "-c", words], cwd=ROOT, env={"PATH": ""}, check=True)
