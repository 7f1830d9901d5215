"""Laws of state and of the log's ends: what RocksDB holds is the log folded (I3), nothing stays open (I7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .avro import Undecodable, decode
from .batches import PartitionView
from .raw import End
from .verdict import DIVERGED, HANGING, STATE_AHEAD, Anomaly, Verdict

HISTORY = "history"
"""The family whose values are events as on the wire."""

Dump = Mapping[str, Sequence[tuple[bytes, bytes]]]
"""Every row of a state, by family, in the order of keys."""


@dataclass(frozen=True)
class StatePosition:
    """What a state directory claims: the offset after its last footer, and that footer's hash."""

    next_offset: int
    footer_hash: bytes


@dataclass(frozen=True)
class Dumps:
    """One partition's rows: of the engine that worked, and folded anew from the log to the same place."""

    live: Dump
    rebuilt: Dump


def check_state(
    state: Mapping[int, StatePosition],
    dumps: Mapping[int, Dumps],
    views: Mapping[int, PartitionView],
    verdict: Verdict,
) -> None:
    """Positions are footers of the log; rows are the same, however they came to be."""
    for number, position in state.items():
        view = views.get(number)
        known = {footer.next_offset: footer.hash for footer in view.footers} if view else {}
        if position.next_offset and known.get(position.next_offset) != position.footer_hash:
            detail = f"RocksDB stands behind offset {position.next_offset}; the log has no such footer there (I3)"
            verdict.anomalies.append(Anomaly(STATE_AHEAD, f"partition {number}", detail))
    for number, pair in dumps.items():
        verdict.totals["rows_compared"] += sum(map(len, pair.live.values()))
        difference = _difference(pair)
        if difference:
            verdict.anomalies.append(Anomaly(DIVERGED, f"partition {number}", f"{difference} (I3)"))
        if number in views:
            _check_history(number, pair.live, views[number], verdict)


def _difference(pair: Dumps) -> str:
    """The first row that differs; empty if none does."""
    for family in sorted(pair.live.keys() | pair.rebuilt.keys()):
        live, rebuilt = dict(pair.live.get(family, ())), dict(pair.rebuilt.get(family, ()))
        for key in sorted(live.keys() | rebuilt.keys()):
            if key not in rebuilt:
                return f"{family} {key!r} is in the live state, and the log does not say so"
            if key not in live:
                return f"the log says {family} {key!r}, which the live state has not"
            if live[key] != rebuilt[key]:
                return f"{family} {key!r} is {live[key]!r:.120}, folded anew {rebuilt[key]!r:.120}"
    return ""


def _check_history(number: int, live: Dump, view: PartitionView, verdict: Verdict) -> None:
    """Rows of histories are events of the log, byte for byte: nobody's fold is needed to see it."""
    visible = {fact.raw.value for fact in view.facts}
    for key, value in live.get(HISTORY, ()):
        if value not in visible:
            detail = f"its history row {key!r} ({_name(value)}) is no visible event of the log (I3)"
            verdict.anomalies.append(Anomaly(STATE_AHEAD, f"partition {number}", detail))


def _name(value: bytes) -> str:
    try:
        return decode(value).name
    except Undecodable:
        return "undecodable bytes"


def check_ends(ends: Mapping[int, End], verdict: Verdict) -> None:
    """What read_committed reaches is the log's end: no transaction is open."""
    for number, (stable, end) in ends.items():
        if stable < end:
            detail = f"the last stable offset is {stable}, the log's end {end}: a transaction is open (I7)"
            verdict.anomalies.append(Anomaly(HANGING, f"partition {number}", detail))
