"""A small server of S3's protocol on loopback: whole objects by path, listed in pages, bodies checked by their hash."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 3
"""Objects of one listing: so few that every listing needs several."""


class S3Server:
    """Buckets in memory. `refuse`: answer this status to everything; `requests`: methods and keys, as they came."""

    def __init__(self, *buckets: str) -> None:
        self.objects: dict[str, dict[str, tuple[bytes, datetime]]] = {name: {} for name in buckets}
        self.refuse = 0
        self.requests: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"site": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> S3Server:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    site: S3Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        bucket, key, query = self._where()
        if bucket is None:
            return
        if not key:
            self._list(bucket, query)
        elif key in bucket:
            self._say(200, bucket[key][0])
        else:
            self._error(404, "NoSuchKey")

    def do_HEAD(self) -> None:
        bucket, key, _ = self._where()
        if bucket is not None:
            self._say(200 if key in bucket else 404, b"")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        bucket, key, _ = self._where()
        if bucket is None:
            return
        if self.headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            self._error(400, "XAmzContentSHA256Mismatch")
            return
        bucket[key] = (body, datetime.now(UTC))
        self._say(200, b"")

    def do_DELETE(self) -> None:
        bucket, key, _ = self._where()
        if bucket is not None:
            bucket.pop(key, None)
            self._say(204, b"")

    def _where(self) -> tuple[dict[str, tuple[bytes, datetime]] | None, str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        name, _, key = unquote(parts.path).lstrip("/").partition("/")
        self.site.requests.append((self.command, key))
        bucket = self.site.objects.get(name)
        if self.site.refuse:
            self._error(self.site.refuse, "AccessDenied")
            bucket = None
        elif not self.headers["Authorization"]:
            self._error(403, "AccessDenied")
            bucket = None
        elif bucket is None:
            self._error(404, "NoSuchBucket")
        return bucket, key, parse_qs(parts.query)

    def _list(self, bucket: dict[str, tuple[bytes, datetime]], query: dict[str, list[str]]) -> None:
        assert query["list-type"] == ["2"]
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = [key for key in sorted(bucket) if key.startswith(prefix) and key > after]
        page = keys[:PAGE]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(bucket[key][0])}</Size>"
            f"<LastModified>{bucket[key][1].strftime('%Y-%m-%dT%H:%M:%S.%fZ')}</LastModified></Contents>"
            for key in page
        )
        more = len(keys) > len(page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self._say(
            200,
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
            "</ListBucketResult>".encode(),
        )

    def _error(self, status: int, code: str) -> None:
        self._say(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""
