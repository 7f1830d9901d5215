"""Faults that need no broker: damaged directories, poisoned records, simulated courses."""

from __future__ import annotations

from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults import disks as damage, poison as poisoning
from tests.simulation.course import Wrong
from tests.simulation.running import Tally as Simulated, quietly, run_seed


def disks(seat: Seat, tally: Tally) -> None:
    """Files of state directories flipped, cut, emptied, deleted: the state is the log's or there is none."""
    rng = seat.rng
    played = damage.Played(seat.directory / "played")
    cases = [(rng.choice(damage.KINDS), rng.choice(damage.INJURIES)) for _ in range(seat.of(100))]
    try:
        found = damage.campaign(played, seat.directory, rng, cases)
    finally:
        played.rig.close()
    for name, count in found.items():
        case, _, outcome = name.partition(": ")
        tally.faults[case.partition(" ")[2]] += count
        if outcome.startswith("!"):
            tally.anomalies.append(f"{case}: {outcome}")


def poison(seat: Seat, tally: Tally) -> None:
    """Mutated records among good runs, each accounted for."""
    report = poisoning.Campaign(seat.seed).run(seat.of(10_000))
    tally.faults["mutated record"] += report.records
    tally.runs += report.good_runs
    tally.lost += len(report.unaccounted)
    tally.anomalies += report.unaccounted + report.contained
    tally.notes.append(
        f"the slowest good run among {report.records} mutated records took {report.slowest_good_run_s} s"
    )
    if report.crashes or report.stalls:
        tally.anomalies.append(f"{report.crashes} crashes, {report.stalls} stalls under poison")


def simulation(seat: Seat, tally: Tally) -> None:
    """Whole engines, log, clocks and faults in one process, a course a seed."""
    simulated = Simulated()
    first = seat.seed * 1_000
    with quietly():
        for number in range(first, first + seat.of(1_000)):
            try:
                run_seed(number, simulated)
            except Wrong as wrong:
                tally.lost += wrong.lost
                tally.duplicated += wrong.duplicated
                tally.anomalies.append(str(wrong))
    tally.faults["simulated course"] += simulated.seeds
    tally.faults["simulated fault"] += simulated.faults


PLUGS = (
    Plug("disks", disks, damage.INJURIES, 0.5, 90.0),
    Plug("poison", poison, ("mutated record",), 1.0, 90.0),
    Plug("simulation", simulation, ("simulated course", "simulated fault"), 1.5, 60.0),
)
