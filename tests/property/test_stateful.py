"""The same courses move by move: hypothesis chooses each, and shrinks the moves of one that fails."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.property.campaign import DEATH_KINDS, Course, judge, make_case
from tests.property.checks import Wrong
from tests.property.test_histories import cancels_no_step

pytestmark = pytest.mark.slow

COURSES = 30
MOVES = 80
BOUNDS = settings(
    max_examples=COURSES,
    stateful_step_count=MOVES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The session's seed chooses the programs; which moves are tried with them is always the same."""


def machine(seed: int) -> type[RuleBasedStateMachine]:
    """Courses of cases of a seed. What hypothesis leaves open at its end goes on by the case's own seed."""

    class Moves(RuleBasedStateMachine):
        course: Course | None = None

        @initialize(number=st.integers(0, 10_000))
        def begin(self, number: int) -> None:
            self.course = Course(make_case(seed, number))
            self.course.death = self.course.fault = 0.0

        @precondition(lambda self: self.course is not None and self.course.moves())
        @rule(at=st.integers(0, 255))
        def something_happens(self, at: int) -> None:
            assert self.course is not None
            moves = self.course.moves()
            self.course.do(*moves[at % len(moves)])

        @precondition(lambda self: self.course is not None)
        @rule(how=st.sampled_from(DEATH_KINDS))
        def the_owner_is_gone(self, how: str) -> None:
            assert self.course is not None
            self.course.die(how)

        @precondition(lambda self: self.course is not None and not self.course.case.calm)
        @rule()
        def time_passes(self) -> None:
            assert self.course is not None
            self.course.pass_time()

        def teardown(self) -> None:
            if self.course is None:
                return
            try:
                self.course.run()
                judge(self.course)
            finally:
                self.course.close()

    return Moves


def test_whatever_happens_in_whatever_order(seed: int) -> None:
    run_state_machine_as_test(machine(seed), settings=BOUNDS)  # type: ignore[no-untyped-call]


def test_a_planted_defect_is_found() -> None:
    planted = settings(BOUNDS, max_examples=400, phases=(Phase.generate,))
    with cancels_no_step(), pytest.raises(Wrong):
        run_state_machine_as_test(machine(1), settings=planted)  # type: ignore[no-untyped-call]
