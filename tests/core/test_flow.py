"""The home of limits, decided and folded alone: random questions, releases and times against what a limit promises."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.core import commands as c, events as e, machine
from orchestrator.core.apply.fold import Settings
from orchestrator.core.decide.decision import Context, Draft
from orchestrator.core.events import Event, Record
from orchestrator.core.limit_rows import LIMITS, LimitHomeRow, LimitRow, home_of, limit_key
from orchestrator.core.rows import OUTBOX, TIMERS, Key, OutboxRow
from orchestrator.core.values import LimitedTask, LimitNeed

HOME = home_of("g")
SPECS = (
    LimitNeed("g", "two", concurrency=2),
    LimitNeed("g", "keyed", "x", concurrency=3),
    LimitNeed("g", "keyed", "y", concurrency=3),
    LimitNeed("g", "rate", rate=3, rate_ms=1000),
    LimitNeed("g", "both", concurrency=2, rate=4, rate_ms=700),
    LimitNeed("g", "turns", concurrency=1, strategy="round_robin"),
    LimitNeed("g", "newest", concurrency=1, strategy="cancel_newest"),
    LimitNeed("g", "oldest", concurrency=2, strategy="cancel_oldest"),
    LimitNeed("g", "calm", debounce_ms=300, debounce_max_ms=900),
)


class State:
    """Rows in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Key], Any] = {}

    def get(self, family: str, key: Key) -> Any:
        return self.rows.get((family, key))

    def scan(self, family: str, prefix: Key, after: Key | None = None) -> Iterator[tuple[Key, Any]]:
        keys = [key for found, key in self.rows if found == family and key[: len(prefix)] == prefix]
        for key in sorted(keys, key=lambda key: [(isinstance(part, str), part) for part in key]):
            if after is None or key > after:
                yield key, self.rows[family, key]

    def put(self, family: str, key: Key, row: Any) -> None:
        if row is None:
            self.rows.pop((family, key), None)
        else:
            self.rows[family, key] = row


