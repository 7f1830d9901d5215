"""The retry policy: Temporal's arithmetic."""

from __future__ import annotations

import pytest

from orchestrator.core.retry import NOT_STARTED, next_delay_ms
from orchestrator.core.values import Failure, RetryPolicy

ANY = Failure("Error", "m")


@pytest.mark.contract("step-retry")
def test_the_default_doubles_from_a_second_to_a_hundred_times_that() -> None:
    delays = [next_delay_ms(RetryPolicy(), attempt, ANY) for attempt in (1, 2, 3, 7, 8, 9, 5_000)]
    assert delays == [1_000, 2_000, 4_000, 64_000, 100_000, 100_000, 100_000]


@pytest.mark.contract("step-retry")
def test_attempts_end() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert [next_delay_ms(policy, attempt, ANY) is None for attempt in (1, 2, 3, 4)] == [False, False, True, True]


@pytest.mark.contract("step-retry")
def test_an_attempt_that_never_began_is_not_the_last() -> None:
    unbegun = Failure(NOT_STARTED, "m")
    assert next_delay_ms(RetryPolicy(max_attempts=1), 1, unbegun) == 1_000
    assert next_delay_ms(RetryPolicy(max_attempts=1, non_retryable=(NOT_STARTED,)), 1, unbegun) is None


@pytest.mark.contract("step-retry")
def test_what_is_not_retryable_is_not_retried() -> None:
    policy = RetryPolicy(non_retryable=("TypeError",))
    assert next_delay_ms(policy, 1, Failure("TypeError", "m")) is None
    assert next_delay_ms(policy, 1, Failure("ValueError", "m")) == 1_000
    assert next_delay_ms(policy, 1, Failure("ValueError", "m", retryable=False)) is None


@pytest.mark.contract("step-retry-delay")
@pytest.mark.parametrize("named", [0, 1, 21_600_000])
def test_an_error_s_own_delay_is_obeyed(named: int) -> None:
    assert next_delay_ms(RetryPolicy(max_interval_ms=10), 4, Failure("E", "m", retry_after_ms=named)) == named


@pytest.mark.contract("step-retry-delay")
def test_an_error_s_own_delay_gives_no_further_attempt() -> None:
    assert next_delay_ms(RetryPolicy(max_attempts=1), 1, Failure("E", "m", retry_after_ms=5)) is None


@pytest.mark.contract("step-retry")
def test_a_set_longest_interval_holds() -> None:
    policy = RetryPolicy(initial_interval_ms=100, backoff=3.0, max_interval_ms=500)
    assert [next_delay_ms(policy, attempt, ANY) for attempt in (1, 2, 3, 300)] == [100, 300, 500, 500]
