"""Ctrl-C while the command line is still being loaded, at the import of each of a few modules, chosen by a seed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from orchestrator.cli import starting
from tests.architecture.source import ROOT

pytestmark = pytest.mark.slow

ENTRIES = {
    "-m": ["-m", "orchestrator.cli.main"],
    "the console script": ["-c", "import sys; from orchestrator.cli.main import main; sys.exit(main())"],
    "a consumer": ["consumers/engine.py"],
}
COMMAND = ["workflow", "show", "--help"]
"""A noun with much to load, which ends before it does anything."""
FIRST = "orchestrator.ending"
"""What is imported first once Ctrl-C is heard in order."""
MOMENTS = 4
SEED = int(os.environ.get("ORCHESTRATOR_SEED") or random.randrange(2**32))
HOOK = """
import os, signal, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if wanted := os.environ.get("IMPORTS_TO"):
            with open(wanted, "a") as file:
                print(name, file=file)
        if name == os.environ.get("INTERRUPTED_AT"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Watch())
"""


@pytest.fixture
def run(tmp_path: Path) -> partial[subprocess.CompletedProcess[str]]:
    """Runs an interpreter that interrupts itself when it is about to import a module."""
    (tmp_path / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return partial(_run, {**plain, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})


def _run(
    environment: dict[str, str], *words: str, ignored: bool = False, **told: str
) -> subprocess.CompletedProcess[str]:
    """With `ignored`, as a shell without job control starts what is in the background: so these tests may run, too."""
    how = signal.SIG_IGN if ignored else signal.SIG_DFL
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**environment, **told},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=partial(signal.signal, signal.SIGINT, how),
    )


def _loaded(run: partial[subprocess.CompletedProcess[str]], words: list[str], into: Path) -> list[str]:
    """What is imported from the first lines of ours on until the command begins, in order."""
    run(*words, IMPORTS_TO=str(into))
    names = into.read_text(encoding="utf-8").split()
    return list(dict.fromkeys(names[names.index(FIRST) :]))


@pytest.mark.parametrize("entry", ENTRIES)
def test_ctrl_c_while_modules_are_loaded_is_one_word(
    run: partial[subprocess.CompletedProcess[str]], tmp_path: Path, entry: str
) -> None:
    words = [*ENTRIES[entry], *(["--help"] if entry == "a consumer" else COMMAND)]
    names = _loaded(run, words, tmp_path / "imports")
    assert {"click", "orchestrator.cli.root"} <= set(names)
    print(f"ORCHESTRATOR_SEED={SEED}")
    for name in (FIRST, *random.Random(f"{SEED} {entry}").sample(names[1:], MOMENTS)):
        ended = run(*words, INTERRUPTED_AT=name)
        assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "\ninterrupted\n"), f"at {name}, seed {SEED}"


def test_a_background_job_goes_on_ignoring_it(run: partial[subprocess.CompletedProcess[str]]) -> None:
    done = run(*ENTRIES["-m"], *COMMAND, ignored=True, INTERRUPTED_AT="click")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout


def test_next_to_nothing_is_loaded_before(run: partial[subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    into = tmp_path / "imports"
    run(*ENTRIES["-m"], "--version", IMPORTS_TO=str(into))
    names = into.read_text(encoding="utf-8").split()
    ours = [name for name in names[: names.index(FIRST)] if name.startswith("orchestrator")]
    assert ours == ["orchestrator", "orchestrator.cli", "orchestrator.cli.main", "orchestrator.cli.starting"]


def test_a_caller_of_main_in_its_own_process_is_left_alone(run: partial[subprocess.CompletedProcess[str]]) -> None:
    program = (
        "import signal; from orchestrator.cli.main import main; before = signal.getsignal(signal.SIGINT);"
        "main(['--version']); assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler"
    )
    done = run("-c", program)
    assert done.returncode == 0, done.stderr


def test_commands_hear_it_themselves(run: partial[subprocess.CompletedProcess[str]]) -> None:
    program = (
        "import signal; from orchestrator.cli import starting; starting.begin();"
        "assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler; starting.hand_over();"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler;"
        "signal.signal(signal.SIGINT, print); starting.begin(); starting.hand_over();"
        "assert signal.getsignal(signal.SIGINT) is print"
    )
    done = run("-c", program)
    assert done.returncode == 0, done.stderr


def test_the_code_is_the_documented_one() -> None:
    assert f"| {starting.INTERRUPTED} | Ctrl-C" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
