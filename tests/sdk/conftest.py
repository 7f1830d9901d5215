"""Runs of a test end with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.driver import LIVE


@pytest.fixture(autouse=True)
def evicted() -> Iterator[None]:
    """As an engine does: a run that was merely dropped would have its `finally` blocks run by the collector."""
    yield
    while LIVE:
        LIVE.pop().evict()
