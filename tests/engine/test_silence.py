"""A timer that judges silence waits for what was sent before it, and for nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator import Orchestrator, RetryPolicy, StepFailed
from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from tests.engine.rig import KafkaSite, MemorySite, Rig

pytestmark = pytest.mark.slow


def application(name: str) -> Orchestrator:
    """A workflow whose step nobody takes."""
    app = Orchestrator(name)

    @app.step(queue="gpu", retry=RetryPolicy(max_attempts=1))
    async def render(x: int) -> int:
        raise AssertionError("runs elsewhere")

    @app.workflow
    async def hurried() -> str:
        try:
            return str(await render.options(schedule_to_start=timedelta(seconds=1))(1))
        except StepFailed as error:
            return str(error)

    return app


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def one(request: pytest.FixtureRequest) -> Iterator[Rig]:
    name = f"silence-{uuid.uuid4().hex[:6]}"
    if request.param == "memory":
        made = Rig(application(name), MemorySite(name, 1))
        made.cluster.create(f"{name}.tasks.gpu", 1)
    else:
        bootstrap = request.getfixturevalue("kafka").bootstrap
        init_topics(LogConfig(name, bootstrap), 1, ["gpu"])
        made = Rig(application(name), KafkaSite(name, bootstrap, 1))
    try:
        yield made
    finally:
        made.close()


def test_the_marker_of_a_transactional_caller_holds_no_time_out_up(one: Rig) -> None:
    """Its offset is the last one of the commands, and no reader is ever given it."""
    one.engine()
    one.accepted("w", c.StartWorkflow("hurried", Payload(data=b"{}")))
    late = c.Command("late", "w", c.SignalWorkflow("go", Payload(data=b"1"), run_id="nowhere"))
    one.site.transact(f"{one.app.name}.commands", 0, b"w", one.codec.encode_command(late))
    # No command is sent from here on: a question would bring the engine's position over the marker.
    (failed,) = one.wait_for(e.StepFailed, "w")
    assert failed.timeout == "schedule_to_start"
