"""A model server for demos and tests: OpenAI's wire protocol on loopback, deterministic answers, scripted faults.

    python -m orchestrator.testing.model_server --port 0 --receipts receipts.jsonl --faults faults.json

prints `{"url": "http://127.0.0.1:<port>/v1"}` when it takes connections. The same request always gets the same text.

Summary: the last user message is cut into sentences; a sentence scores the mean, over its words of four letters or
more, of how often each word occurs in the whole message; the three best (earlier first among equals) are returned in
their original order. Tokens (approximate): one for every four letters or digits begun, one for every other sign that
is not white space.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.testing.model_faults import Fault, FaultPlan, Receipts, read_receipts

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

MODEL = "extractive-1"
SENTENCES = 3
START_TIMEOUT_S = 30.0


def count_tokens(text: str) -> int:
    """The approximate number of tokens: see the module's docstring."""
    return len(re.findall(r"\w{1,4}|[^\w\s]", text))


def summarise(text: str, sentences: int = SENTENCES) -> str:
    """The best sentences of a text, in their order: see the module's docstring."""
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]
    often = Counter(re.findall(r"\w{4,}", text.lower()))

    def score(position: int) -> tuple[float, int]:
        words = re.findall(r"\w{4,}", parts[position].lower())
        return (-sum(often[word] for word in words) / max(1, len(words)), position)

    return " ".join(parts[position] for position in sorted(sorted(range(len(parts)), key=score)[:sentences]))


