"""One case: random programs, carried out under a random course of deliveries, deaths and time; then every check.

`python -m tests.property.campaign --seed S --case N` repeats a case and looks for a smaller one that fails too;
`--histories N` in its place runs on from the first case until so many histories were checked.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from orchestrator.codec.records import Codec
from orchestrator.core import commands as c, events as e
from orchestrator.core.apply.fold import Settings
from orchestrator.core.events import Event
from orchestrator.core.invariants import CLOSED
from orchestrator.core.rows import RUNS, RunRow
from orchestrator.core.values import Payload, ReplyTo
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.soundness import ClaimLost
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Fenced
from orchestrator.sdk.execution import StepReport
from tests.oracle.oracle import Evidence, check
from tests.oracle.raw import RawRecord
from tests.property import checks
from tests.property.folding import States, fold
from tests.property.interpreter import interpret
from tests.property.programs import Maker, Node, Plan, smaller, walk
from tests.property.world import (
    NEVER_MS,
    HashedStore,
    Killed,
    ManualClock,
    Process,
    as_command,
    deaths,
    make_cluster,
    outcome_of,
    send,
)

APP = "property"
CODEC = Codec()
PATIENCE = 20_000
DEATHS = 12
DEATH_KINDS = ("abandon", "die", "usurp", "release")
LONG_MS = 86_400_000
LONG, LONG_LOOP = 0.01, 40
"""How many cases have long histories, and how often these repeat a small program."""


class Case(NamedTuple):
    """Programs, the programs of the updates that each of them gets, and the seed of what happens to them."""

    programs: list[Node]
    updates: list[list[Node]]
    seed: str
    calm: bool
    """Nothing is cancelled or terminated, and time moves only when nothing else can."""


class Tally(NamedTuple):
    """What was looked at."""

    histories: int
    events: int
    prefixes: int
    exact: int
    """Root runs whose outcome and results the program's meaning fixes."""
    deaths: int
    updates: int
    """Those that were answered by their handlers."""
    longest: int
    """Turns of the longest history, each of which ends a prefix."""


def make_case(seed: int, number: int) -> Case:
    """The case of a seed and a number."""
    rng = random.Random(f"{seed}/{number}")
    maker = Maker(rng, patient=rng.random() < 0.15)
    programs, updates = [], []
    long = rng.random() < LONG
    for _ in range(rng.choice((1, 1, 2, 3))):
        program = maker.program(Plan(rng.choice((3, 6, 12)), rng.choice((3, 5, 8, 14))))
        if long:
            program = ["seq", [program, ["loop", LONG_LOOP, maker.program(Plan(4, 3, alone=True))]]]
        if rng.random() < 0.15:
            program = ["again", program, maker.program(Plan(4, 4, alone=True))]
        programs.append(program)
        count = rng.choice((0, 0, 1, 1, 3))
        updates.append([maker.program(Plan(rng.choice((1, 3, 6)), 4, alone=True, quiet=True)) for _ in range(count)])
    return Case(programs, updates, f"{seed}/{number}/course", rng.random() < 0.4)


