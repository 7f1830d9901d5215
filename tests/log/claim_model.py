"""An exhaustive model of taking over a partition (design.md §4): owners, lanes, the broker, and every interleaving.

One atomic step is one request that the broker carries out, or one thing that an owner does alone. A zombie is an owner
that stands still for as long as it likes; nothing tells it from a slow one. Epochs are modelled by who initialised the
lane last: an older producer's requests are refused. Batches go through any of an owner's lanes, which is more than the
engine does.

Visibility is that of `read_committed`: nothing behind the first open transaction, and a commit that the broker has
acknowledged stays open for readers until its marker is written, some time later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

NOBODY = -1
CLAIM, BATCH = "claim", "batch"
# How far a transaction got. Aborted ones vanish: no reader ever sees them.
OPEN, ACKNOWLEDGED, VISIBLE = "open", "acknowledged", "visible"
# What an owner has to do next; a number is a lane to initialise, nothing at all means that it decides.
RESTORE, PRODUCE_CLAIM, COMMIT, READ_BACK, PROVE = "restore", "produce claim", "commit", "read back", "prove"


@dataclass(frozen=True)
class Rules:
    """The parts of the claim. Each can be left out, to see what it is for."""

    claim_record: bool = True
    every_lane_first: bool = True
    one_order: bool = True
    through_first: bool = True
    restore_after: bool = True
    higher_number: bool = True
    lanes_of_claims: bool = True
    lanes_of_every_claim: bool = True
    known_lanes_only: bool = True
    whole_recovery: bool = True
    claim_after_failure: bool = True


@dataclass(frozen=True)
class Bounds:
    """How much may happen. `lanes`, `claims`, `batches` are each owner's; `failures` are commits without an answer."""

    lanes: tuple[tuple[int, ...], ...] = ((0, 1), (0, 1), (0, 1))
    claims: int = 1
    batches: int = 1
    crashes: int = 0
    failures: int = 0
    timeouts: int = 0


class Entry(NamedTuple):
    """A transaction in the log. `life` is the claim's nonce; `lanes` are those that a claim names."""

    kind: str
    owner: int
    life: int
    number: int
    lane: int
    lanes: tuple[int, ...]
    state: str


class Owner(NamedTuple):
    """What one owner holds in memory. `read` entries of the log are known to it."""

    todo: tuple[str | int, ...] = (RESTORE,)
    held: frozenset[int] = frozenset()
    read: int = 0
    tries: int = 0
    life: int = 0
    number: int = 0
    lane: int = NOBODY
    batches: int = 0


class State(NamedTuple):
    """Everything. `holders`: who initialised each lane last."""

    holders: tuple[int, ...]
    log: tuple[Entry, ...]
    owners: tuple[Owner, ...]
    crashes: int
    failures: int
    timeouts: int


class Anomaly(NamedTuple):
    """What must never be, and the shortest way there."""

    what: str
    way: tuple[str, ...]


class Verdict(NamedTuple):
    """What the exploration found. `deciders`: the sets of owners whose batches one run shows."""

    states: int
    anomaly: Anomaly | None
    deciders: frozenset[frozenset[int]]


FORK = "a batch committed by an owner that did not know every batch before it"
REUSED = "a claim number under which two owners committed"

Move = tuple[str, State]


