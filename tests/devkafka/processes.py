"""Whether processes are there, for tests that kill them."""

from __future__ import annotations

import subprocess
import time

TIMEOUT_S = 30.0


def runs(pid: int) -> bool:
    """Whether the process exists and is no zombie (an orphan may wait for a lazy init)."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


def wait_gone(*pids: int) -> None:
    """Wait until none of the processes runs; fails the test when one stays."""
    until = time.monotonic() + TIMEOUT_S
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < until, f"still there: {[pid for pid in pids if runs(pid)]}"
        time.sleep(0.02)


def family(pid: int) -> set[int]:
    """The process and all that descend from it now."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    found = {pid}
    while more := {child for child, parent in pairs if parent in found} - found:
        found |= more
    return found
