"""Seeds, one after the other: each is carried out and judged, and one that fails says how to repeat it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestrator.core.events import BatchFooter, PartitionClaimed
from tests.property.campaign import brief
from tests.simulation.course import Course, Wrong
from tests.simulation.judging import digest, judge, records


@dataclass
class Tally:
    """What was seen in so many seeds. `told` counts faults by name and the points that were reached."""

    seeds: int = 0
    events: int = 0
    moves: int = 0
    faults: int = 0
    lost: int = 0
    duplicated: int = 0
    told: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    logs: str = ""
    """A hash of every log, if that was asked for."""


def repeat(seed: int) -> str:
    """The command that repeats a seed."""
    return f"python -m tests.simulation --seed {seed}"


@contextmanager
def quietly() -> Iterator[None]:
    """The engines' warnings of what is done to them are no news."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def run_seed(seed: int, tally: Tally | None = None, hashed: bool = False) -> Course:
    """Carry a seed out and judge it. Raises Wrong with the command that repeats it; the course is its `course`."""
    tally = Tally() if tally is None else tally
    course = Course(seed)
    try:
        course.run()
        events = judge(course)
    except Exception as error:
        wrong = error if isinstance(error, Wrong) else Wrong(f"{type(error).__name__}: {error}")
        raised = Wrong(f"repeat with: {repeat(seed)}\n{wrong}", wrong.lost, wrong.duplicated, course)
        raise raised from error
    finally:
        course.close()
        tally.seeds += 1
        tally.moves += course.moves
        tally.faults += course.faults
        tally.told += course.told
    tally.events += events
    if hashed:
        tally.logs = digest(course, tally.logs)
    return course


def run_many(first: int, count: int, tally: Tally | None = None, hashed: bool = False) -> Tally:
    """Seeds `first`, `first + 1`, ... Raises Wrong at the first that fails."""
    tally = Tally() if tally is None else tally
    with quietly():
        for seed in range(first, first + count):
            run_seed(seed, tally, hashed)
    return tally


def story(course: Course) -> str:
    """What happened in a course, for people: the faults, then the log as readers see it."""
    lines = [f"runs: {[one._asdict() for one in course.work]}", *course.story]
    for number, raws in records(course, "events").items():
        for raw in raws:
            event = course.codec.decode_event(raw.key, raw.value).event
            text = brief(event.body)
            if isinstance(event.body, PartitionClaimed):
                text = f"PartitionClaimed {event.claim_no} by {event.body.instance}"
            elif isinstance(event.body, BatchFooter):
                text = f"BatchFooter {event.claim_no}.{event.batch_no} position {event.body.position.offset}"
            lines.append(f"events/{number}@{raw.offset} {event.workflow_id} {event.run_id[:6]} {event.seq} {text}")
    return "\n".join(lines)
