"""Trace context (W3C traceparent) into and out of what travels, and the spans of calls and of steps.

Commands, events and offers of steps carry it; workflow code has no part in it. The library takes a quarter of a second
to load: a process that nobody traces does without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

NAME = "orchestrator"
HEADER = "traceparent"
_UNTRACED = nullcontext()

provider: TracerProvider | None = None
"""Who records our spans; None is the process's own, as `opentelemetry.trace` has it."""


def current() -> str:
    """The traceparent of the current span; "" where there is none."""
    if not _loaded():
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER, "")


def calling(what: str, workflow_id: str) -> AbstractContextManager[object]:
    """A call of a client: a span, if somebody records."""
    if not _recording():
        return _UNTRACED
    from opentelemetry.trace import SpanKind

    attributes = {"orchestrator.workflow_id": workflow_id}
    return _tracer().start_as_current_span(what, kind=SpanKind.CLIENT, attributes=attributes)


def carrying_out(
    step: str, trace: str, attributes: Callable[[], Mapping[str, str | int]]
) -> AbstractContextManager[object]:
    """An attempt of a step: a span below the one that `trace` names, or that context alone if nobody records."""
    if not trace and not _recording():
        return _UNTRACED
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract({HEADER: trace})
    return _tracer().start_as_current_span(f"step {step}", parent, SpanKind.CONSUMER, dict(attributes()))


def _loaded() -> bool:
    """Whether anything of this process uses OpenTelemetry: without it there is no current span."""
    return "opentelemetry.trace" in sys.modules


def _recording() -> bool:
    if provider is not None:
        return True
    if not _loaded():
        return False
    from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

    return not isinstance(get_tracer_provider(), ProxyTracerProvider)


def _tracer() -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer(NAME, tracer_provider=provider)
