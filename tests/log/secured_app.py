"""An application for engine and worker processes that reach Kafka by a login and TLS: a step here, a step there."""

from __future__ import annotations

import os

from orchestrator import Orchestrator

app = Orchestrator(os.environ.get("ORCHESTRATOR_APP_NAME") or "secured")


@app.step
def near(word: str) -> str:
    """In the engine."""
    return f"near {word}"


@app.step(queue="far")
def far(word: str) -> str:
    """At a worker."""
    return f"far {word}"


@app.workflow
async def both(word: str) -> str:
    """Both of them."""
    return await far(await near(word))
