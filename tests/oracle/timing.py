"""Laws of time: no timer is passed over (I6), nobody waits for another's poison (I11).

Each is judged by the log's own clock, or by how far two clocks went on, never by two clocks against each other. A
machine that stood still explains a late moment, but not that others were served meanwhile: what needs a machine at
leisure is judged by `Bounds` alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .batches import Fact, Footer, PartitionView
from .commands import Input
from .histories import ENDINGS
from .verdict import DELAYED, LATE_TIMER, NOT_PARKED, Anomaly, Verdict

LATE_MS = 2_000
"""How long past its due time a timer may be passed over by batches that do other things."""
PASSED_OVER = 20
"""So many of them, in office the whole time, are no accident."""
ATTEMPTS = 2
"""Recorded attempts of a turn by default: instead of another one its run is parked."""


@dataclass(frozen=True)
class Bounds:
    """How long things may take where nothing else kept the machine from its work."""

    timer_ms: int = LATE_MS
    poison_ms: int = 1_000


@dataclass
class _Waiting:
    since_ms: int
    passed: int = 0


def check_time(
    views: Mapping[int, PartitionView],
    inputs: Sequence[Input],
    bounds: Bounds | None,
    attempts: int,
    verdict: Verdict,
) -> None:
    """Late timers, delays by poison, runs that were not parked after so many recorded attempts of a turn."""
    for number, view in views.items():
        _Timers(bounds, verdict).read(view)
        _check_attempts(view, attempts, verdict)
        if bounds is not None:
            at_ms = {item.raw.offset: item.raw.timestamp_ms for item in inputs if item.raw.partition == number}
            _check_poison(number, view, at_ms, bounds, verdict)


def _batches(view: PartitionView) -> Iterator[tuple[Footer, list[Fact], bool]]:
    """Every footer with its events, and whether a claim came before it since the last one."""
    facts: dict[tuple[int, int], list[Fact]] = defaultdict(list)
    for fact in view.facts:
        facts[fact.fields["claim_no"], fact.fields["batch_no"]].append(fact)
    claims, taken = [claim.raw.offset for claim in view.claims], 0
    for footer in view.footers:
        before = taken
        while taken < len(claims) and claims[taken] < footer.fact.raw.offset:
            taken += 1
        fields = footer.fact.fields
        yield footer, facts[fields["claim_no"], fields["batch_no"]], taken > before


class _Timers:
    """The timers of one partition, batch by batch."""

    def __init__(self, bounds: Bounds | None, verdict: Verdict) -> None:
        self._bounds = bounds
        self._verdict = verdict
        self._waiting: dict[tuple[str, str], _Waiting] = {}

    def read(self, view: PartitionView) -> None:
        """The whole partition."""
        for footer, facts, claimed in _batches(view):
            now = footer.fact.fields["now_ms"]
            if claimed:
                for one in self._waiting.values():
                    one.since_ms, one.passed = max(one.since_ms, now), 0
            for fact in facts:
                self._one(fact)
            if not any(fact.name in ("TimerFired", "TurnAttempted") for fact in facts):
                self._passed_over(footer, now)

    def _one(self, fact: Fact) -> None:
        run = fact.fields["run_id"]
        if fact.name == "TimerSet":
            since = max(fact.fields["due_at_ms"], fact.fields["recorded_at_ms"])
            self._waiting[run, f"{fact.fields['path']}:{fact.fields['n']}"] = _Waiting(since)
        elif fact.name in ("TimerFired", "TimerCancelled"):
            one = self._waiting.pop((run, fact.fields["timer"]), None)
            if one is not None and fact.name == "TimerFired":
                self._fired(fact, fact.fields["recorded_at_ms"] - one.since_ms)
        elif fact.name in ENDINGS:
            for key in [key for key in self._waiting if key[0] == run]:
                del self._waiting[key]

    def _fired(self, fact: Fact, late_ms: int) -> None:
        if self._bounds is not None and late_ms > self._bounds.timer_ms:
            detail = f"timer {fact.fields['timer']} fired {late_ms} ms late under an owner in office (I6)"
            self._verdict.anomalies.append(Anomaly(LATE_TIMER, fact.where, detail))

    def _passed_over(self, footer: Footer, now_ms: int) -> None:
        for (run, timer), one in self._waiting.items():
            if now_ms <= one.since_ms + LATE_MS:
                continue
            one.passed += 1
            if one.passed == PASSED_OVER:
                late = f"{now_ms - one.since_ms} ms past its due time, passed over by {PASSED_OVER} batches"
                detail = f"timer {timer} of run {run}: {late} (I6)"
                self._verdict.anomalies.append(Anomaly(LATE_TIMER, footer.fact.where, detail))


def _check_attempts(view: PartitionView, attempts: int, verdict: Verdict) -> None:
    for fact in view.facts:
        if fact.name == "TurnAttempted" and fact.fields["attempt"] > attempts:
            detail = f"attempt {fact.fields['attempt']} of a turn of {'/'.join(fact.run)}, which should be parked (I11)"
            verdict.anomalies.append(Anomaly(NOT_PARKED, fact.where, detail))


def _check_poison(
    number: int, view: PartitionView, sent_ms: Mapping[int, int], bounds: Bounds, verdict: Verdict
) -> None:
    """By how much more the outcomes around a dead letter lie apart than the commands that they answer.

    A take-over between them is told apart: it would delay everybody, poison or not.
    """
    taken: dict[int, Fact] = {}
    letters = []
    for fact in view.facts:
        cause = fact.fields["cause"]
        if fact.name == "DeadLettered" and fact.fields["partition"] == number:
            letters.append(fact)
        elif cause["offset"] >= 0 and cause["partition"] == number:
            taken.setdefault(cause["offset"], fact)
    for letter in letters:
        offset = letter.fields["offset"]
        before = max((one for one in taken if one < offset and one in sent_ms), default=None)
        after = min((one for one in taken if one > offset and one in sent_ms), default=None)
        if before is None or after is None:
            continue
        first, last = taken[before].raw, taken[after].raw
        if any(first.offset < claim.raw.offset < last.offset for claim in view.claims):
            continue
        delay = (last.timestamp_ms - first.timestamp_ms) - (sent_ms[after] - sent_ms[before])
        if delay > bounds.poison_ms:
            detail = f"command offset {after} waited {delay} ms longer than {before}, before the poison {offset} (I11)"
            verdict.anomalies.append(Anomaly(DELAYED, letter.where, detail))
