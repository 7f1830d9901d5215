"""`make compose`: docker-compose.yml brought up on this machine's Docker and tried; the last line is one JSON object.

Builds the image, starts all, audits the image's own environment in a run of over a hundred steps, kills everything in
the engine's container in the middle of it, waits for the restart and the run's end, verifies the log, starts the engine
anew without its volume, asks again, stops all and looks at the exit codes. It removes what it made. Exit code 1 says
what was not as it should be. Docker with Compose v2 is needed, and the free ports 8080, 8081 and 9092 of 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.k8s.manifests import ROOT

PROJECT = "orchestrator-tried"
CONSUMERS = ("engine", "worker")
MODEL_PORT = 18_000
PATIENCE_S = 180.0
ENVIRONMENT = os.environ | {
    "ORCHESTRATOR_APP": "examples.environment_audit.app:app",
    "ORCHESTRATOR_QUEUES": "background",
    "OPENAI_BASE_URL": f"http://127.0.0.1:{MODEL_PORT}/v1",
    "OPENAI_API_KEY": "none",
    "OPENAI_MODEL": "bundled",
}


class NotAsWanted(Exception):
    """What was tried did not do what it should."""


def compose(*words: str, check: bool = True) -> str:
    """What `docker compose` prints. Raises NotAsWanted if it fails."""
    line = ["docker", "compose", "--project-name", PROJECT, *words]
    done = subprocess.run(line, cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True, timeout=900, check=False)
    if check and done.returncode:
        raise NotAsWanted(f"{' '.join(line)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def orchestrator(*words: str) -> Any:
    """What a command of the engine's container says as JSON."""
    return json.loads(compose("exec", "-T", "engine", "orchestrator", *words, "-o", "json"))


def states() -> dict[str, dict[str, Any]]:
    """What Compose knows of every container, by service."""
    lines = compose("ps", "--all", "--format", "json").splitlines()
    return {one["Service"]: one for one in map(json.loads, filter(None, lines))}


def until(what: str, holds: Callable[[], bool]) -> float:
    """Wait for something; the seconds that it took. Raises NotAsWanted after three minutes."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > PATIENCE_S:
            raise NotAsWanted(f"not within {PATIENCE_S:g} s: {what}\n{compose('logs', '--tail', '40', *CONSUMERS)}")
        time.sleep(0.2)
    return round(time.monotonic() - began, 1)


def healthy() -> bool:
    """Whether Docker's own health checks say that all consumers live."""
    found = states()
    return all(found[name]["Health"] == "healthy" for name in CONSUMERS)


def model() -> None:
    """The bundled model server, on the loopback of the engine's container: it ends with that."""
    server = ["python", "-m", "orchestrator.testing.model_server", "--receipts", "/tmp/receipts.jsonl"]
    compose("exec", "--detach", "engine", *server, "--port", str(MODEL_PORT))


def tried() -> dict[str, Any]:
    """Bring it up and try it."""
    say("building the image")
    compose("build")
    say("starting Kafka, the topics and the consumers")
    compose("up", "--detach")
    up_s = until("healthy consumers", healthy)
    topics = states()["topics"]
    if topics["ExitCode"]:
        raise NotAsWanted(f"the topics: exit code {topics['ExitCode']}\n{compose('logs', 'topics')}")
    model()
    say("a run begins; all processes of the engine's container are killed in the middle of it")
    orchestrator("workflow", "start", "audit", "--id", "tried", "directory=/tmp/report")
    until("ten steps", lambda: orchestrator("workflow", "show", "tried")["steps_done"] >= 10)
    before = orchestrator("workflow", "show", "tried")
    compose("exec", "-T", "engine", "python", "-c", "import os; os.kill(-1, 9)", check=False)
    back_s = until("the engine's container started again by Docker", healthy)
    model()
    result = orchestrator("workflow", "wait", "tried")
    after = orchestrator("workflow", "show", "tried")
    if before["status"] != "running" or after["status"] != "completed":
        raise NotAsWanted(f"the run was {before['status']} when it was to be killed, and is {after['status']}")
    orchestrator("audit", "verify")
    say("the engine loses its volume")
    compose("rm", "--stop", "--force", "engine")
    subprocess.run(["docker", "volume", "rm", f"{PROJECT}_engine-state"], check=True, capture_output=True)
    compose("up", "--detach", "engine")
    until("healthy consumers", healthy)
    if orchestrator("workflow", "show", "tried") != after:
        raise NotAsWanted("the run is another one without the volume")
    say("everything stops")
    compose("stop")
    codes = {name: states()[name]["ExitCode"] for name in CONSUMERS}
    if any(codes.values()):
        raise NotAsWanted(f"exit codes of what was stopped: {codes}\n{compose('logs', '--tail', '40', *CONSUMERS)}")
    return {
        "steps": after["steps_done"],
        "steps_before": before["steps_done"],
        "up_s": up_s,
        "back_s": back_s,
        **result,
    }


def say(what: str) -> None:
    """Progress."""
    print(what, "...", file=sys.stderr, flush=True)


def main() -> int:
    """Try it and leave nothing behind."""
    try:
        print(json.dumps(tried()))
    except (NotAsWanted, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        compose("down", "--volumes", "--timeout", "20", check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
