"""The guard: a process that ends its broker when its owner is gone, however the owner went.

It is run as a file (`python -I -S guard.py JSON`), needs only the standard library, and has its own session, so that
Ctrl-C never reaches the broker before its owner has decided. The owner alone holds the write end of the lifeline:
end of file there means that the owner is gone. One letter on it is an order (see ORDERS).
It writes lines of JSON to the report pipe: {"pid": N} when the broker was started, {"exit": N, "error": "..."} when
it ended, with the last ERROR of the broker's log.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ORDERS = {b"K": signal.SIGKILL, b"T": signal.SIGTERM, b"P": signal.SIGSTOP, b"C": signal.SIGCONT}
"""Orders of the owner. The guard signals, because only the parent of a process knows that its id is still its own."""
PR_SET_PDEATHSIG = 1
LOOK_S = 0.5
"""Where there is no pidfd (macOS): seconds between two looks at broker and owner."""
TAIL_BYTES = 256_000
TRACE_LINES = 60
MESSAGE_LETTERS = 600
ERROR = re.compile(r"\[[^]]*\] (?:ERROR|FATAL) (.*?)(?: \([\w.$]+\))?$")
CAUSE = re.compile(r"(?:Caused by: )?[\w.$]+(?:Exception|Error)\b")


def last_error(log: str, out: str = "") -> str:
    """The last ERROR or FATAL line of the broker's log with its cause, else the last line it printed, else nothing."""
    lines = _tail(log)
    for at in range(len(lines) - 1, -1, -1):
        found = ERROR.match(lines[at])
        if found:
            causes = [line for line in lines[at + 1 : at + TRACE_LINES] if CAUSE.match(line)]
            return " ".join([found[1], *causes[-1:]])[:MESSAGE_LETTERS]
    printed = [line for line in _tail(out) if line.strip()]
    return printed[-1].strip()[:MESSAGE_LETTERS] if printed else ""


def _tail(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


class Guard:
    """One broker and the two pipes to its owner. `plan` is the owner's JSON, see `Node`."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan = plan
        self.report_to = plan["report"]
        self.lifeline = plan["lifeline"]
        self.owner_gone = False

    def run(self) -> int:
        """Start the broker, watch until it has ended, clean up. Returns the exit code for this process."""
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        with open(self.plan["out"], "ab") as out:
            broker = subprocess.Popen(
                self.plan["command"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=_in_the_broker(),
                process_group=0,
            )
        self._report({"pid": broker.pid})
        self._watch(broker)
        # Java may have children of its own (it writes the AOT cache in one): they go with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(broker.pid, signal.SIGKILL)
        self._report({"exit": broker.returncode, "error": last_error(self.plan["log"], self.plan["out"])})
        if self.owner_gone and self.plan["remove"]:
            self._remove()
        return 0

    def _watch(self, broker: subprocess.Popen[bytes]) -> None:
        watched = [self.lifeline, *_pidfds(broker.pid, self.plan["owner"])]
        wait_s = None if len(watched) == 3 else LOOK_S
        while broker.poll() is None:
            ready = _ready(watched, wait_s)
            if self.lifeline in ready:
                order = os.read(self.lifeline, 1)
                if order in ORDERS:
                    broker.send_signal(ORDERS[order])
                    continue
                self.owner_gone = True
            elif watched[2] in ready if len(watched) == 3 else self._owner_has_ended():
                # A forked child of the owner may still hold the lifeline.
                self.owner_gone = True
            if self.owner_gone:
                self._end(broker)

    def _owner_has_ended(self) -> bool:
        """Without descriptors: it may have ended before one could be opened."""
        try:
            os.kill(self.plan["owner"], 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def _end(self, broker: subprocess.Popen[bytes]) -> None:
        broker.terminate()
        broker.send_signal(signal.SIGCONT)
        try:
            broker.wait(self.plan["grace_s"])
        except subprocess.TimeoutExpired:
            broker.kill()
            broker.wait()

    def _report(self, facts: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self.report_to, json.dumps(facts).encode() + b"\n")

    def _remove(self) -> None:
        """Remove the node's temporary directory; the last node of a cluster removes the cluster's."""
        directory = self.plan["remove"]
        cluster = os.path.dirname(directory)
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            if not any(name.startswith("node-") for name in os.listdir(cluster)):
                shutil.rmtree(cluster, ignore_errors=True)


def _ready(descriptors: list[int], wait_s: float | None) -> set[int]:
    """Which of them can be read, or has ended. Not `select`: a descriptor that we inherit may have any number."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poller.poll(None if wait_s is None else wait_s * 1000)}


def _pidfds(*pids: int) -> list[int]:
    """Descriptors that become readable when these processes end; none where the system has no such thing."""
    try:
        return [os.pidfd_open(pid) for pid in pids]
    except (AttributeError, OSError):
        return []


def _in_the_broker() -> Callable[[], None]:
    """What to do between fork and exec. This process has one thread, so both that and PDEATHSIG are safe here."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        for number in IGNORED:
            signal.signal(number, signal.SIG_DFL)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


if __name__ == "__main__":
    sys.exit(Guard(json.loads(sys.argv[1])).run())