class Course:
    """What happens to the programs of a case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.rng = rng = random.Random(case.seed)
        self.codec = CODEC
        self.clock = ManualClock()
        self.partitions = rng.choice((1, 1, 2))
        self.cluster = make_cluster(APP, self.partitions)
        self.options = EngineOptions(
            batch_ms=10**9,
            batch_bytes=rng.choice((1, 2_000, 512 * 1024)),
            cached_runs=rng.choice((0, 1, 5_000)),
            replay_slice=rng.choice((1, 3, 2_000)),
            timers_per_batch=rng.choice((1, 500)),
            evict_after_turn=rng.random() < 0.3,
            careful_attempts=PATIENCE,
            retention_ms=NEVER_MS,
            instance="one",
        )
        self.notes: dict[int, str] = {}
        self.seen: dict[int, States] = {n: {} for n in range(self.partitions)}
        self.stores = {n: HashedStore(self.codec, self.seen[n]) for n in range(self.partitions)}
        self.started = 0
        self.died = 0
        self.spent = 0
        """Moves of its patience."""
        self.cycles = 0
        self.process = self._process()
        self.zombies: list[Process] = []
        self.posts: list[tuple[str, bytes]] = []
        self.late: list[tuple[str, bytes]] = []
        self.disturbed: set[str] = set()
        self._prepare()
        self.death = rng.choice((0.0, 0.0, 0.003, 0.02))
        self.fault = rng.choice((0.0, 0.01, 0.05))
        self.cluster.on_commit = self._verdict

    def _process(self) -> Process:
        self.started += 1
        options = self.options.__class__(**{**self.options.__dict__, "instance": f"process-{self.started}"})
        return Process(self.cluster, APP, self.notes, self.stores, self.clock, options, self.codec)

    def _verdict(self, name: str) -> str:
        return self.rng.choice(("lost", "unknown")) if self.rng.random() < self.fault else ""

    # -- what callers send -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        rng = self.rng
        queues = []
        for number, program in enumerate(self.case.programs):
            workflow = f"w{number}"
            start = c.StartWorkflow(interpret.code.workflow_type, interpret.code.signature.bind((program, ""), {}))
            more: list[c.TopicCommand] = []
            for node, times in walk(program):
                if node[0] == "signal":
                    more += [c.SignalWorkflow(node[1], Payload(data=b"%d" % n)) for n in range(times)]
            for at, task in enumerate(self.case.updates[number]):
                refused = rng.random() < 0.2
                payload = json.dumps([-1 - at if refused else at, task]).encode()
                more += [c.UpdateWorkflow("put", Payload(data=payload))]
            if not self.case.calm and rng.random() < 0.35:
                self.disturbed.add(workflow)
                more += [c.CancelWorkflow() for _ in range(rng.choice((1, 1, 2)))]
                more += [c.TerminateWorkflow()] if rng.random() < 0.2 else []
            rng.shuffle(more)
            queues.append([self._command(workflow, f"{n}", body) for n, body in enumerate([start, *more])])
        while any(queues):
            self.posts.append(rng.choice([queue for queue in queues if queue]).pop(0))

    def _command(self, workflow: str, name: str, body: c.TopicCommand) -> tuple[str, bytes]:
        command = c.Command(f"{workflow}-{name}", workflow, body, reply_to=ReplyTo(f"{APP}.replies", 0))
        return workflow, self.codec.encode_command(command)

    # -- the course --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """To the end of every run. Raises Wrong when that does not come."""
        with deaths(self.rng, lambda: self.death):
            while self.spent < PATIENCE:
                self.spent += 1
                if self.died > DEATHS or self.spent >= PATIENCE // 4:
                    # Enough: what is still to come, comes without faults, so that an end must come.
                    self.death, self.fault = 0.0, 0.0
                if not self._move():
                    return
        raise checks.Wrong(f"no end after {PATIENCE} moves")

    def moves(self) -> list[tuple[Any, ...]]:
        """What can happen next, the likelier more often; `do` lets one of them happen."""
        process = self.process
        moves: list[tuple[Any, ...]] = []
        for number, loop in process.loops.items():
            if number not in process.owned:
                moves += [("claim", number)]
            else:
                moves += [("cycle", number)] * 4 if loop._has_input() or process.log.tail().waits(number) else []
                moves += [("read", number)] * 2 if process.log.inputs().waits(number) else []
        moves += [("end", token) for token in list(process.executor.calls)[:6]]
        moves += [("post",)] * 2 if self.posts else []
        moves += [("late",)] if self.late else []
        return moves + ([("zombie",)] if self.zombies else [])

    def _move(self) -> bool:
        rng, moves = self.rng, self.moves()
        if not moves:
            if not self._open():
                return False
            if not self.pass_time():
                raise checks.Wrong(f"nothing left to happen, and these runs are open: {self._open()}\n{self._all()}")
            return True
        if not self.case.calm and rng.random() < 0.02:
            self.pass_time()
        if rng.random() < (0.01 if self.death else 0.0):
            self.die(rng.choice(DEATH_KINDS))
            return True
        self.do(*rng.choice(moves))
        return True

    def do(self, kind: str, of: Any = None) -> None:
        """One of `moves`."""
        process = self.process
        try:
            if kind == "claim":
                process.claim(of)
            elif kind == "cycle":
                # A replay of a delivery a cycle takes as many as the history is long: they count for less.
                self.cycles += 1
                self.spent -= self.cycles % 20 > 0
                process.loops[of].cycle()
            elif kind == "read":
                process.log.inputs().pump(of, self.rng.choice((1, 1, 3, 1_000)))
            elif kind == "end":
                self._end(process, of)
            elif kind == "zombie":
                self._zombie()
            else:
                queue = self.posts if kind == "post" else self.late
                post = queue.pop(0 if kind == "post" else self.rng.randrange(len(queue)))
                send(self.cluster, APP, *post)
                if kind == "post" and self.rng.random() < 0.15:
                    self.late.append(post)
        except Killed:
            self.die("die")
        except Fenced:
            process.abandon(of)

    def _end(self, process: Process, token: str) -> None:
        rng = self.rng
        call = process.executor.calls[token]
        report = process.executor.end(token, rng.random() < 0.7)
        number = partition_of(call.workflow_id.encode(), self.partitions)
        process.loops[number].inbox.put_report(report)
        if rng.random() < 0.1:
            process.loops[number].inbox.put_report(report)
        if rng.random() < 0.15:
            self._stale(report)

    def _stale(self, report: StepReport) -> None:
        """It comes once more, as a command, at some later time."""
        body = as_command(report)
        command = c.Command(f"{body.token}/report/{len(self.late)}", report.workflow_id, body)
        self.late.append((report.workflow_id, self.codec.encode_command(command)))

    def die(self, how: str) -> None:
        """The owner's process ends, or gives up its claims; one of `DEATH_KINDS`."""
        self.died += 1
        rng, old = self.rng, self.process
        if how == "abandon":
            for number in sorted(old.owned):
                old.abandon(number)
            return
        if how == "release":
            self._release(old)
        if how == "usurp":
            # It goes on, as a process does that was away for a while; its stores are its own.
            self.zombies.append(old)
            self.stores = {n: HashedStore(self.codec, self.seen[n]) for n in self.stores}
        else:
            old.die()
            for call in old.executor.calls.values():
                if rng.random() < 0.4:
                    self._stale(outcome_of(call))
            if rng.random() < 0.4:
                self.stores = {n: HashedStore(self.codec, self.seen[n]) for n in self.stores}
        self.process = self._process()

    def _release(self, old: Process) -> None:
        """What runs is handed over; how it ends is told by command."""
        try:
            for number in sorted(old.owned):
                old.loops[number].hand_over()
        except (Fenced, ClaimLost, Killed):
            return
        for call in old.executor.calls.values():
            self._stale(outcome_of(call))

    def _zombie(self) -> None:
        """The owner of before does something, and finds out."""
        zombie = self.zombies[0]
        for token in list(zombie.executor.calls)[:1]:
            self._end(zombie, token)
        for number in sorted(zombie.owned):
            loop = zombie.loops[number]
            if loop._has_input() or zombie.log.tail().waits(number):
                try:
                    loop.cycle()
                except (Fenced, ClaimLost, Killed):
                    zombie.abandon(number)
            elif number in self.process.owned:
                zombie.abandon(number)
        if not zombie.owned:
            zombie.die()
            self.zombies.remove(zombie)

    def pass_time(self) -> bool:
        """To the next moment that something waits for, if there is one."""
        moments = []
        for loop in self.process.loops.values():
            due = loop.intake.timers.next_due_ms()
            moments += [due] if due < NEVER_MS else []
            moments += [int(next_ * 1000) + 1 for next_ in (loop.steps.watches.next(),) if next_ is not None]
        ahead = [moment for moment in moments if self.clock.ms < moment < self.clock.ms + LONG_MS]
        self.clock.ms = min(ahead, default=self.clock.ms)
        return bool(ahead)

    def _open(self) -> list[str]:
        return [
            f"{key[0]} {row.status} {row.parked_message}"
            for loop in self.process.loops.values()
            for key, row in loop.ground.overlay.scan(RUNS, ())
            if isinstance(row, RunRow) and row.status not in CLOSED
        ]

    def _all(self) -> str:
        """Every visible event, for messages."""
        settings = Settings(APP, self.options.dedup_horizon_ms, self.options.retention_ms)
        lines = []
        for number, records in self.records("events").items():
            lines += [f"partition {number}", told([e for e in fold(self.codec, settings, records)[1] if e.seq])]
        return "\n".join(lines)

    def close(self) -> None:
        """Nothing of it goes on."""
        for process in (self.process, *self.zombies):
            process.die()

    # -- what came of it ---------------------------------------------------------------------------------------------

    def records(self, kind: str, committed: bool = True) -> dict[int, list[RawRecord]]:
        """A topic as a raw reader sees it."""
        logs = self.cluster.topics[f"{APP}.{kind}"].partitions
        return {n: [RawRecord(*w) for w in log.read(0, 1 << 30, committed)[0]] for n, log in enumerate(logs)}


