"""An engine for the tests of callers: answers commands over a transport in memory, from a thread of its own."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.codec.records import Codec
from orchestrator.core import commands as c
from orchestrator.core.tasks import Reply
from orchestrator.core.values import NOTHING, Failure, Payload, ReplyTo
from orchestrator.log.ports import Headers

PARTITIONS = 4


@dataclass
class FakeRun:
    """One run of the fake: what it was started with and how it stands."""

    run_id: str
    body: c.StartWorkflow
    status: str = "running"
    result: Payload = NOTHING
    failure: Failure | None = None
    message: str = ""
    signals: list[tuple[str, Payload]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    relatives: dict[str, Any] = field(default_factory=dict)


def payload(value: Any) -> Payload:
    """A JSON payload."""
    return Payload(data=json.dumps(value, separators=(",", ":")).encode())


class FakeEngine:
    """`handled` are the commands decided, `received` all that came; `lose_replies` drops so many answers.

    `headers` are those of every command, in order.
    """

    def __init__(self) -> None:
        self.codec = Codec()
        self.runs: dict[str, list[FakeRun]] = {}
        self.received: list[tuple[int, bytes, c.Command]] = []
        self.handled: list[c.Command] = []
        self.headers: list[Headers] = []
        self.lose_replies = 0
        self.deaf = False
        self.script: Callable[[FakeEngine, c.Command], None] | None = None
        self.answers: dict[str, Any] = {}
        self._replies: dict[str, Reply] = {}

    def current(self, workflow_id: str, run_id: str = "") -> FakeRun | None:
        """The run named, or the newest one."""
        runs = self.runs.get(workflow_id, [])
        return next((run for run in reversed(runs) if run_id in ("", run.run_id)), None)

    def runs_of_all(self) -> list[FakeRun]:
        """Every run, in the order of workflow ids' first starts."""
        return [run for runs in self.runs.values() for run in runs]

    def handle(self, partition: int, key: bytes, value: bytes) -> Reply | None:
        """Decide one command; None when its answer gets lost."""
        command = self.codec.decode_command(value)
        self.received.append((partition, key, command))
        if self.deaf:
            return None
        if isinstance(command.body, c.QueryWorkflow):
            reply = self._query(partition, command, command.body)
        elif command.id in self._replies:
            reply = self._replies[command.id]
        else:
            self.handled.append(command)
            reply = self._replies[command.id] = self._decide(command)
        if self.script is not None:
            self.script(self, command)
        if self.lose_replies > 0:
            self.lose_replies -= 1
            return None
        return reply

    def _decide(self, command: c.Command) -> Reply:
        body = command.body
        run = self.current(command.workflow_id)
        if isinstance(body, c.StartWorkflow):
            if run is not None and run.status == "running" and body.conflict == "use_existing":
                return self._accepted(command, run, "use_existing")
            if run is not None and run.status == "running":
                return self._rejected(command, "already_running", f"{command.workflow_id} is running", run.run_id)
            runs = self.runs.setdefault(command.workflow_id, [])
            runs.append(FakeRun(f"run-{command.workflow_id}-{len(runs)}", body))
            return self._accepted(command, runs[-1], "RunStarted")
        run_id = getattr(body, "run_id", "")
        run = self.current(command.workflow_id, run_id)
        if run is None:
            return self._rejected(command, "not_found", f"{command.workflow_id}: no such run", run_id)
        if run.status not in ("running", "parked"):
            return self._rejected(command, "run_closed", f"{command.workflow_id} is {run.status}", run.run_id)
        if isinstance(body, c.SignalWorkflow):
            run.signals.append((body.name, body.payload))
        elif isinstance(body, c.TerminateWorkflow):
            run.status, run.message = "terminated", command.reason
        elif isinstance(body, c.CancelWorkflow):
            run.status = "cancelled"
        elif isinstance(body, c.RetryWorkflow):
            run.status = "running"
        return self._accepted(command, run, type(body).__name__)

    def _query(self, partition: int, command: c.Command, body: c.QueryWorkflow) -> Reply:
        asked = json.loads(body.arguments.data)
        if body.kind == "list":
            return self._answered(command, "", self._list(partition, asked))
        if body.kind == "routing":
            return self._answered(command, "", {"epochs": [PARTITIONS]})
        run = self.current(command.workflow_id, body.run_id)
        if run is None:
            return self._rejected(command, "not_found", f"{command.workflow_id}: no such workflow", body.run_id)
        if body.kind == "result":
            outcome = "not_ready" if run.status in ("running", "parked") else "answered"
            return Reply(
                command.id, command.workflow_id, run.run_id, outcome, run.status, run.message, run.result, run.failure
            )
        if body.kind == "describe":
            return self._answered(command, run.run_id, self._describe(command.workflow_id, run))
        if body.kind == "history":
            end = asked["from_seq"] - 1 + min(asked["limit"], 2)
            following = end + 1 if end < len(run.events) else None
            page = {"events": run.events[asked["from_seq"] - 1 : end], "next_seq": following}
            return self._answered(command, run.run_id, page)
        if body.name == "bad":
            return self._rejected(command, "query_failed", "ValueError: no", run.run_id)
        answer = self.answers.get(body.name, {"asked": body.name, "with": asked})
        return self._answered(command, run.run_id, answer)

    def _list(self, partition: int, asked: dict[str, Any]) -> dict[str, Any]:
        here = {key.decode() for number, key, _ in self.received if number == partition and key}
        found = sorted(workflow_id for workflow_id in self.runs if workflow_id in here)
        left = [workflow_id for workflow_id in found if asked["after"] is None or workflow_id > asked["after"][0]]
        page = [self._describe(workflow_id, self.runs[workflow_id][-1]) for workflow_id in left[:1]]
        return {"runs": page, "next": [left[0]] if len(left) > 1 else None}

    def _describe(self, workflow_id: str, run: FakeRun) -> dict[str, Any]:
        step = {"step": "0:1", "name": "charge", "state": "parked", "attempt": 1, "since_ms": 1_700_000_000_000}
        return {
            "workflow_id": workflow_id,
            "run_id": run.run_id,
            "workflow_type": run.body.workflow_type,
            "version": 1,
            "status": run.status,
            "started_at_ms": 1_700_000_000_000,
            "closed_at_ms": None,
            "seq": len(run.events),
            "steps_done": 1,
            "why": "waits for step charge (parked, attempt 1)" if run.status == "running" else "",
            "pending_steps": [step] if run.status == "running" else [],
            "failure": None,
            **run.relatives,
        }

    def _accepted(self, command: c.Command, run: FakeRun, code: str) -> Reply:
        return Reply(command.id, command.workflow_id, run.run_id, "accepted", code)

    def _rejected(self, command: c.Command, code: str, message: str, run_id: str) -> Reply:
        return Reply(command.id, command.workflow_id, run_id, "rejected", code, message)

    def _answered(self, command: c.Command, run_id: str, value: Any) -> Reply:
        return Reply(command.id, command.workflow_id, run_id, "answered", result=payload(value))


class FakeTransport:
    """Carries commands to a `FakeEngine` and its replies back, on a thread as Kafka's client has one."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.partitions = PARTITIONS
        self.reply_to = ReplyTo("shop.replies", 2)
        self.refuse = ""
        self.is_open = False
        self._sent: queue.Queue[tuple[int, bytes, bytes] | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def open(self, on_reply: Callable[[bytes], None]) -> None:
        """Begin to serve."""

        def serve() -> None:
            while (sent := self._sent.get()) is not None:
                reply = self.engine.handle(*sent)
                # Somebody else's reply on the same partition: every client must pass over it.
                on_reply(self.engine.codec.encode(Reply("another-id", "x", "", "accepted")))
                if reply is not None:
                    on_reply(self.engine.codec.encode(reply))

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        self.is_open = True

    def send(
        self, partition: int, key: bytes, value: bytes, done: Callable[[str], None], headers: Headers = ()
    ) -> None:
        """Queue a command, or refuse it."""
        if self.refuse:
            done(self.refuse)
            return
        self.engine.headers.append(headers)
        self._sent.put((partition, key, value))
        done("")

    def close(self) -> None:
        """End the thread."""
        self._sent.put(None)
        if self._thread is not None:
            self._thread.join()
        self.is_open = False
