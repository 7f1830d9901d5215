"""What must hold when a course is over: the oracle over the raw log, the fold of it, the meaning of every plan."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from orchestrator.core import events as e
from orchestrator.core.apply.fold import Settings
from orchestrator.core.events import Event
from orchestrator.core.rows import META, POSITION_KEY, PositionRow
from tests.oracle.oracle import (
    Evidence,
    Expected,
    LoadModel,
    Receipt,
    SentSignal,
    StatePosition,
    check,
    replies_of,
)
from tests.oracle.raw import RawRecord
from tests.property.folding import fold
from tests.simulation import load
from tests.simulation.course import Course, Wrong

ENDS = {
    e.RunCompleted: "completed",
    e.RunCancelled: "cancelled",
    e.RunTerminated: "terminated",
    e.RunFailed: "failed",
    e.RunContinuedAsNew: "running",
}
TOPICS = ("commands", "events", "replies", "dead-letters", f"tasks.{load.QUEUE}")


def judge(course: Course) -> int:
    """Every check; how many events the log shows. Raises Wrong."""
    visible = records(course, "events")
    events: list[Event] = []
    settings = Settings(load.APP, course.options.dedup_horizon_ms, course.options.retention_ms)
    for number, raws in visible.items():
        states, found = fold(course.codec, settings, raws)
        events += found
        for place, known in course.seen[number].items():
            if states.get(place) != known:
                raise Wrong(f"partition {number}: the state at offset {place[0]} is not the fold of the log (I3)")
    evidence = Evidence(
        records(course, "commands"),
        replies_of(records(course, "replies")[0]),
        _receipts(course),
        _positions(course),
        attempts=course.options.careful_attempts,
    )
    verdict = check(visible, records(course, "events", committed=False), _model(course, events), evidence)
    if verdict.anomalies:
        raise Wrong(verdict.text(), verdict.lost, verdict.duplicated)
    _answered(course)
    twice = [token for token, count in Counter(course.begun).items() if count > 1]
    if twice:
        raise Wrong(f"attempts that nobody may begin twice began twice: {twice} (I12)")
    return len(events)


def records(course: Course, kind: str, committed: bool = True) -> dict[int, list[RawRecord]]:
    """A topic as a raw reader sees it."""
    logs = course.cluster.topics[f"{load.APP}.{kind}"].partitions
    return {n: [RawRecord(*w) for w in log.read(0, 1 << 30, committed)[0]] for n, log in enumerate(logs)}


def digest(course: Course, before: str = "") -> str:
    """A hash of every byte of every topic, with what became of it, and of what was hashed before."""
    found = hashlib.sha256(before.encode())
    for kind in TOPICS:
        for number, log in enumerate(course.cluster.topics[f"{load.APP}.{kind}"].partitions):
            for entry in log.entries:
                found.update(repr((kind, number, entry.state, entry.wire)).encode())
    return found.hexdigest()


def _positions(course: Course) -> dict[int, StatePosition]:
    """Where each partition's newest state stands."""
    found: dict[int, StatePosition] = {}
    for disk in [*course.disks, *(host.disk for host in course.hosts)]:
        for number, store in disk.items():
            row = store.get(META, POSITION_KEY)
            if isinstance(row, PositionRow) and (number not in found or found[number].next_offset < row.next_offset):
                found[number] = StatePosition(row.next_offset, row.footer_hash)
    return found


def _model(course: Course, events: Sequence[Event]) -> LoadModel:
    """What every run must have come to. One that was cancelled in time has no result, and did what it did."""
    ends = {event.workflow_id: ENDS[type(event.body)] for event in events if type(event.body) in ENDS}
    interrupted = Counter(event.workflow_id for event in events if isinstance(event.body, e.StepInterrupted))
    accepted = {command for command, answers in course.post.answers.items() if answers[0].outcome == "accepted"}
    expected: dict[str, Expected] = {}
    for one in course.work:
        signals = [SentSignal(command) for command in _signals(one) if command in accepted]
        if ends.get(one.workflow) == "cancelled" and one.cancelled:
            expected[one.workflow] = Expected(status="cancelled", signals=signals)
            for child in load.children(one.plan):
                if child in ends:
                    expected[child] = Expected(status=ends[child])
            continue
        if len(signals) < len(one.signals):
            raise Wrong(f"{one.workflow}: only {signals} of {len(one.signals)} signals were accepted")
        total, steps = load.meaning(one.plan, one.signals)
        expected[one.workflow] = Expected(total, steps + interrupted[one.workflow], signals=signals)
        for child, plan in load.children(one.plan).items():
            expected[child] = Expected(*load.meaning(plan, []))
    return LoadModel(expected, accepted)


def _receipts(course: Course) -> list[Receipt]:
    """What receivers of effects wrote down.

    A commit that returned OK and was void begins steps that may be repeated: only the footer tells (docs/the-hole.md).
    Those that may not be repeated begin after it came back, so that theirs are judged in any case.
    """
    if course.told["commit void"] or course.told["void end"]:
        return [receipt for receipt, guarded in course.receipts if guarded]
    return [receipt for receipt, _ in course.receipts]


def _signals(one: load.Work) -> list[str]:
    return [f"{one.workflow}-signal-{number}" for number in range(len(one.signals))]


def _answered(course: Course) -> None:
    """Every command was answered, and every time alike; what was sent for the model was accepted."""
    for command, answers in course.post.answers.items():
        if len({(answer.outcome, answer.code, answer.run_id) for answer in answers}) > 1:
            raise Wrong(f"command {command} was answered in several ways: {answers}")
    for one in course.work:
        start = course.post.answers[f"{one.workflow}-start"][0]
        if start.outcome != "accepted":
            raise Wrong(f"{one.workflow} was not started: {start}")
