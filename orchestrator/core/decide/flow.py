"""Flow control at the home of limits: who may begin, who waits in which queue, who is given up.

A decision plans upon rows that do not change under it: what it has granted so far is kept beside them.
"""

from __future__ import annotations

from collections import Counter

from ..commands import AcquireSlots, AdmitTask, Command, FireTimer, ReleaseSlots
from ..events import (
    LimitForgotten,
    RunAdmitted,
    SlotsAwaited,
    SlotsGranted,
    SlotsMoved,
    SlotsReleased,
    StepAdmitted,
    TaskDisplaced,
)
from ..limit_rows import Key, holder_key, limit_key, queue_key, rate_free_at, task_key
from ..rows import LIMITS, STEPS, LimitRow, LimitTaskRow, StepRow, step_key
from ..values import NO_CAUSE, LimitedTask, LimitNeed
from .decision import Context, Draft, View, accepted, caused, current_run, rejected
from .fields import bad_needs

LOOKED_AT = 200
"""Places of a queue that one decision looks at."""

Place = tuple[str, str]


class Plan:
    """What one decision does to the limits of a home."""

    def __init__(self, view: View, home: str, now_ms: int) -> None:
        self._view = view
        self._home = home
        self._now_ms = now_ms
        self._specs: dict[Place, LimitNeed] = {}
        self._held: Counter[Place] = Counter()
        self._begun: dict[Place, tuple[int, ...]] = {}
        self._gone: set[str] = set()
        self.bodies: list[SlotsGranted | SlotsMoved | SlotsAwaited | SlotsReleased | TaskDisplaced] = []

    def row(self, need: LimitNeed) -> LimitRow:
        """A limit as it is, by the newest declaration of it."""
        found: LimitRow | None = self._view.get(LIMITS, limit_key(self._home, need.name, need.key))
        spec = self._specs.get((need.name, need.key))
        if found is None:
            return LimitRow(spec or need)
        return found._replace(spec=spec) if spec is not None else found

    def _is_full(self, need: LimitNeed, waited: bool) -> bool:
        place, row = (need.name, need.key), self.row(need)
        spec = row.spec
        if spec.concurrency and row.held + self._held[place] >= spec.concurrency:
            return True
        if need.debounce_ms and not (waited and row.due_ms and row.due_ms <= self._now_ms):
            return True
        return rate_free_at(self._view.get, self._home, row, self._begun.get(place, ())) > self._now_ms

    def _full(self, needs: tuple[LimitNeed, ...], waited: int = -1) -> int:
        """Which of a task's limits it has to wait for, -1 for none. One that gives newcomers up is asked first."""
        full = [
            at
            for at, need in enumerate(needs)
            if self._is_full(need, at == waited) or (waited < 0 and self.row(need).waiting)
        ]
        refuse = [at for at in full if needs[at].strategy == "cancel_newest"]
        return next(iter([*refuse, *full]), -1)

    def _begin(self, needs: tuple[LimitNeed, ...]) -> None:
        for need in needs:
            place = (need.name, need.key)
            self._held[place] += bool(need.concurrency)
            if need.rate:
                self._begun[place] = (*self._begun.get(place, ()), self._now_ms)

    def ask(self, task: LimitedTask, needs: tuple[LimitNeed, ...]) -> None:
        """A new task."""
        self._specs = {(need.name, need.key): need for need in needs}
        at = self._full(needs)
        if at < 0:
            self._begin(needs)
            self.bodies.append(SlotsGranted(task, needs))
            return
        if not self._gives_up(task, needs[at]):
            self.bodies.append(SlotsAwaited(task, needs, at))

    def _gives_up(self, task: LimitedTask, need: LimitNeed) -> bool:
        """Whether the strategy of a full limit gives the newcomer up. The oldest ones are given up in its place."""
        if need.strategy == "cancel_newest":
            self._displace(task, need, "it is full, and its strategy is cancel_newest")
            return True
        if need.debounce_ms:
            for other in self._others(queue_key(self._home, need.name, need.key)):
                self._displace(other, need, "a newer one came before it began (debounce)")
        elif need.strategy == "cancel_oldest":
            prefixes = (key(self._home, need.name, need.key) for key in (holder_key, queue_key))
            others = [task for prefix in prefixes for task in self._others(prefix)]
            for other in others[: max(0, len(others) + 1 - need.concurrency)]:
                self._displace(other, need, "a newer one needs its slot (cancel_oldest)")
        return False

    def _others(self, prefix: Key) -> list[LimitedTask]:
        found = []
        for _, row in self._view.scan(LIMITS, prefix):
            task: LimitTaskRow = self._view.get(LIMITS, task_key(self._home, row.task))
            if not task.displaced and row.task not in self._gone:
                found.append(task.task)
        return found

    def _displace(self, task: LimitedTask, need: LimitNeed, why: str) -> None:
        self._gone.add(task.id)
        self.bodies.append(TaskDisplaced(task, need.name, f"limit {_named(need)}: {why}"))

    def release(self, row: LimitTaskRow) -> None:
        """A task is over; those that waited for what it held begin."""
        self._gone.add(row.task.id)
        self.bodies.append(SlotsReleased(row.task))
        if not row.holds:
            return
        freed = [need for need in row.needs if need.concurrency]
        for need in freed:
            self._held[(need.name, need.key)] -= 1
        for need in freed:
            self.serve(need)

    def serve(self, need: LimitNeed) -> None:
        """Let those begin that wait for a limit, in their order, as far as there is room.

        As long as somebody waits where there is room the limit has a timer: the rest of a long queue has its own batch.
        """
        for looked_at, (_, waiter) in enumerate(self._view.scan(LIMITS, queue_key(self._home, need.name, need.key))):
            if self._is_full(need, waited=True):
                return
            if looked_at == LOOKED_AT:
                return
            if waiter.task in self._gone:
                continue
            row: LimitTaskRow = self._view.get(LIMITS, task_key(self._home, waiter.task))
            at = self._full(row.needs, row.waits_for)
            self._gone.add(waiter.task)
            if at < 0:
                self._begin(row.needs)
                self.bodies.append(SlotsGranted(row.task))
            elif not self._gives_up(row.task, row.needs[at]):
                self.bodies.append(SlotsMoved(row.task, at))


