"""Whoever starts a broker and changes their mind is not held up by it."""

from __future__ import annotations

import signal
import subprocess
import sys

PATIENCE_S = 30.0
STUCK = """
import os
import signal
import threading
from orchestrator.log import probe

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it

def never(*_):
    os.write(1, b"asking\\n")  # at once: two threads say it
    threading.Event().wait()

probe._with_topic = probe._find_group_coordinator = never
try:
    probe.warm_up_transactions("127.0.0.1:1")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
FAILS = """
from orchestrator.errors import KafkaUnavailable
from orchestrator.log import probe

def late(*_):
    raise TimeoutError

probe._with_topic, probe._find_group_coordinator = late, lambda *_: None
try:
    probe.warm_up_transactions("127.0.0.1:1")
except KafkaUnavailable as error:
    print(error)
"""


def test_an_interrupted_warm_up_lets_its_process_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == ["asking\n"] * 2
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert (said, process.returncode) == ("interrupted\n", 0)


def test_what_fails_is_told_in_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert "did not take a first transaction: no answer in time" in done.stdout
