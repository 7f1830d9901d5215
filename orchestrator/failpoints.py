"""Fail points: `failpoint("K7")` marks a place where tests kill, stop or fail the process. Without a plan it does
nothing.

The names are the fault table's kill points: K0 before `init_transactions`, K21 after one lane's; K22 the claim
committed, K16 restoring, a file of a checkpoint or a record; K1 after poll, K2 before begin, K3 after it, K6 after the
first of several produces, K8 the events produced and their footer not, K7 all produced, `gate` the footer before it
read back and the commit not sent, K10 while commit waits for its answer, K9 after it, K11 footer read back, K12 before
the batch is written to RocksDB, K13 after, K14 before RocksDB is closed, which flushes it; K15 a file of a checkpoint,
its manifest last, about to get its name; K23 the outbox sent, K24 the release committed; K5 a step returned, K25 its
begin, K20 a worker's result computed and not sent; K17 and K18 in the callbacks of membership, K19 a timer due;
`decided` between apply and encode of a batch, `careful` before a turn whose attempt is on the log. K4, a step within
its effect, is marked by the step that a test runs.

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
from collections.abc import Callable
from typing import NamedTuple

from .errors import OrchestratorError


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


BESIDE_S = 0.001
_WATCHED = "watched"


def _nobody(point: str) -> None:
    """No hook is installed."""


_hook: Callable[[str], None] = _nobody


class _Due(NamedTuple):
    """An action whose hit has come."""

    point: str
    hit: int
    action: str


def _reach(point: str) -> _Due | None:
    _hook(point)
    with _counting:
        _hits[point] += 1
        hit = _hits[point]
    action = _plan.get(point, {}).get(hit)
    return None if action is None else _Due(point, hit, action)


def _act(due: _Due) -> None:
    point, hit, action = due
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
    """A named place of the commit path."""
    if _plan and (due := _reach(point)):
        _act(due)


def failpoint_beside(point: str) -> None:
    """The next call blocks, and the action comes while it does: a millisecond later, from a thread of its own.

    `raise` has nobody to raise to there: it is raised here.
    """
    if _plan and (due := _reach(point)):
        if due.action == "raise":
            _act(due)
        timer = threading.Timer(BESIDE_S, _act, (due,))
        timer.daemon = True
        timer.start()


def install(plan: str) -> None:
    """Use a plan in this process from now on, for tests within one process."""
    _plan.clear()
    _plan.update(parse(plan))
    _hits.clear()


def watch(hook: Callable[[str], None] | None) -> None:
    """Call `hook` at every point of this process, in the thread that reaches it, until None is given.

    A simulation decides there who goes on and who dies. A process that is not watched pays nothing for it.
    """
    global _hook
    _hook = hook or _nobody
    if hook is None:
        _plan.pop(_WATCHED, None)
    else:
        _plan[_WATCHED] = {}
