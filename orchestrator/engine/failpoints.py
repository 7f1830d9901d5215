"""Fail points: `failpoint("K7")` marks a place where tests kill, stop or fail the process. Without a plan it does
nothing.

A plan is `ORCHESTRATOR_FAILPOINTS`, e.g. `K8:3:kill` or `K10:1:sleep=2,K4:2:raise`: at the third hit of K8 the
process is SIGKILLed. With `ORCHESTRATOR_FAILPOINT_LOG` each point that fires is appended to that file first, so that
a campaign can count what really happened.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

from ..errors import OrchestratorError


class InjectedFault(OrchestratorError):
    """Raised by a fail point whose action is `raise`."""


def parse(plan: str) -> dict[str, dict[int, str]]:
    """Points, hits and actions of a plan. Raises ValueError on a malformed one."""
    found: dict[str, dict[int, str]] = {}
    for part in filter(None, plan.split(",")):
        point, hit, action = part.strip().split(":", 2)
        found.setdefault(point, {})[int(hit)] = action
    return found


_plan = parse(os.environ.get("ORCHESTRATOR_FAILPOINTS", ""))
_log = os.environ.get("ORCHESTRATOR_FAILPOINT_LOG", "")
_hits: Counter[str] = Counter()
_counting = threading.Lock()
"""Partitions reach the same point at the same time: each hit has its own number, and none is passed over."""


def _fire(point: str) -> None:
    with _counting:
        _hits[point] += 1
        hit = _hits[point]
    action = _plan.get(point, {}).get(hit)
    if action is None:
        return
    if _log:
        with open(_log, "a", encoding="utf-8") as out:
            out.write(f"{point}:{hit}:{action}:{os.getpid()}\n")
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "raise":
        raise InjectedFault(f"fail point {point}, hit {hit}")
    elif action.startswith("sleep="):
        time.sleep(float(action.removeprefix("sleep=")))


def failpoint(point: str) -> None:
    """A named place of the commit path (design.md §4, the fault table's kill points)."""
    if _plan:
        _fire(point)


def install(plan: str) -> None:
    """Use a plan in this process from now on, for tests within one process."""
    _plan.clear()
    _plan.update(parse(plan))
    _hits.clear()