class Model:
    """The transitions under given rules and bounds."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self._rules = rules
        self._bounds = bounds

    def start(self) -> State:
        """Nobody owns anything."""
        bounds = self._bounds
        lanes = 1 + max(lane for lanes in bounds.lanes for lane in lanes)
        owners = tuple(Owner(tries=bounds.claims) for _ in bounds.lanes)
        return State((NOBODY,) * lanes, (), owners, bounds.crashes, bounds.failures, bounds.timeouts)

    def moves(self, state: State) -> Iterator[Move]:
        """Every next step, by the broker and by each owner."""
        for at, entry in enumerate(state.log):
            if entry.state == ACKNOWLEDGED:
                yield f"the marker of {_name(entry)} is written", _mark(state, at, VISIBLE)
            if entry.state == OPEN and state.timeouts:
                holders = _replaced(state.holders, entry.lane, NOBODY)
                log = (*state.log[:at], *state.log[at + 1 :])
                gone = state._replace(holders=holders, log=log, timeouts=state.timeouts - 1)
                yield f"{_name(entry)} times out", gone
        for me, owner in enumerate(state.owners):
            yield from self._step(state, me, owner)
            if state.crashes and owner.todo != (RESTORE,) and owner.batches < self._bounds.batches:
                # One try more than without: what the crash is to show is the take-over after it.
                crashed = _with(state, me, Owner(tries=owner.tries + 1, life=owner.life, batches=owner.batches))
                yield f"{me} crashes", crashed._replace(crashes=state.crashes - 1)

    def _step(self, state: State, me: int, owner: Owner) -> Iterator[Move]:
        if not owner.todo:
            if owner.batches < self._bounds.batches:
                for lane in self._bounds.lanes[me]:
                    yield from self._produce(state, me, owner._replace(lane=lane), BATCH)
            return
        act = owner.todo[0]
        if isinstance(act, int):
            yield f"{me} initialises lane {act}", self._init(state, me, owner)
        elif act == RESTORE:
            yield from self._restore(state, me, owner)
        elif act == PRODUCE_CLAIM:
            lanes = self._bounds.lanes[me]
            for lane in lanes[:1] if self._rules.through_first and owner.lane == NOBODY else lanes:
                if owner.lane in (NOBODY, lane):
                    yield from self._produce(state, me, owner._replace(lane=lane), CLAIM)
        elif act == COMMIT:
            yield from self._commit(state, me, owner)
        elif act == READ_BACK:
            yield from self._read_back(state, me, owner)
        else:
            yield from self._prove(state, me, owner)

    # -- taking over -------------------------------------------------------------------------------------------------

    def _restore(self, state: State, me: int, owner: Owner) -> Iterator[Move]:
        if not owner.tries:
            return
        seen = state.log[: _stable(state)]
        lanes = self._bounds.lanes[me]
        claims = [entry.lanes for entry in seen if entry.kind == CLAIM] if self._rules.lanes_of_claims else []
        named = claims if self._rules.lanes_of_every_claim else claims[-1:]
        extra = sorted({lane for lanes_ in named for lane in lanes_} - set(lanes))
        first, *others = lanes if self._rules.one_order or me % 2 == 0 else reversed(lanes)
        todo: tuple[str | int, ...] = (first, *others, *extra, PRODUCE_CLAIM, COMMIT, READ_BACK)
        if not self._rules.every_lane_first:
            todo = (first, PRODUCE_CLAIM, COMMIT, READ_BACK, *others, *extra)
        if not self._rules.claim_record:
            todo = (first, *others, *extra, READ_BACK)
        number = 1 + max((entry.number for entry in seen), default=0)
        life, tries = owner.life + 1, owner.tries - 1
        after = Owner(todo, read=len(seen), tries=tries, life=life, number=number, batches=owner.batches)
        yield f"{me} restores {len(seen)} entries", _with(state, me, after)

    def _init(self, state: State, me: int, owner: Owner) -> State:
        lane = owner.todo[0]
        assert isinstance(lane, int)
        # What was left open is aborted; what was committed gets its marker before `init_transactions` returns.
        log = tuple(
            entry._replace(state=VISIBLE) if entry.lane == lane and entry.state == ACKNOWLEDGED else entry
            for entry in state.log
            if not (entry.lane == lane and entry.state == OPEN)
        )
        after = state._replace(holders=_replaced(state.holders, lane, me), log=log)
        return _with(after, me, owner._replace(todo=owner.todo[1:], held=owner.held | {lane}))

    def _read_back(self, state: State, me: int, owner: Owner) -> Iterator[Move]:
        stable = _stable(state)
        done = owner._replace(todo=owner.todo[1:], lane=NOBODY)
        if not self._rules.claim_record:
            yield f"{me} reads to the end", _with(state, me, done._replace(read=stable))
            return
        mine = next(at for at, e in enumerate(state.log) if e[:3] == (CLAIM, me, owner.life))
        if mine >= stable:
            return
        between = [entry for entry in state.log[owner.read : mine] if entry.kind == CLAIM]
        again = self._rules.higher_number and any(entry.number >= owner.number for entry in between)
        again |= self._rules.known_lanes_only and any(not owner.held.issuperset(e.lanes) for e in between)
        if again:
            yield f"{me} finds another claim before its own", _with(state, me, owner._replace(todo=(RESTORE,)))
            return
        read = mine + 1 if self._rules.restore_after else owner.read
        yield f"{me} reads its claim back", _with(state, me, done._replace(read=read))

    # -- transactions ------------------------------------------------------------------------------------------------

    def _produce(self, state: State, me: int, owner: Owner, kind: str) -> Iterator[Move]:
        if state.holders[owner.lane] != me:
            yield from self._failed(state, me, owner)
            return
        if any(entry.lane == owner.lane and entry.state == ACKNOWLEDGED for entry in state.log):
            return  # CONCURRENT_TRANSACTIONS, until the marker is written
        lanes = self._bounds.lanes[me] if kind == CLAIM else ()
        entry = Entry(kind, me, owner.life, owner.number, owner.lane, lanes, OPEN)
        todo = owner.todo[1:] if kind == CLAIM else (COMMIT, PROVE)
        after = _with(state._replace(log=(*state.log, entry)), me, owner._replace(todo=todo))
        yield f"{me} produces {_name(entry)}", after

    def _commit(self, state: State, me: int, owner: Owner) -> Iterator[Move]:
        at = next((at for at, e in enumerate(state.log) if e.lane == owner.lane and e.state == OPEN), None)
        if state.holders[owner.lane] != me or at is None:
            yield from self._failed(state, me, owner)
            return
        entry = state.log[at]
        done = _mark(state, at, ACKNOWLEDGED)
        told = owner._replace(todo=owner.todo[1:], batches=owner.batches + (entry.kind == BATCH))
        yield f"{me} commits {_name(entry)}", _with(done, me, told)
        if state.failures:
            for text, broker in (("and is not told", done), ("in vain", state)):
                for label, after in self._failed(broker._replace(failures=state.failures - 1), me, owner):
                    yield f"{me} commits {_name(entry)} {text}; {label}", after

    def _failed(self, state: State, me: int, owner: Owner) -> Iterator[Move]:
        """Any error: the whole claim again, unless a rule is left out."""
        deciding = not owner.todo or PROVE in owner.todo
        if deciding and not self._rules.claim_after_failure:
            yield f"{me} goes on", _with(state, me, owner._replace(todo=(), lane=NOBODY))
        elif deciding and not self._rules.whole_recovery and owner.tries:
            number = 1 + max((entry.number for entry in state.log[: _stable(state)]), default=0)
            todo = (owner.lane, PRODUCE_CLAIM, COMMIT, READ_BACK)
            again = owner._replace(todo=todo, tries=owner.tries - 1, life=owner.life + 1, number=number)
            yield f"{me} recovers lane {owner.lane} alone", _with(state, me, again)
        else:
            yield f"{me} gives up", _with(state, me, owner._replace(todo=(RESTORE,), lane=NOBODY))

    def _prove(self, state: State, me: int, owner: Owner) -> Iterator[Move]:
        """The gate: the next batch is committed only once the last one came back through the log."""
        mine = max(at for at, e in enumerate(state.log) if e[:3] == (BATCH, me, owner.life))
        if mine < _stable(state):
            yield f"{me} reads its batch back", _with(state, me, owner._replace(todo=(), read=mine + 1, lane=NOBODY))


def anomaly_of(before: State, after: State) -> str:
    """What is wrong with the batch that this step committed, if it committed one."""
    if len(before.log) != len(after.log):
        return ""
    for old, new in zip(before.log, after.log, strict=True):
        if new.kind == BATCH and (old.state, new.state) == (OPEN, ACKNOWLEDGED):
            done = [entry for entry in before.log if entry.kind == BATCH and entry.state != OPEN]
            known = [entry for entry in before.log[: before.owners[new.owner].read] if entry in done]
            if len(known) != len(done):
                return FORK
            if any(entry.number == new.number and entry[1:3] != new[1:3] for entry in done):
                return REUSED
    return ""


def explore(rules: Rules, bounds: Bounds, anomalies: frozenset[str] = frozenset({FORK, REUSED})) -> Verdict:
    """Every reachable state, nearest first, to the first of `anomalies`."""
    model = Model(rules, bounds)
    start = model.start()
    came: dict[State, tuple[State, str] | None] = {start: None}
    ahead = deque([start])
    deciders = set()
    while ahead:
        state = ahead.popleft()
        deciders.add(frozenset(entry.owner for entry in state.log if entry.kind == BATCH and entry.state == VISIBLE))
        for label, after in model.moves(state):
            what = anomaly_of(state, after)
            if what in anomalies:
                return Verdict(len(came), Anomaly(what, (*_way(came, state), label)), frozenset(deciders))
            if after not in came:
                came[after] = (state, label)
                ahead.append(after)
    return Verdict(len(came), None, frozenset(deciders))


def _way(came: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels: list[str] = []
    step = came[state]
    while step is not None:
        state, label = step
        labels.append(label)
        step = came[state]
    return tuple(reversed(labels))


def _stable(state: State) -> int:
    """How many entries a read_committed reader can see."""
    return next((at for at, entry in enumerate(state.log) if entry.state != VISIBLE), len(state.log))


def _mark(state: State, at: int, to: str) -> State:
    entry = state.log[at]._replace(state=to)
    return state._replace(log=(*state.log[:at], entry, *state.log[at + 1 :]))


def _with(state: State, me: int, owner: Owner) -> State:
    return state._replace(owners=(*state.owners[:me], owner, *state.owners[me + 1 :]))


def _replaced(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])


def _name(entry: Entry) -> str:
    return f"{entry.owner}'s {entry.kind} {entry.number} on lane {entry.lane}"