def text_of(message: dict[str, Any]) -> str:
    """The text of one chat message, given as a string or as a list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


class BadRequest(OrchestratorError):
    """The body of a request is not a chat completion's; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Completion:
    """One answer, worked out from the request's body alone."""

    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    stream: bool
    include_usage: bool
    identity: str

    @classmethod
    def of(cls, raw: bytes) -> Completion:
        """Read a request's body; raises BadRequest."""
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise BadRequest("We could not parse the JSON body of your request.") from error
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise BadRequest("you must provide a model parameter", "model")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
            raise BadRequest("'messages' must be a list of at least one message", "messages")
        asked = [text_of(item) for item in messages if item.get("role") == "user"]
        text, reason = summarise(asked[-1] if asked else text_of(messages[-1])), "stop"
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if isinstance(limit, int) and count_tokens(text) > limit:
            reason, words = "length", text.split(" ")
            while words and count_tokens(" ".join(words)) > limit:
                words.pop()
            text = " ".join(words)
        return cls(
            model=body["model"],
            text=text,
            finish_reason=reason,
            prompt_tokens=sum(count_tokens(text_of(item)) for item in messages),
            stream=bool(body.get("stream")),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            identity=hashlib.sha256(raw).hexdigest(),
        )

    @property
    def usage(self) -> dict[str, int]:
        """The `usage` object of the answer."""
        answer = count_tokens(self.text)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": answer,
            "total_tokens": self.prompt_tokens + answer,
        }

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.identity[:24]}",
            "object": kind,
            "created": int(time.time()),
            "model": self.model,
            "choices": choices,
        }

    def whole(self) -> bytes:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": self.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return json.dumps(self._object("chat.completion", [choice]) | {"usage": self.usage}).encode()

    def chunks(self) -> Iterator[bytes]:
        """The server-sent events of a streamed answer, without the closing `[DONE]`."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in re.findall(r"\s*\S+", self.text)]
        ends: list[str | None] = [None] * len(deltas) + [self.finish_reason]
        for delta, end in zip([*deltas, {}], ends, strict=True):
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
            chunk = self._object("chat.completion.chunk", [choice])
            yield event(chunk | {"usage": None} if self.include_usage else chunk)
        if self.include_usage:
            yield event(self._object("chat.completion.chunk", []) | {"usage": self.usage})


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error, as OpenAI writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class Answer:
    """An ASGI response that records `answered` before its last bytes, or ends in the middle and records `broke`."""

    completion: Completion
    receipts: Receipts
    about: dict[str, Any]
    broken: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. A broken answer returns without its last bytes: the server then closes the connection."""
        if self.completion.stream:
            parts, last = list(self.completion.chunks()), b"data: [DONE]\n\n"
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        else:
            body = self.completion.whole()
            parts, last = [body[: len(body) // 2]], body[len(body) // 2 :]
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts[: max(1, len(parts) // 2)] if self.broken else parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if self.broken:
            self.receipts.write("broke", self.about)
            return
        self.receipts.write("answered", self.about | {"completion_tokens": self.completion.usage["completion_tokens"]})
        await send({"type": "http.response.body", "body": last, "more_body": False})


class Handlers:
    """The server's routes over one receipts file and one plan of faults."""

    def __init__(self, receipts: Receipts, plan: FaultPlan) -> None:
        self._receipts = receipts
        self._plan = plan
        self._requests = 0
        self._keys: dict[str, int] = {}
        self._held: set[asyncio.Event] = set()

    async def chat(self, request: Request) -> Response | Answer:
        """`POST /v1/chat/completions`."""
        from starlette.responses import JSONResponse

        raw = await request.body()
        try:
            completion = Completion.of(raw)
        except BadRequest as bad:
            return JSONResponse(error_body(str(bad), "invalid_request_error", bad.param), 400)
        self._requests += 1
        key = request.headers.get("idempotency-key") or f"body-{completion.identity}"
        nth_key = self._keys.setdefault(key, len(self._keys) + 1)
        label = request.headers.get("x-step-label")
        about = {"n": self._requests, "key": key, "step": request.headers.get("x-step"), "label": label}
        self._receipts.write("received", about | {"prompt_tokens": completion.prompt_tokens})
        fault = self._plan.take(label, nth_key)
        if fault is not None and fault.kind == "rate_limit":
            self._receipts.write("rate_limited", about | {"retry_after_s": fault.retry_after_s})
            body = error_body("Rate limit reached (scripted).", "requests", None, "rate_limit_exceeded")
            return JSONResponse(body, 429, {"retry-after": f"{fault.retry_after_s:g}"})
        if fault is not None and fault.kind == "hold" and not await self._hold(request, about):
            return JSONResponse(error_body("The caller left.", "server_error"), 503)
        return Answer(completion, self._receipts, about, fault is not None and fault.kind == "break")

    async def _hold(self, request: Request, about: dict[str, Any]) -> bool:
        """Wait until told (True) or until the caller is gone (False)."""

        async def gone() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        told = asyncio.Event()
        self._held.add(told)
        self._receipts.write("holding", about)
        waits = {asyncio.ensure_future(told.wait()), asyncio.ensure_future(gone())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._held.discard(told)
            for wait in waits:
                wait.cancel()
        self._receipts.write("released" if told.is_set() else "cut", about)
        return told.is_set()

    async def release(self, request: Request) -> Response:
        """`POST /faults/release`: every held request is answered now."""
        from starlette.responses import JSONResponse

        held = len(self._held)
        for told in self._held:
            told.set()
        return JSONResponse({"released": held})

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        from starlette.responses import JSONResponse

        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "orchestrator"}
        return JSONResponse({"object": "list", "data": [model]})


def application(receipts: Receipts, plan: FaultPlan) -> Starlette:
    """The ASGI application; raises ConfigurationError if the extra `web` is missing."""
    try:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError as error:
        raise ConfigurationError(missing()) from error

    async def unknown(request: Request, _: Exception) -> Response:
        message = f"Unknown request URL: {request.method} {request.url.path}."
        return JSONResponse(error_body(message, "invalid_request_error", None, "unknown_url"), 404)

    handlers = Handlers(receipts, plan)
    routes = [
        Route("/v1/chat/completions", handlers.chat, methods=["POST"]),
        Route("/v1/models", handlers.models),
        Route("/faults/release", handlers.release, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={404: unknown})


def missing() -> str:
    """The sentence for an environment without the web extra."""
    return "the bundled model server needs the extra `web`: pip install 'durable-orchestrator[web]'"


class ModelServer:
    """The server in a process of its own, which ends when this one does, however that ends.

    `url` is the base URL for the `openai` SDK (any API key); `receipts_path` is the receipts file.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, receipts_path: Path) -> None:
        self._process = process
        self.url = url
        self.receipts_path = receipts_path

    @classmethod
    def start(cls, receipts: Path, faults: Iterable[Fault] = (), port: int = 0) -> ModelServer:
        """Start it and wait until it takes connections; raises ConfigurationError with its own last words."""
        with tempfile.TemporaryDirectory() as scratch:
            plan = Path(scratch) / "faults.json"
            FaultPlan.write(plan, faults)
            command = [sys.executable, "-m", "orchestrator.testing.model_server", "--until-stdin-closes"]
            command += ["--port", str(port), "--receipts", str(receipts), "--faults", str(plan)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
            assert process.stdout is not None
            alarm = threading.Timer(START_TIMEOUT_S, process.kill)
            alarm.start()
            line = process.stdout.readline()
            alarm.cancel()
        if not line:
            words = process.communicate()[1].decode(errors="replace").strip()
            raise ConfigurationError(f"the model server did not start: {words or 'it said nothing in time'}")
        return cls(process, json.loads(line)["url"], receipts)

    def release(self) -> int:
        """Answer every held request now; returns how many there were."""
        url = self.url.removesuffix("/v1") + "/faults/release"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as answer:
            return int(json.load(answer)["released"])

    def receipts(self) -> list[dict[str, Any]]:
        """All receipts so far."""
        return read_receipts(self.receipts_path)

    def stop(self) -> None:
        """End the process; held requests are cut. May be called again."""
        self._process.communicate()

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def end_with_stdin() -> None:
    """End this process when its owner has gone: the owner alone holds the other end of stdin."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="owner-watch").start()


def serve(options: argparse.Namespace) -> None:
    """Listen on loopback until ended; raises ConfigurationError for a taken port, a bad file or a missing extra."""
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigurationError(missing()) from error
    try:
        listener = socket.create_server(("127.0.0.1", options.port))
        receipts = Receipts(options.receipts)
    except OSError as error:
        where = f"port {options.port}, receipts file {options.receipts}"
        raise ConfigurationError(f"model server ({where}): {error}; choose --port 0 or another file") from error
    app = application(receipts, FaultPlan.read(options.faults))
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/v1"}), flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 after an orderly end, 2 if it could not start."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.testing.model_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--receipts", type=Path, required=True, help="JSON lines, appended")
    parser.add_argument("--faults", type=Path, help="JSON list of faults")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin does")
    options = parser.parse_args(arguments)
    if options.until_stdin_closes:
        end_with_stdin()
    try:
        serve(options)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
