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
