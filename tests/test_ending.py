"""A signal may come at any moment of a wait."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.ending import Ending

STORM = """
import signal
from orchestrator.ending import Ending

ending, heard = Ending(), 0

def handle(*_):
    global heard
    heard += 1
    ending.set()
    signal.setitimer(signal.ITIMER_REAL, 1e-4 if heard < 5_000 else 0)

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 1e-4)
while heard < 5_000:
    ending.wait(0)
print("ended")
"""
"""With an Event in its place this stands still within a second."""


def test_it_is_set_once_and_for_all() -> None:
    ending = Ending()
    assert not ending.wait(0.001)
    ending.set()
    assert ending.wait(60.0)
    assert ending.wait(60.0)


@pytest.mark.slow
def test_no_signal_meets_a_lock_that_its_own_thread_holds() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ended\n"


LEAVES = """
import atexit, sys
from orchestrator.ending import Leaving

leaving = Leaving()

class Client:
    def __del__(self):
        print("torn down")

client = Client()
atexit.register(print, "an exit function of the user")
print("the last line")
leaving.code = CODE
sys.exit(3)
"""


@pytest.mark.parametrize(("code", "found", "torn"), [("0", 0, []), ("4", 4, []), ("None", 3, ["torn down"])])
def test_what_is_left_is_not_torn_down_and_nothing_said_is_lost(code: str, found: int, torn: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVES.replace("CODE", code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == found, done.stderr
    assert done.stdout.splitlines() == ["the last line", "an exit function of the user", *torn]
