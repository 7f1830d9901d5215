"""The application of unclean elections: runs that ask nothing of other partitions (docs/runbook.md, a log that lost its
end, says why: who was asked remembers, and who asked does not).
"""

from __future__ import annotations

from tests.faults import kill_app
from tests.faults.kill_app import app, go, steps_of as steps_of


@app.workflow
async def alone(n: int) -> int:
    """What a run of the kill campaign does but for its child, and two signals."""
    return await kill_app.alone(n) + await go.wait() + await go.wait()


def result_of(n: int, signals: tuple[int, int]) -> int:
    """What `alone` returns."""
    return kill_app.result_of(n, signals) - kill_app.CHILD_RESULT