def judge(course: Course) -> Tally:
    """Every check on what a course left. Raises Wrong."""
    events = course.records("events")
    evidence = Evidence(course.records("commands"), course.records("replies")[0], attempts=PATIENCE)
    verdict = check(events, course.records("events", committed=False), evidence=evidence)
    if verdict.anomalies:
        raise checks.Wrong(verdict.text())
    histories: dict[tuple[str, str], list[Event]] = defaultdict(list)
    settings = Settings(APP, course.options.dedup_horizon_ms, course.options.retention_ms)
    for number, records in events.items():
        states, visible = fold(course.codec, settings, records)
        for place, known in course.seen[number].items():
            if states.get(place) != known:
                raise checks.Wrong(f"partition {number}: the state at offset {place[0]} is not the fold of the log")
        for event in visible:
            if event.seq:
                histories[event.workflow_id, event.run_id].append(event)
    prefixes = longest = 0
    for (workflow, run), history in histories.items():
        try:
            tried = checks.replays(history)
            prefixes, longest = prefixes + tried, max(longest, tried)
            checks.Differential(history).check()
        except checks.Wrong as error:
            raise checks.Wrong(f"{workflow} {run}: {error}\n{told(history)}") from None
    exact, answered = _roots(course, histories)
    total = sum(map(len, histories.values()))
    return Tally(len(histories), total, prefixes, exact, course.died, answered, longest)


