"""The error of the embedded Kafka."""

from __future__ import annotations

from orchestrator.errors import OrchestratorError


class DevKafkaError(OrchestratorError):
    """The embedded Kafka cannot be fetched, started or kept running; the message names the remedy."""
