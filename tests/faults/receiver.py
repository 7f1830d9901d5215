"""The outside receiver of effects: a process of its own that writes a receipt to the disk before it answers.

`python -m tests.faults.receiver FILE` says its port, and ends when its stdin closes. With an `Idempotency-Key` it does
what payment providers do: the second request of a key is answered and not applied. Without one, each is applied.
The first attempt of a trial is held where it asks for that, until `/release`: the fault comes meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Book:
    """What was received and applied, and who is held."""

    def __init__(self, file: Path) -> None:
        self._out = open(file, "a", encoding="utf-8")  # noqa: SIM115
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._met: set[str] = set()
        self._held: dict[str, threading.Event] = {}

    def effect(self, trial: str, key: str) -> bool:
        """Apply it unless its key is known; the receipt is on the disk when this returns."""
        with self._lock:
            applied = not key or key not in self._keys
            self._keys.add(key)
            self._out.write(json.dumps({"trial": trial, "key": key, "applied": applied}) + "\n")
            self._out.flush()
            os.fsync(self._out.fileno())
        return applied

    def hold(self, trial: str) -> None:
        """Hold the first of a trial that comes here."""
        with self._lock:
            if trial in self._met:
                return
            self._met.add(trial)
            held = self._held[trial] = threading.Event()
        held.wait()

    def held(self) -> list[str]:
        """The trials that are held now."""
        with self._lock:
            return list(self._held)

    def release(self) -> None:
        """Nobody is held any more."""
        with self._lock:
            held, self._held = self._held, {}
        for one in held.values():
            one.set()


class Server(ThreadingHTTPServer):
    """Hundreds may come at once."""

    request_queue_size = 1_024
    daemon_threads = True


def handler(book: Book) -> type[BaseHTTPRequestHandler]:
    """Answers by the book."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            where = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(where.query).items()}
            if where.path == "/effect":
                book.effect(asked["trial"], self.headers.get("Idempotency-Key", ""))
            if where.path == "/hold" or "hold" in asked:
                book.hold(asked["trial"])
            if where.path == "/release":
                book.release()
            self._answer({})

        def do_GET(self) -> None:
            self._answer(book.held())

        def _answer(self, said: Any) -> None:
            body = json.dumps(said).encode()
            # Whoever asked may have been killed meanwhile.
            with suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Receipts are the log."""

    return Handler


def main() -> None:
    """Serve until stdin closes."""
    server = Server(("127.0.0.1", 0), handler(Book(Path(sys.argv[1]))))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
