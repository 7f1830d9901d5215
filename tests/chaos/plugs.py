"""Classes of faults. What a class brings is a `Plug`; the frame gives it turns, and counts what it says fired."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.tally import Tally


@dataclass(frozen=True)
class Seat:
    """Where a turn plays. `scale` 1 is the campaign's measure, tests take less; `bootstrap`: a broker of one node.

    `faults`: only these, of a class that lets them be chosen; none: by chance.
    """

    seed: int
    directory: Path
    bootstrap: str
    scale: float = 1.0
    faults: Sequence[str] = ()

    @property
    def rng(self) -> random.Random:
        """All that a turn chooses."""
        return random.Random(self.seed)

    def of(self, count: int) -> int:
        """A count at this scale, at least one."""
        return max(1, round(count * self.scale))


@dataclass(frozen=True)
class Plug:
    """A class of faults: its `name`, one turn of it, the `faults` that it claims to bring about.

    `play` fills the tally as it goes: what raises keeps what was counted. `share` is its part of a campaign's time,
    `takes_s` what a turn takes until turns were measured. `needs_broker`: a seat's `bootstrap` is used. `chooses`: a
    seat's `faults` are.
    """

    name: str
    play: Callable[[Seat, Tally], None]
    faults: Sequence[str]
    share: float = 1.0
    takes_s: float = 120.0
    needs_broker: bool = False
    chooses: bool = False


def all_plugs() -> dict[str, Plug]:
    """Every class, by name. A new one is one more line here."""
    from tests.chaos import brokers, engines, local, proxies, suites, times, unclean, workers

    homes = (engines, workers, local, brokers, unclean, times, proxies, suites)
    found = [plug for home in homes for plug in home.PLUGS]
    return {plug.name: plug for plug in found}
