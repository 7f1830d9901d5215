"""Engines and workers end, or freeze, while steps want an effect of a receiver, which counts."""

from __future__ import annotations

from tests.chaos.plugs import Plug, Seat
from tests.chaos.tally import Tally
from tests.faults.side_effects import FAULTS, Campaign


def effects(seat: Seat, tally: Tally) -> None:
    """Each fault once, among attempts of every phase and policy: what may be applied once only, is."""
    for name, fault in FAULTS.items():
        campaign = Campaign(seat.bootstrap, seat.directory, name)
        try:
            cells = campaign.cycle(seat.of(3))
            late = campaign.finish()
        finally:
            campaign.close()
        tally.faults[fault.kill_point or name] += 1
        tally.kills += not fault.freeze
        for cell, counts in cells.items():
            tally.runs += counts["trials"] + counts["missed"]
            tally.steps += counts["trials"] + counts["missed"]
            if counts["wrong"]:
                tally.anomalies.append(f"{name}, {cell}: {counts['wrong']} effects too many or too few: {dict(counts)}")
        if late:
            tally.anomalies.append(f"{name}: {late} effects came after their trial was judged")


PLUGS = (
    Plug("effects", effects, tuple(one.kill_point or name for name, one in FAULTS.items()), 1.0, 120.0,
         True),
)  # fmt: skip
