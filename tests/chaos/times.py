"""Faults of clocks: engine processes on a broker whose wall clocks jump and strobe, killed meanwhile."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.engines import Counted, place
from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults.campaign import Kill
from tests.faults.clocks import KINDS

LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1",
             "/usr/local/lib/faketime/libfaketime.so.1", "/opt/homebrew/lib/faketime/libfaketime.1.dylib")  # fmt: skip
SHIFTS = ("+0", "+0", "+1h", "-1h", "+3s", "-3s")


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
    """Wall clocks are set forward and back by up to a day, or strobe, under load and under kills.

    Every third turn by libfaketime, where it is installed.
    """
    rng = seat.rng
    if rng.random() < 1 / 3:
        if (library := faketime()) is not None:
            real_clocks(seat, tally, library)
            return
        tally.notes.append("libfaketime is not installed, nor named by CHAOS_FAKETIME: the injected clock instead")
    campaign = Clocked(place(seat, "clocks"), rng)
    campaign.tally, campaign.kind = tally, rng.choice(list(KINDS))
    campaign.runs_a_life = seat.of(30)
    deaths = _deaths(rng, seat.of(5))
    tally.judged(campaign.run(deaths))
    campaign.count(len(deaths) + 1)


# -- with libfaketime --------------------------------------------------------------------------------------------------


def faketime() -> Path | None:
    """The library, where it is installed."""
    named = os.environ.get("CHAOS_FAKETIME")
    found = [Path(named)] if named else [path for name in LIBRARIES for path in Path("/").glob(name[1:])]
    return found[0] if found else None


class Faked(Counted):
    """Engines that take their time from libfaketime, which takes it from a file."""

    library: Path

    def _engine(self, number: int, plan: str, isolation: str, state: str = "state") -> subprocess.Popen[bytes]:
        words = {
            "LD_PRELOAD": str(self.library), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
        }  # fmt: skip
        self.command = ("-m", "orchestrator.cli.main", "engine", "run")
        os.environ.update(words)
        try:
            return super()._engine(number, plan, isolation, state)
        finally:
            for name in words:
                del os.environ[name]

    @property
    def file(self) -> Path:
        """What libfaketime reads."""
        return self.site.directory / "faketime"


def real_clocks(seat: Seat, tally: Tally, library: Path) -> None:
    """The same below the process: libfaketime tells whole engines another time."""
    rng = seat.rng
    campaign = Faked(place(seat, "faketime"), rng)
    campaign.tally, campaign.library, campaign.runs_a_life = tally, library, seat.of(30)
    campaign.file.write_text("+0", encoding="utf-8")
    over = threading.Event()

    def jump() -> None:
        """Set the engines' time again and again; a claim needs it right for a moment."""
        chosen = random.Random(seat.seed)
        while not over.wait(chosen.uniform(0.5, 3.0)):
            campaign.file.write_text(chosen.choice(SHIFTS), encoding="utf-8")
            tally.faults["libfaketime set"] += 1

    jumping = threading.Thread(target=jump)
    jumping.start()
    try:
        found = campaign.run(_deaths(rng, seat.of(3)))
    finally:
        over.set()
        jumping.join()
    tally.judged(found)


PLUGS = (Plug("clocks", clocks, ("clock set forward", "clock set back", "libfaketime set"), 1.5, 80.0, True),)
