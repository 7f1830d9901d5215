"""A signal may come at any moment of a wait; an end has a limit; a process leaves in order."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from orchestrator.ending import ABANDONED, AS_AFTER_A_CRASH, Ending

pytestmark = pytest.mark.slow

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
if CODE is not None:
    leaving.with_code(CODE)
sys.exit(3)
"""


@pytest.mark.parametrize(("code", "found", "torn"), [("0", 0, []), ("4", 4, []), ("None", 3, ["torn down"])])
def test_what_is_left_is_not_torn_down_and_nothing_said_is_lost(code: str, found: int, torn: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVES.replace("CODE", code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == found, done.stderr
    assert done.stdout.splitlines() == ["the last line", "an exit function of the user", *torn]


def test_a_thread_that_waits_for_ever_holds_no_command_up() -> None:
    """One that `asyncio.to_thread` began is joined by the interpreter."""
    program = """
import sys, threading
from orchestrator import ending
ending.LAST_S = 0.1
leaving = ending.Leaving()
threading.Thread(target=threading.Event().wait).start()
print("the last line")
leaving.with_code(6)
sys.exit(6)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (6, "the last line\n"), done.stderr


STUCK = """
import logging, signal, sys, threading
from orchestrator.ending import Leaving

logging.basicConfig(format="%(message)s")
leaving = Leaving()
limit_s = float(sys.argv[1])
waits = "while it waited for a broker"
# The main thread hears no signal, as in a call of librdkafka's: this one does, and runs no handler.
threading.Thread(target=threading.Event().wait, daemon=True).start()
if sys.argv[2] == "deaf":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})

def handle(*_):
    leaving.hear_signals()
    print("draining", flush=True)

signal.signal(signal.SIGTERM, handle)
leaving.hear_signals() if sys.argv[2] == "deaf" else signal.raise_signal(signal.SIGTERM)
leaving.within(limit_s, lambda: waits)
print("waiting", flush=True)
while True:
    threading.Event().wait()
"""


def stuck(limit_s: float, how: str) -> subprocess.Popen[str]:
    """A process whose end does not come: its main thread waits for ever."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(limit_s), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while process.stdout.readline() != "waiting\n":
        assert process.poll() is None
    return process


def test_an_end_that_does_not_come_is_cut_short_at_its_limit() -> None:
    process = stuck(0.1, "hears")
    _, said = process.communicate(timeout=60)
    assert process.returncode == ABANDONED
    waited = "while it waited for a broker"
    assert said == f"0.1 s are over {waited}: this process ends here, {AS_AFTER_A_CRASH}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["hears", "deaf"])
def test_a_second_signal_ends_at_once_whatever_the_main_thread_waits_for(how: str, number: int) -> None:
    process = stuck(3_600.0, how)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == ABANDONED
    assert said.startswith("a second signal came while it waited for a broker: this process ends here, ")
