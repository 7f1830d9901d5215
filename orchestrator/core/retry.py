"""The retry policy: Temporal's names, defaults and arithmetic."""

from __future__ import annotations

from .values import Failure, RetryPolicy

NOT_STARTED = "StepNotStarted"
"""Failure type of an attempt that certainly never began: it is never the last one, whatever a policy allows."""


def next_delay_ms(policy: RetryPolicy, attempt: int, failure: Failure) -> int | None:
    """Milliseconds to wait before attempt `attempt + 1`, or None when there is none.

    An error that names its own delay (`Retry-After`, `next_retry_delay`) is obeyed instead of the back-off.
    """
    if not failure.retryable or failure.type in policy.non_retryable:
        return None
    if policy.max_attempts and attempt >= policy.max_attempts and failure.type != NOT_STARTED:
        return None
    if failure.retry_after_ms >= 0:
        return failure.retry_after_ms
    longest = policy.max_interval_ms or 100 * policy.initial_interval_ms
    # The exponent is bounded: 2.0 ** 2000 would overflow long after the longest interval was reached.
    delay = policy.initial_interval_ms * policy.backoff ** min(attempt - 1, 200)
    return int(min(delay, longest))