class Home:
    """One home of limits, its clock, and what a reader of its log knows."""

    def __init__(self) -> None:
        self.state = State()
        self.now = 1_000
        self.events: list[e.Body] = []
        self.needs: dict[str, tuple[LimitNeed, ...]] = {}
        self.tasks: dict[str, LimitedTask] = {}
        self.held: set[str] = set()
        self.waiting: set[str] = set()
        self.displaced: set[str] = set()
        self.begun: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.code: dict[str, LimitNeed] = {}
        """Limits as the code of the home's engine declares them."""
        self._number = 0

    def context(self) -> Context:
        return Context("app", self.now, lambda name, version: None, limit_of=self.code.get)

    def send(self, body: c.TopicCommand) -> None:
        self._number += 1
        command = c.Command(f"c-{self._number}", HOME, body)
        self.take(machine.decide(self.state, command, self.context()))

    def take(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            event = Event(draft.workflow_id, draft.run_id, 0, draft.body, draft.cause, self.now, 1, 1, len(self.events))
            machine.apply(self.state, Record(event, b"", b"", b""), Settings("app"))
            self.events.append(draft.body)
            self.note(draft.body)

    def note(self, body: e.Body) -> None:
        if isinstance(body, e.SlotsAwaited):
            self.waiting.add(body.task.id)
        elif isinstance(body, e.SlotsGranted):
            assert body.task.id not in self.held
            self.waiting.discard(body.task.id)
            self.held.add(body.task.id)
            for need in self.needs[body.task.id]:
                self.begun[need.name, need.key].append(self.now)
        elif isinstance(body, e.SlotsReleased):
            self.held.discard(body.task.id)
            self.waiting.discard(body.task.id)
        elif isinstance(body, e.TaskDisplaced):
            self.displaced.add(body.task.id)
            self.waiting.discard(body.task.id)

    def ask(self, *needs: LimitNeed, step: str = "") -> LimitedTask:
        task = LimitedTask("w", f"r{len(self.tasks)}", step)
        self.tasks[task.id], self.needs[task.id] = task, needs
        self.send(c.AcquireSlots(task, needs))
        return task

    def release(self, task: str) -> None:
        self.displaced.discard(task)
        self.send(c.ReleaseSlots(self.tasks[task]))

    def pass_time(self, milliseconds: int) -> None:
        """Time goes on, and what is due fires."""
        self.now += milliseconds
        for _ in range(1_000):
            due = [(key, row) for key, row in self.state.scan(TIMERS, (1,)) if int(key[1]) <= self.now]
            fired = False
            for key, row in due:
                fire = c.FireTimer(row.run_id, row.kind, row.ref, int(key[1]))
                drafts = machine.fire(self.state, row.workflow_id, fire, self.context())
                self.take(drafts)
                fired = fired or bool(drafts)
            if not fired:
                return
        raise AssertionError("timers fire for ever")

    def check(self) -> None:
        """What every limit promises, at every moment."""
        count = Counter((need.name, need.key) for task in self.held for need in self.needs[task])
        for spec in SPECS:
            place = (spec.name, spec.key)
            row: LimitRow | None = self.state.get(LIMITS, limit_key(HOME, *place))
            if spec.concurrency:
                assert count[place] <= spec.concurrency, place
                assert (row.held if row else 0) == count[place], place
            if spec.rate:
                begun = self.begun[place]
                assert all(b - a >= spec.rate_ms for a, b in zip(begun, begun[spec.rate :], strict=False)), place


@pytest.mark.slow
@pytest.mark.contract(
    "flow-concurrency", "flow-rate", "flow-throttle", "flow-debounce", "flow-priority", "flow-singleton"
)
def test_whatever_comes_no_limit_is_exceeded_and_nothing_is_left_behind(rng: random.Random) -> None:
    for _ in range(30):
        home = Home()
        for _ in range(150):
            what = rng.random()
            if what < 0.5:
                names = {need.name: need for need in rng.sample(SPECS, rng.choice((1, 1, 2, 3)))}
                who, rank = rng.choice("abc"), rng.choice((0, 0, 5))
                home.ask(*(need._replace(fairness=who, priority=rank) for need in names.values()))
            elif what < 0.8 and (home.held or home.waiting):
                home.release(rng.choice(sorted(home.held | home.waiting)))
            elif what < 0.9 and home.displaced:
                home.release(rng.choice(sorted(home.displaced)))
            else:
                home.pass_time(rng.choice((0, 50, 400)))
            home.check()
        for _ in range(400):
            for task in sorted(home.held | home.displaced):
                home.release(task)
                home.check()
            home.pass_time(500)
            home.check()
        assert not home.waiting
        home.pass_time(5_000)
        assert [row for (family, _), row in home.state.rows.items() if family == LIMITS] == [
            LimitHomeRow(home.state.get(LIMITS, (HOME,)).asked)
        ]
        assert not list(home.state.scan(TIMERS, ()))
        admitted = [
            row.body.body.task.id
            for (family, _), row in home.state.rows.items()
            if family == OUTBOX and isinstance(row, OutboxRow) and isinstance(row.body.body, c.AdmitTask)
        ]
        assert Counter(admitted) == Counter(body.task.id for body in home.events if isinstance(body, e.SlotsGranted))


@pytest.mark.contract("flow-waits")
def test_who_waits_for_one_limit_holds_no_slot_of_another() -> None:
    home = Home()
    two, rate = SPECS[0], SPECS[3]
    for _ in range(3):
        home.ask(rate)
    waits = home.ask(rate, two)
    assert waits.id in home.waiting
    assert home.state.get(LIMITS, limit_key(HOME, "two", "")) is None
    first, second = home.ask(two), home.ask(two)
    home.pass_time(1_000)
    assert waits.id in home.waiting, "the other limit is full by now"
    assert any(isinstance(body, e.SlotsMoved) for body in home.events)
    home.release(first.id)
    assert home.held >= {waits.id, second.id}


def test_a_limit_that_was_raised_lets_those_begin_that_wait() -> None:
    home = Home()
    old, new = LimitNeed("g", "two", concurrency=1), LimitNeed("g", "two", concurrency=3)
    tasks = [home.ask(old) for _ in range(2)]
    assert home.waiting == {tasks[1].id}
    tasks.append(home.ask(new))
    home.pass_time(0)
    assert home.held == {task.id for task in tasks}


def test_who_asks_counts_by_the_declaration_of_the_home_s_code() -> None:
    """Its call was recorded before a deploy. Key, fairness and priority are the call's."""
    home = Home()
    home.code["keyed"] = LimitNeed("g", "keyed", concurrency=1, strategy="round_robin")
    old = LimitNeed("g", "keyed", "x", concurrency=3, fairness="someone", priority=5)
    tasks = [home.ask(old) for _ in range(2)]
    assert (home.held, home.waiting) == ({tasks[0].id}, {tasks[1].id})
    asked = [body.needs for body in home.events if isinstance(body, e.SlotsGranted | e.SlotsAwaited)]
    assert asked == [(old._replace(concurrency=1, strategy="round_robin"),)] * 2
    home.ask(LimitNeed("g", "keyed", "y", concurrency=3))
    assert len(home.held) == 2


@pytest.mark.parametrize(
    "declared",
    [
        LimitNeed("another", "two", concurrency=1),
        LimitNeed("g", "two", concurrency=1, strategy="cancel_newest"),
        LimitNeed("g", "two", concurrency=1, debounce_ms=100),
    ],
)
def test_a_declaration_that_is_not_for_who_asks_leaves_it_as_it_was_recorded(declared: LimitNeed) -> None:
    """The limit has moved to another home, or gives up runs by now: a step of an older release stays what it is."""
    home = Home()
    home.code["two"] = declared
    need = LimitNeed("g", "two", concurrency=2)
    for _ in range(3):
        home.ask(need, step="0:1")
    asked = [body.needs for body in home.events if isinstance(body, e.SlotsGranted | e.SlotsAwaited)]
    assert asked == [(need,)] * 3
    assert not any(isinstance(body, e.TaskDisplaced) for body in home.events)


def test_turns_of_fairness_keys(rng: random.Random) -> None:
    home = Home()
    turns = SPECS[5]
    many = [home.ask(turns._replace(fairness="many")) for _ in range(10)]
    one = home.ask(turns._replace(fairness="one"))
    home.release(many[0].id)
    home.release(next(iter(home.held)))
    assert one.id in home.held


@pytest.mark.parametrize("after", ["waiting", "held", "never"])
def test_a_second_release_changes_nothing(after: str) -> None:
    home = Home()
    two = SPECS[0]
    tasks = [home.ask(two) for _ in range(4)]
    gone = {"waiting": tasks[3], "held": tasks[0], "never": LimitedTask("w", "unknown")}[after]
    home.tasks[gone.id] = gone
    home.release(gone.id)
    home.release(gone.id)
    home.check()
    assert isinstance(home.events[-1], e.CommandAccepted)
    assert len(home.held) == 2


@pytest.mark.contract("flow-rate")
def test_a_rate_remembers_a_begin_that_was_granted_in_the_batch_in_which_it_was_to_be_forgotten() -> None:
    rate = LimitNeed("g", "rate", rate=1, rate_ms=1000)
    home = Home()
    home.release(home.ask(rate).id)
    ((key, timer),) = home.state.scan(TIMERS, (1,))
    home.now = int(key[1])
    # The engine has found the timer to be due; before it fires, another one grants a slot.
    task = home.ask(rate)
    home.release(task.id)
    assert machine.fire(home.state, HOME, c.FireTimer("", timer.kind, timer.ref, home.now), home.context()) == []
    home.ask(rate)
    home.check()