def _roots(course: Course, histories: dict[tuple[str, str], list[Event]]) -> tuple[int, int]:
    exact = answered = 0
    for number, program in enumerate(course.case.programs):
        root = f"w{number}"
        found, ends = Counter[str](), []
        for (workflow, _), history in histories.items():
            if workflow == root or workflow.startswith(f"{root}/"):
                found += checks.steps(history)
            if workflow == root:
                ends += [event.body for event in history if isinstance(event.body, checks.ENDS)]
        checks.bounded(["seq", [program, *course.case.updates[number]]], found)
        answered += checks.updates([history for (workflow, _), history in histories.items() if workflow == root])
        own = Counter({label: count for label, count in found.items() if "/u" not in label})
        final = [end for end in ends if not isinstance(end, e.RunContinuedAsNew)]
        if len(final) != 1:
            raise checks.Wrong(f"{root} ended {len(final)} times: {final}")
        end = final[0]
        status = type(end).__name__.removeprefix("Run").lower()
        value = json.loads(end.result.data) if isinstance(end, e.RunCompleted) else None
        if root not in course.disturbed:
            if status not in ("completed", "failed"):
                raise checks.Wrong(f"{root} is {status}, and nobody asked for that")
            exact += checks.denoted(program, status, value, own)
    return exact, answered


