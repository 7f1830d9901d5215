"""A schema registry in this process: the part of Confluent's REST API that is used, over real HTTP on loopback."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class _Server(ThreadingHTTPServer):
    # Three processes with eight requests each begin at once: beyond the queue the kernel cuts connections.
    request_queue_size = 128


class RegistryServer:
    """Subjects with their versions; one id for one text, whatever the subject, as Confluent's has it."""

    def __init__(self, auth: str = "", first_id: int = 100_001) -> None:
        self.subjects: dict[str, list[int]] = {}
        self.texts: dict[int, str] = {}
        self.asked: Counter[str] = Counter()
        self.types: dict[int, str] = {}
        self.failing = 0
        self._auth = f"Basic {base64.b64encode(auth.encode()).decode()}" if auth else ""
        self._next = first_id
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self, "GET")

            def do_POST(self) -> None:
                outer.answer(self, "POST")

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is printed."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Nobody answers any more."""
        self._server.shutdown()
        self._server.server_close()

    def put(self, subject: str, text: str) -> int:
        """Register a schema; its id."""
        with self._lock:
            known = next((number for number, found in self.texts.items() if found == text), None)
            number = self._next if known is None else known
            self._next += known is None
            self.texts[number] = text
            versions = self.subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            return number

    def answer(self, request: BaseHTTPRequestHandler, method: str) -> None:
        """One request."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        self.asked[f"{method} {parts[0]}"] += 1
        status, answer = self._answer(request, method, parts, json.loads(body) if body else {})
        data = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _answer(
        self, request: BaseHTTPRequestHandler, method: str, parts: list[str], body: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        if self.failing:
            return self.failing, {"error_code": self.failing * 100, "message": "failing"}
        if self._auth and request.headers.get("Authorization") != self._auth:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        if method == "POST" and parts[0] == "subjects" and parts[2:] == ["versions"]:
            return 200, {"id": self.put(parts[1], body["schema"])}
        if method == "POST" and parts[0] == "subjects" and len(parts) == 2:
            versions = self.subjects.get(parts[1], [])
            number = next((one for one in versions if self.texts[one] == body["schema"]), None)
            if number is None:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            return 200, {"subject": parts[1], "id": number, "version": versions.index(number) + 1, **body}
        if method == "GET" and parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.texts:
            number = int(parts[2])
            kind = {"schemaType": self.types[number]} if number in self.types else {}
            return 200, {"schema": self.texts[number], **kind}
        return 404, {"error_code": 40403, "message": "not found"}
