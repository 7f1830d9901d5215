"""A call's span is the parent, through the log, of the spans of the steps that it led to."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator import Orchestrator, step_info
from orchestrator.core import commands as c, events as e
from orchestrator.core.tasks import TaskOffer
from orchestrator.core.values import Payload
from orchestrator.engine.intake import LONGEST_TRACE
from orchestrator.telemetry import tracing
from orchestrator.testing import environment
from tests.architecture.source import ROOT
from tests.engine.rig import MemorySite, Rig
from tests.engine.workers import HandWorker
from tests.worker.conftest import MakeRig, make_rig as make_rig

pytestmark = pytest.mark.slow

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EMPTY = Payload(data=b"{}")
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"
app = Orchestrator("traced")
go = app.signal("go", int)


@app.step
async def first(x: int) -> int:
    return x + 1


@app.step
def second(x: int) -> int:
    """Blocking, in a thread of its own."""
    assert tracing.current().startswith(f"00-{step_info().trace[3:35]}")
    return x + 1


@app.step(queue="gpu")
async def render(x: int) -> int:
    raise AssertionError("runs elsewhere")


@app.workflow
async def child(x: int) -> int:
    return await first(x)


@app.workflow
async def flow(x: int) -> int:
    """Steps, durable time between them, a child."""
    x = await first(x)
    await asyncio.sleep(3600)
    x = await second(x)
    return await child(x)


@app.workflow
async def waits() -> int:
    return await first(await go.wait())


@app.workflow
async def renders() -> int:
    return await render(1)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is recorded."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "provider", provider)
    return exporter


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """The ended spans of a name."""
    return [span for span in exporter.get_finished_spans() if span.name == name]


def by_body(one: Rig, workflow: str) -> dict[str, set[str]]:
    """The trace contexts of a workflow's events, by type."""
    found: dict[str, set[str]] = {}
    for event in one.events(workflow):
        found.setdefault(type(event.body).__name__, set()).add(event.trace)
    return found


def traced(one: Rig, workflow: str, body: c.TopicCommand, context: str) -> None:
    """A command with a trace context, as any producer sends it."""
    command = c.Command(f"{workflow}/{type(body).__name__}", workflow, body, trace=context, reply_to=one.site.reply_to)
    one.send_raw(workflow.encode(), one.codec.encode_command(command))
    assert [reply.outcome for reply in one.answers(command.id)] == ["accepted"]


def test_a_client_s_span_is_the_parent_of_its_steps_spans(spans: InMemorySpanExporter) -> None:
    async def main() -> None:
        async with environment(app, second_process=False) as client:
            tracer = trace.get_tracer("shop", tracer_provider=tracing.provider)
            with tracer.start_as_current_span("request"):
                handle = await client.start(flow.options(id="order-7"), 1)
            assert await handle.result() == 4

    asyncio.run(main())
    [request], [start] = named(spans, "request"), named(spans, "StartWorkflow")
    assert start.parent == request.context
    assert start.attributes == {"orchestrator.workflow_id": "order-7"}
    attempts = named(spans, "step first") + named(spans, "step second")
    assert len(attempts) == 3
    for attempt in attempts:
        assert attempt.parent is not None
        assert attempt.parent.span_id == start.context.span_id, "by the log, over a timer and into the child"
        assert attempt.parent.is_remote
        assert attempt.context.trace_id == request.context.trace_id
    [second_] = named(spans, "step second")
    assert second_.attributes is not None
    assert (second_.attributes["orchestrator.workflow_id"], second_.attributes["orchestrator.attempt"]) == (
        "order-7",
        1,
    )


def test_every_event_carries_the_context_of_what_caused_it() -> None:
    one = Rig(app, MemorySite(app.name))
    try:
        engine = one.engine()
        traced(one, "w", c.StartWorkflow("waits", EMPTY), PARENT)
        one.wait_for(e.RunStarted)
        engine.stop(1.0)
        one.engine()
        one.signal("w", "go", b"1")
        assert one.result("w") == b"2"
        found = by_body(one, "w")
        assert found.pop("SignalReceived") == {""}, "its own sender had none"
        found.pop("TurnAttempted", None)
        assert set(found) == {"RunStarted", "StepScheduled", "StepCompleted", "RunCompleted"}
        assert set.union(*found.values()) == {PARENT}, "the turn falls back to the run's"
        traced(one, "v", c.StartWorkflow("waits", EMPTY), PARENT)
        traced(one, "v", c.SignalWorkflow("go", payload=Payload(data=b"1")), OTHER)
        assert one.result("v") == b"2"
        found = by_body(one, "v")
        assert found["RunStarted"] == {PARENT}
        assert found["SignalReceived"] == found["StepScheduled"] == found["StepCompleted"] == {OTHER}
    finally:
        one.close()


def test_without_a_context_there_is_none() -> None:
    one = Rig(app, MemorySite(app.name))
    try:
        one.engine()
        one.start("w", waits)
        one.signal("w", "go", b"1")
        assert one.result("w") == b"2"
        assert {event.trace for event in one.events()} == {""}
    finally:
        one.close()


@pytest.mark.parametrize("context", ["no traceparent", "x" * (LONGEST_TRACE + 1)])
def test_a_producer_s_nonsense_harms_nobody(context: str) -> None:
    one = Rig(app, MemorySite(app.name))
    try:
        one.engine()
        traced(one, "w", c.StartWorkflow("waits", EMPTY), context)
        one.signal("w", "go", b"1")
        assert one.result("w") == b"2"
        assert max(len(event.trace) for event in one.events()) <= LONGEST_TRACE
    finally:
        one.close()


def test_offers_to_workers_carry_it() -> None:
    one = Rig(app, MemorySite(app.name))
    try:
        worker = HandWorker(one, "gpu")
        one.engine()
        traced(one, "w", c.StartWorkflow("renders", EMPTY), PARENT)
        offer = worker.take()
        assert isinstance(offer, TaskOffer)
        assert offer.trace == PARENT
    finally:
        one.close()


def test_a_step_process_has_it_current(make_rig: MakeRig) -> None:
    """No provider: no span, but the context is passed on to whatever the step calls."""
    rig = make_rig()
    call = rig.call("traced")._replace(trace=PARENT)
    assert rig.executor.start(call)
    assert rig.result(call) == [PARENT, PARENT]
    assert rig.result(rig.start("traced")) == ["", ""]


PLAIN = """
import asyncio, sys
from orchestrator import Orchestrator
from orchestrator.testing import environment
app = Orchestrator("plain")

@app.step
async def one() -> int:
    return 1

@app.workflow
async def flow() -> int:
    return await one()

async def main():
    async with environment(app, second_process=False) as client:
        assert await client.execute(flow) == 1

asyncio.run(main())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_whoever_traces_nothing_loads_nothing(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text(PLAIN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]", done.stderr
