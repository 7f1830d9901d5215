"""The probes of a consumer: `/startup`, `/ready` and `/live` answer with a status and a word, and carry no data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from orchestrator.errors import ConfigurationError

Probe = Callable[[], bool]


class Probes:
    """An HTTP server on `host:port` while it is entered. Port 0: none. `probes` maps startup, ready and live to
    questions.

    Entering raises ConfigurationError when the port is taken.
    """

    def __init__(self, host: str, port: int, probes: Mapping[str, Probe]) -> None:
        self._where = (host, port)
        self._probes = probes
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 when there is none."""
        return self._server.server_address[1] if self._server is not None else 0

    def __enter__(self) -> Probes:
        return self.listen() if self._where[1] else self

    def listen(self) -> Probes:
        """Listen, on any free port if none was given."""
        host, port = self._where
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(self._probes))
        except OSError as error:
            raise ConfigurationError(
                f"the probes cannot listen on {host}:{port}: {error}. "
                f"Set ORCHESTRATOR_HEALTH_PORT to a free port, or leave it out"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


def _handler(probes: Mapping[str, Probe]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            probe = probes.get(self.path.strip("/"))
            status = 404 if probe is None else 200 if probe() else 503
            word = {200: b"yes\n", 503: b"no\n", 404: b"unknown\n"}[status]
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(word)))
            self.end_headers()
            self.wfile.write(word)

        def log_message(self, *_: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler
