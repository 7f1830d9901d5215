"""What `orchestrator partition repair` does: accept a log, or an input, that is not what it was, and record that.

The log counts as it stands. Records behind a gap are set aside by the repair's claim, for every reader; a state that
reflects something else is rebuilt; the runs concerned are parked. Commands are read again from the last good footer on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..codec.records import Codec
from ..core.decide.decision import CLOSED, Draft
from ..core.events import InputLost, LogAccepted, RunParked
from ..core.rows import CLAIM_KEY, META, RUNS, ClaimRow, RunRow, run_key
from ..core.values import Actor
from ..errors import LogReplaced
from ..log.ports import Log
from ..store.rows import Store
from .ownership import Ground
from .soundness import Repair, cut_off
from .visiting import ground_of, visit

NAMES_KEPT = 500
RunKey = tuple[str, str]


class Lost(NamedTuple):
    """Commands that were deleted before they were read: offsets from `start` up to, not including, `end`."""

    start: int
    end: int


class Damage(NamedTuple):
    """What is wrong with a partition, and what accepting it means.

    `wrong` is empty when the log is whole. Records from `from_offset` up to `to_offset` would be set aside. `parked`
    are the runs concerned that the log still has, `gone` those that it does not have. Commands from `reads_from` up to
    `reads_to` are read again; `lost` ones cannot be.
    """

    wrong: str
    from_offset: int
    to_offset: int
    state_dropped: bool
    parked: tuple[RunKey, ...]
    gone: tuple[RunKey, ...]
    reads_from: int
    reads_to: int
    lost: Lost | None

    @property
    def is_none(self) -> bool:
        """There is nothing to repair."""
        return not self.wrong and self.lost is None


class Acceptance(NamedTuple):
    """Whose word it is. `skip_input`: the commands that would be read again are recorded as lost instead."""

    actor: Actor
    reason: str
    skip_input: bool = False


class Repairer:
    """One partition's repair, with its engine stopped. `rebuild` gives an empty store for a state that cannot go on."""

    def __init__(self, log: Log, store: Store, codec: Codec, partition: int, rebuild: Callable[[], Store]) -> None:
        self._log = log
        self._store = store
        self._codec = codec
        self._partition = partition
        self._rebuild = rebuild
        self._rebuilt: Store | None = None

    def examine(self) -> Damage:
        """Read the log to its end, as an engine would; nothing is written to it.

        Raises LogReplaced when the log's own start is gone and no state is left, HangingTransaction.
        """
        wrong, ground = self._restored()
        _, end = self._log.tail().bounds(self._partition)
        if ground.assembler.gap is not None:
            wrong = wrong or str(ground.assembler.gap)
        assert ground.repair is not None
        wrong = wrong or _unfinished(ground) or ground.repair.rewritten
        wrong = wrong or cut_off(ground.where, ground.noted, ground.position())
        parked, gone = self._concerned(ground) if wrong else ((), ())
        assert ground.ids is not None
        reads_from = ground.input_position(ground.ids).offset
        start, reads_to = self._log.inputs().bounds(self._partition)
        lost = Lost(reads_from, start) if reads_from < start else None
        ground.give_up()
        return Damage(
            wrong,
            ground.assembler.shown + 1,
            end,
            self._rebuilt is not None,
            parked,
            gone,
            max(reads_from, start),
            reads_to,
            lost,
        )

    def accept(self, acceptance: Acceptance) -> Damage:
        """Record what `examine` found as accepted, and release the partition. Raises what a take-over raises."""
        damage = self.examine()
        if damage.is_none:
            return damage
        ground = self._ground(self._rebuilt or self._store)
        if not damage.wrong:
            ground.repair = None
        with visit(ground) as loop:
            loop.hand_over(_drafts(damage, acceptance), self._next_offset(damage, acceptance))
        return damage

    @property
    def rebuilt(self) -> bool:
        """Whether the state lies in the store that `rebuild` gave."""
        return self._rebuilt is not None

    def _restored(self) -> tuple[str, Ground]:
        ground = self._ground(self._store)
        try:
            ground.restore()
        except LogReplaced as error:
            ground.give_up()
            self._rebuilt = self._rebuilt or self._rebuild()
            ground = self._ground(self._rebuilt)
            ground.restore()
            return str(error), ground
        return "", ground

    def _ground(self, store: Store) -> Ground:
        ground = ground_of(self._log, store, self._codec, self._partition)
        claim: ClaimRow | None = self._store.get(META, CLAIM_KEY)
        note = ground.noted_batch()
        ground.repair = Repair(above=max(claim.claim_no if claim else 0, note.claim_no))
        return ground

    def _concerned(self, ground: Ground) -> tuple[tuple[RunKey, ...], tuple[RunKey, ...]]:
        """Runs with events that do not count any more: (open ones that the log has, those that it has not)."""
        keys = set(ground.assembler.aside)
        if self._rebuilt is not None:
            for key, before in self._store.scan(RUNS, ()):
                if isinstance(before, RunRow):
                    now: RunRow | None = ground.overlay.get(RUNS, key)
                    if now is None or now.seq < before.seq or _differs(now, before):
                        keys.add((str(key[0]), str(key[1])))
        rows = {key: ground.overlay.get(RUNS, run_key(*key)) for key in sorted(keys)}
        parked = tuple(key for key, row in rows.items() if row is not None and row.status not in (*CLOSED, "parked"))
        return parked, tuple(key for key, row in rows.items() if row is None)

    @staticmethod
    def _next_offset(damage: Damage, acceptance: Acceptance) -> int:
        if acceptance.skip_input:
            return damage.reads_to
        return damage.lost.end if damage.lost is not None else 0


def _differs(now: RunRow, before: RunRow) -> bool:
    return now.seq == before.seq and now.head_hash != before.head_hash


def _unfinished(ground: Ground) -> str:
    claim = ground.claim_row()
    if claim is None or claim.accepts_from < 0 or claim.released:
        return ""
    return f"{ground.where}: a repair (claim {claim.claim_no}) was begun and not finished."


def _names(keys: tuple[RunKey, ...]) -> tuple[str, ...]:
    return tuple("/".join(key) for key in keys[:NAMES_KEPT])


def _drafts(damage: Damage, acceptance: Acceptance) -> list[Draft]:
    actor, reason, skip_input = acceptance
    drafts = []
    if damage.wrong:
        accepted = LogAccepted(
            damage.wrong,
            damage.from_offset,
            damage.to_offset,
            damage.state_dropped,
            len(damage.parked),
            len(damage.gone),
            _names(damage.parked),
            _names(damage.gone),
            actor,
            reason,
        )
        drafts.append(Draft("", "", accepted))
        why = (
            f"partition repair accepted the log without some of this run's events ({damage.wrong}): its steps may have"
            " done more than its history says. Look at their effects before it goes on"
        )
        drafts += [Draft(*key, RunParked("log", why, "")) for key in damage.parked]
    if damage.lost is not None:
        drafts.append(Draft("", "", InputLost(damage.lost.start, damage.lost.end, actor, reason)))
    if skip_input and damage.reads_from < damage.reads_to:
        drafts.append(Draft("", "", InputLost(damage.reads_from, damage.reads_to, actor, reason)))
    return drafts
