"""Whether processes are there, for tests that kill them."""

from __future__ import annotations

import time

import psutil

TIMEOUT_S = 30.0


def runs(pid: int) -> bool:
    """Whether the process exists and is no zombie (an orphan may wait for a lazy init)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(*pids: int) -> None:
    """Wait until none of the processes runs; fails the test when one stays."""
    until = time.monotonic() + TIMEOUT_S
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < until, f"still there: {[pid for pid in pids if runs(pid)]}"
        time.sleep(0.02)


def family(pid: int) -> set[int]:
    """The process and all that descend from it now."""
    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    except psutil.NoSuchProcess:
        return {pid}
