"""Probes over HTTP: `/startup`, `/ready`, `/live`.

They carry states and numbers only; loopback unless told otherwise.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from ..errors import ConfigurationError


class Health(NamedTuple):
    """What the probes say.

    Started (every assigned partition has been owned once or parked), ready (all owned), live. `anchors`: "ok", "off",
    or why heads are not witnessed; no probe fails for that.
    """

    started: bool
    ready: bool
    live: bool
    partitions: dict[int, str]
    anchors: str = "off"


class HealthServer:
    """Serves one process's health."""

    def __init__(self, host: str, port: int, health: Callable[[], Health]) -> None:
        """Raises ConfigurationError when the port is taken."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(self, health())

            def log_message(self, format: str, *args: Any) -> None:
                """Probes come every few seconds: nothing of them is logged."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(
                f"the health port {host}:{port} cannot be opened ({error.strerror}): set ORCHESTRATOR_HEALTH_PORT"
                f" to another"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


def _answer(request: BaseHTTPRequestHandler, health: Health) -> None:
    verdicts = {"/startup": health.started, "/ready": health.ready, "/live": health.live}
    verdict = verdicts.get(request.path)
    if verdict is None:
        request.send_error(404)
        return
    body = json.dumps({"ok": verdict, "partitions": health.partitions, "anchors": health.anchors}).encode()
    request.send_response(200 if verdict else 503)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
