"""Nothing is exported unless `OTEL_*` says so; what is asked for and missing gets a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.telemetry import export
from orchestrator.telemetry.observer import NOBODY
from tests.architecture.source import ROOT

TRACED = """
from orchestrator.telemetry import export, tracing
flush = export.start()
observer = export.observer()
observer.restored(3, 17, 0.5)
with tracing.calling("StartWorkflow", "order-7"):
    print(len(tracing.current()))
flush()
"""


@pytest.mark.parametrize(
    ("variables", "traces", "metrics"),
    [
        ({}, "", ""),
        ({"OTEL_SERVICE_NAME": "shop"}, "", ""),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console", ""),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, "otlp", "none"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h:4318"}, "", "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, "", ""),
    ],
)
def test_what_the_variables_ask_for(variables: dict[str, str], traces: str, metrics: str) -> None:
    assert export.exporter_of("traces", variables) == traces
    assert export.exporter_of("metrics", variables) == metrics


def test_nothing_by_default() -> None:
    export.start({})()
    assert export.observer({}) is NOBODY


def test_an_exporter_that_is_not_installed() -> None:
    with pytest.raises(ConfigurationError, match="opentelemetry-exporter-otlp-proto-grpc, or unset"):
        export.start({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    with pytest.raises(ConfigurationError, match="no-such is not installed"):
        export.start({"OTEL_METRICS_EXPORTER": "no-such"})


def test_the_console_s_exporters_tell_what_happened(tmp_path: Path) -> None:
    script = tmp_path / "traced.py"
    script.write_text(TRACED, encoding="utf-8")
    asked = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=os.environ | asked, capture_output=True, text=True, check=True)
    assert '"orchestrator.workflow_id": "order-7"' in done.stdout
    assert "orchestrator.restore.events" in done.stdout
    assert done.stdout.splitlines()[0] == "55"
