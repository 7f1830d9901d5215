"""Faults of clocks: engine processes on a broker whose wall clocks jump and strobe, killed meanwhile."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.engines import Counted, place
from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults.campaign import Kill
from tests.faults.clocks import KINDS


class Clocked(Counted):
    """Engines are started with the clock of `clocked`; the last one too, until everything has ended."""

    command = ("-m", "tests.chaos.clocked", "engine", "run")
    kind = "wild"

    def _engine(self, number: int, plan: str, isolation: str, state: str = "state") -> subprocess.Popen[bytes]:
        with _setting("CHAOS_CLOCK", f"{self.kind}:{self.rng.getrandbits(30)}:{self.counts(number)}"):
            return super()._engine(number, plan, isolation, state)

    def counts(self, number: int) -> Path:
        """Where an engine's clock counts its jumps."""
        return self.site.directory / f"jumps-{number}"

    def count(self, lives: int) -> None:
        """Take the jumps into the tally."""
        for number in range(lives):
            path = self.counts(number)
            for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
                name, _, count = line.partition("=")
                self.tally.faults[name] += int(count)


@contextmanager
def _setting(name: str, value: str) -> Iterator[None]:
    """An environment variable, for a child that is started meanwhile."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _deaths(rng: random.Random, count: int) -> list[Kill]:
    points = ["K8", "K9", "K12", "K19", "K22", "K25", "", ""]
    chosen = [rng.choice(points) for _ in range(count)]
    return [Kill(point, rng.randint(1, 2) if point else rng.randint(2_000, 5_000)) for point in chosen]


def clocks(seat: Seat, tally: Tally) -> None:
    """Wall clocks are set forward and back by up to a day, or strobe, under load and under kills."""
    rng = seat.rng
    campaign = Clocked(place(seat, "clocks"), rng)
    campaign.tally, campaign.kind = tally, rng.choice(list(KINDS))
    campaign.runs_a_life = seat.of(30)
    deaths = _deaths(rng, seat.of(5))
    tally.judged(campaign.run(deaths))
    campaign.count(len(deaths) + 1)


PLUGS = (Plug("clocks", clocks, ("clock set forward", "clock set back"), 1.5, 80.0, True),)
