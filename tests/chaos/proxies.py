"""Faults between clients and brokers: Kafka's APIs against a proxy's faults, and a proxy that delays by chance."""

from __future__ import annotations

from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults import cross, random_hole
from tests.faults.kafka_proxy import APIS
from tests.faults.proxied import proxied_broker

CELLS = 12
DELAYED_S = 60.0


def crossed(seat: Seat, tally: Tally) -> None:
    """Some cells of the cross of APIs and faults, the engine behind the proxy."""
    rng = seat.rng
    chosen = list(cross.cells(APIS, cross.FAULTS, rng))
    rng.shuffle(chosen)
    with proxied_broker() as stage:
        for one in chosen[: seat.of(CELLS)]:
            (cell,) = cross.stand(stage, [one])
            tally.runs += cell.runs
            tally.faults[cell.fault] += bool(cell.fired)
            tally.duplicated += cell.duplicated
            tally.lost += cell.lost if cell.settled else 0
            if not cell.sound:
                tally.anomalies.append(f"{cell.api} {cell.fault}: {cell}")


def delayed(seat: Seat, tally: Tally) -> None:
    """Requests of transactions are delayed by chance: naive loops lose, the engine does not."""
    with proxied_broker() as stage:
        found = random_hole.campaign(stage, seat.seed, seat.of(int(DELAYED_S)), 0.2, 6)
    engine, naive = found["engine"], found["naive"]
    tally.runs += engine["runs"]
    tally.lost += engine["lost"]
    tally.duplicated += engine["duplicated"]
    tally.anomalies += engine["anomalies"]
    tally.faults["request delayed by chance"] += found["delays"]
    tally.notes.append(
        f"naive loops lost {naive['lost']}, half of a refused batch visible {naive['aborted_read']} times"
    )


PLUGS = (
    Plug("cross", crossed, cross.FAULTS, 2.0, 150.0),
    Plug("delays", delayed, ("request delayed by chance",), 1.0, 90.0),
)