def told(history: list[Event]) -> str:
    """A history for people."""
    return "\n".join(f"  {event.seq} {event.recorded_at_ms} {brief(event.body)}" for event in history)


def brief(body: Any) -> str:
    """An event in one line."""
    parts = []
    for name, value in body._asdict().items():
        value = value.data.decode() if isinstance(value, Payload) else value
        if name in (
            "arguments",
            "result",
            "failure",
            "path",
            "n",
            "step",
            "child",
            "timer",
            "turn",
            "attempt",
            "due_at_ms",
        ):
            parts.append(f"{name}={value.type if name == 'failure' else value}")
    return f"{type(body).__name__} {' '.join(parts)}"


def run_case(case: Case) -> Tally:
    """Carry a case out and check it. Raises Wrong, or whatever broke."""
    course = Course(case)
    try:
        course.run()
        return judge(course)
    finally:
        course.close()


def shrink(case: Case, tries: int = 2_000) -> tuple[Case, Exception]:
    """A smaller case that fails, and how; the course follows the same seed. Raises ValueError if `case` does not."""
    error = _failure(case)
    if error is None:
        raise ValueError("this case does not fail")
    best, going = case, True
    while going:
        going = False
        for less in _fewer(best):
            tries -= 1
            found = _failure(less) if tries > 0 else None
            if found is not None:
                best, error, going = less, found, True
                break
    return best, error


def _failure(case: Case) -> Exception | None:
    try:
        run_case(case)
    except Exception as error:
        return error
    return None


def _fewer(case: Case) -> Iterator[Case]:
    programs, updates = case.programs, case.updates
    for number, program in enumerate(programs):
        before, behind = slice(number), slice(number + 1, None)
        if len(programs) > 1:
            fewer = programs[before] + programs[behind], updates[before] + updates[behind]
            yield case._replace(programs=fewer[0], updates=fewer[1])
        if updates[number]:
            yield case._replace(updates=[*updates[before], updates[number][1:], *updates[behind]])
        for less in smaller(program):
            yield case._replace(programs=[*programs[before], less, *programs[behind]])
        for at, task in enumerate(updates[number]):
            for less in smaller(task):
                tasks = [*updates[number][:at], less, *updates[number][at + 1 :]]
                yield case._replace(updates=[*updates[before], tasks, *updates[behind]])


def run_many(seed: int, histories: int, first: int = 0, stride: int = 1) -> Tally:
    """Cases `first`, `first + stride`, ... until so many histories were checked.

    Raises Wrong with the command that repeats the case.
    """
    total, number = Tally(0, 0, 0, 0, 0, 0, 0), first
    while total.histories < histories:
        try:
            found = run_case(make_case(seed, number))
        except Exception as error:
            repeat = f"python -m tests.property.campaign --seed {seed} --case {number}"
            raise checks.Wrong(f"repeat and shrink with: {repeat}\n{type(error).__name__}: {error}") from error
        longest = max(total.longest, found.longest)
        total = Tally(*(a + b for a, b in zip(total, found, strict=True)))._replace(longest=longest)
        number += stride
    return total


def main() -> None:
    """See the module's text. Exit code 1 when a case fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--case", type=int, default=-1)
    parser.add_argument("--histories", type=int, default=2_000)
    given = parser.parse_args()
    if given.case < 0:
        print(run_many(given.seed, given.histories))
        return
    case = make_case(given.seed, given.case)
    if _failure(case) is None:
        print(f"seed {given.seed}, case {given.case}: nothing fails")
        return
    smallest, error = shrink(case)
    print(f"{type(error).__name__}: {error}\n\nshrunk to (course {smallest.seed}, calm: {smallest.calm}):")
    for program, tasks in zip(smallest.programs, smallest.updates, strict=True):
        print(f"  {json.dumps(program)}", *(f"    update {json.dumps(task)}" for task in tasks), sep="\n")
    raise SystemExit(1)


if __name__ == "__main__":
    main()