def acquire_slots(view: View, command: Command, body: AcquireSlots, context: Context) -> list[Draft]:
    """Begin at once, wait, or be given up."""
    if problem := bad_needs(body.needs):
        return rejected(command, context, "bad_request", f"{command.workflow_id}: {problem}")
    if view.get(LIMITS, task_key(command.workflow_id, body.task.id)) is not None:
        return rejected(
            command, context, "already_asked", f"{body.task.id} holds its slots, or waits for them, already"
        )
    plan = Plan(view, command.workflow_id, context.now_ms)
    plan.ask(body.task, tuple(_as_declared(need, body.task, context) for need in body.needs))
    return _drafts(command, plan, context)


def _as_declared(need: LimitNeed, task: LimitedTask, context: Context) -> LimitNeed:
    """A need by the limit as it is declared here: its call may have been recorded by an older release."""
    declared = context.limit_of(need.name)
    if declared is None or declared.group != need.group:
        return need
    if task.step and (declared.strategy.startswith("cancel_") or declared.debounce_ms):
        # By now it gives runs up. Of this task that would be the run of a step.
        return need
    return declared._replace(key=need.key, fairness=need.fairness, priority=need.priority)


def release_slots(view: View, command: Command, body: ReleaseSlots, context: Context) -> list[Draft]:
    """What a task held is free. One that was given up before it could wait held nothing."""
    row: LimitTaskRow | None = view.get(LIMITS, task_key(command.workflow_id, body.task.id))
    if row is None:
        return accepted(command, context, "nothing_held", f"{body.task.id} holds nothing and waits for nothing", "")
    plan = Plan(view, command.workflow_id, context.now_ms)
    plan.release(row)
    return _drafts(command, plan, context)


def due(view: View, workflow_id: str, run_id: str, timer: FireTimer, context: Context) -> list[Draft]:
    """Time has made room in a limit, or has let it be forgotten."""
    name, _, key = timer.ref.partition("|")
    row: LimitRow | None = view.get(LIMITS, limit_key(workflow_id, name, key))
    if row is None:
        return []
    if not row.waiting and not row.held:
        # A begin of the same batch, granted after this timer was found to be due, is remembered for the rate's time.
        forgotten = row.last_ms + row.spec.rate_ms <= context.now_ms
        return [Draft(workflow_id, "", LimitForgotten(name, key))] if forgotten else []
    plan = Plan(view, workflow_id, context.now_ms)
    plan.serve(row.spec)
    return [Draft(workflow_id, "", body) for body in plan.bodies]


def admit_task(view: View, command: Command, body: AdmitTask, context: Context) -> list[Draft]:
    """The run hears that its turn has come. If it no longer waits, its release is on its way."""
    task = body.task
    cause = caused(command, context)
    _, run = current_run(view, command.workflow_id, task.run_id)
    if not task.step:
        if run is not None and run.status == "limited":
            return [Draft(command.workflow_id, task.run_id, RunAdmitted(), cause)]
    else:
        row = view.get(STEPS, step_key(command.workflow_id, task.run_id, task.step))
        if isinstance(row, StepRow) and row.state == "limited" and row.attempt == task.attempt:
            return [Draft(command.workflow_id, task.run_id, StepAdmitted(task.step, task.attempt), cause)]
    message = f"{command.workflow_id}/{task.id} waits for no slot any more; what it held is released"
    return rejected(command, context, "stale_attempt", message, task.run_id)


def _drafts(command: Command, plan: Plan, context: Context) -> list[Draft]:
    cause = caused(command, context)
    return [Draft(command.workflow_id, "", body, NO_CAUSE if at else cause) for at, body in enumerate(plan.bodies)]


def _named(need: LimitNeed) -> str:
    return f"{need.name} [{need.key}]" if need.key else need.name
