"""The ways an engine can run that no workflow may be able to tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Mode(NamedTuple):
    """How an application under test runs. `options` are EngineOptions; `in_ci` modes run in every CI.

    `remote`: every step goes through a task queue to a worker. `processes`: each engine is a process of its own, with
    RocksDB; steps run by the worker in the test's process, where tests look. `deal_s` > 0: the partitions are dealt
    out anew so often.
    """

    what: str
    engines: int = 1
    partitions: int = 2
    options: Mapping[str, Any] = MappingProxyType({})
    remote: bool = False
    processes: bool = False
    deal_s: float = 0.0
    in_ci: bool = False


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        "default": Mode("as an engine runs", in_ci=True),
        "cache0": Mode("every await evicts the run and replays it", options={"cached_runs": 0}, in_ci=True),
        "engines3": Mode("many partitions, three engines in one process", engines=3, partitions=6),
        "processes3": Mode(
            "many partitions, three engine processes with RocksDB, steps by a worker, on the real broker alone"
            " (applications that a test makes for itself: three engines in its process)",
            engines=3,
            partitions=6,
            remote=True,
            processes=True,
            in_ci=True,
        ),
        "timers1": Mode(
            "one timer in memory: the next is read when that one has fired", options={"timers_per_batch": 1}
        ),
        "single": Mode("a single partition", partitions=1),
        "remote": Mode("every step through a task queue", remote=True),
        "moving": Mode("the partitions are dealt out anew every two seconds", engines=2, partitions=4, deal_s=2.0),
    }
)


class Skip(NamedTuple):
    """Tests that a mode leaves out. `of`: those with this parameter or fixture."""

    mode: str
    of: str
    what: str
    reason: str


SKIPS: tuple[Skip, ...] = (
    Skip(
        "processes3",
        "memory",
        "every test on the log in memory",
        "processes share no memory, so there is no such log; the broker has the same tests, but those marked *memory*",
    ),
    Skip(
        "processes3",
        "held",
        "tests that hold an engine's thread, as the forced races do",
        "nobody can hold a thread of another process; engines3 and remote have the same tests",
    ),
)
"""The only tests that may be left out, and why: docs/semantics.md shows it, and any other skip fails `make modes`."""


def reasons(mode: str) -> set[str]:
    """What a test that is left out in this mode may give as its reason."""
    return {skip.reason for skip in SKIPS if skip.mode == mode}
