"""Where a command belongs once the partition count has grown: routing epochs (docs/adr/0009-routing-epochs.md).

An application that grew from N1 to N2 partitions has the epochs (N1, N2). A workflow id has a *place* under each: the
hash modulo that count. The newest is its home: new runs begin there. But a partition keeps the runs that it had, so
a command for a workflow that its home does not know asks the older places first, oldest first.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

HOP_HEADER = "orchestrator-hop"


class Hop(NamedTuple):
    """What a forwarded record carries beside its bytes.

    `epochs` as the sender knows them; the workflow is unknown at the first `ruled` places. `asker` is the home that
    asked, `asked` the offset at which it read the command (-1: no home did).
    """

    epochs: tuple[int, ...]
    ruled: int
    asker: int = -1
    asked: int = -1

    def encode(self) -> str:
        """As a record header: `4,8 1 6 17`."""
        return f"{','.join(map(str, self.epochs))} {self.ruled} {self.asker} {self.asked}"


def parse_hop(text: str) -> Hop | None:
    """The inverse of `Hop.encode`; None for anything else."""
    try:
        epochs, ruled, asker, asked = text.split(" ")
        hop = Hop(tuple(map(int, epochs.split(","))), int(ruled), int(asker), int(asked))
    except ValueError:
        return None
    return hop if follows((), hop.epochs) and hop.ruled >= 0 else None


def follows(older: Sequence[int], newer: Sequence[int]) -> bool:
    """Whether `newer` is `older` with nothing or more behind it, and every count above the one before."""
    grows = all(before < after for before, after in itertools.pairwise(newer))
    return bool(newer) and newer[0] > 0 and grows and tuple(newer[: len(older)]) == tuple(older)


def next_place(places: Sequence[int], here: int, ruled: int) -> tuple[int, int]:
    """(partition, places ruled out) for a command of a workflow that `here` knows nothing of.

    The answer is `here` itself, its home, when no older place is left to ask. Each forward rules out more places than
    the one before, so a command is forwarded at most once an epoch, and once home.
    """
    last = len(places) - 1
    for at in range(ruled, last):
        if places[at] not in (here, places[last]):
            return places[at], at
    return places[last], last
