"""Probes over HTTP: `/startup`, `/ready`, `/live`, of engines and of workers.

They carry states and numbers only; loopback unless told otherwise.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import NamedTuple

from ..errors import ConfigurationError


class Health(NamedTuple):
    """What the probes say.

    Of an engine: started (every assigned partition has been owned once or parked), ready (all owned, and no right
    is missing), live; the states of its partitions; `anchors`: "ok", "off", or why heads are not witnessed, and
    `checkpoints` likewise; of each partition that it follows (`standby`) how far behind it is, and what is wrong: no
    probe fails for these; `rights`: "ok", or which one it misses and cannot do without. A worker has none of the five
    last ones.
    """

    started: bool
    ready: bool
    live: bool
    partitions: Mapping[int, str] | None = None
    anchors: str = ""
    checkpoints: str = ""
    standby: Mapping[int, Mapping[str, object]] = MappingProxyType({})
    rights: str = "ok"


class Probes:
    """A server of one process's health on `host:port` while it is entered. Port 0: none.

    Entering raises ConfigurationError when the port is taken.
    """

    def __init__(self, host: str, port: int, health: Callable[[], Health]) -> None:
        self._where = (host, port)
        self._health = health
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 when there is none."""
        return self._server.server_address[1] if self._server is not None else 0

    def __enter__(self) -> Probes:
        return self.listen() if self._where[1] else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def listen(self) -> Probes:
        """Listen, on any free port if none was given."""
        host, port = self._where
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(self._health))
        except OSError as error:
            raise ConfigurationError(
                f"the health port {host}:{port} cannot be opened ({error.strerror}): set ORCHESTRATOR_HEALTH_PORT to"
                " another, or leave it out"
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()
        return self

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _handler(health: Callable[[], Health]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0
        """Seconds that a connection may say nothing."""

        def do_GET(self) -> None:
            _answer(self, health())

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds: nothing of them is logged."""

    return Handler


def _answer(request: BaseHTTPRequestHandler, health: Health) -> None:
    verdicts = {"/startup": health.started, "/ready": health.ready, "/live": health.live}
    verdict = verdicts.get(request.path)
    if verdict is None:
        request.send_error(404)
        return
    said: dict[str, object] = {"ok": verdict}
    if health.partitions is not None:
        said |= {"partitions": health.partitions, "anchors": health.anchors, "checkpoints": health.checkpoints}
        said |= {"standby": dict(health.standby), "rights": health.rights}
    body = json.dumps(said).encode()
    request.send_response(200 if verdict else 503)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
