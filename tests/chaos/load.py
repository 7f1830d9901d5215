"""The mixed load: a kill campaign whose runs are of `mixed_app`, and whose callers note when they were answered."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.core import commands as c
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Payload
from orchestrator.ending import ABANDONED
from tests.chaos import mixed_app
from tests.faults.campaign import Campaign, Found, Site
from tests.oracle.oracle import Expected, SentSignal

PATIENCE_S = 120.0


class Mixed(Campaign):
    """Steps, children, signals, timers, updates and limits."""

    app = "tests.chaos.mixed_app:app"
    effects = mixed_app.EFFECTS
    runs_a_life = 40
    patience_s = 600.0

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.answered: set[str] = set()
        self._updates: dict[str, tuple[str, c.UpdateWorkflow]] = {}
        self._refused: set[str] = set()
        super().__init__(site, rng)

    def heard(self, reply: bytes) -> None:
        """Note who was answered: a service that answers is up."""
        said = self.codec.decode(reply)
        if isinstance(said, Reply):
            self.answered.add(said.command_id)
            if said.outcome == "accepted":
                self._updates.pop(said.command_id, None)
            elif said.outcome == "rejected":
                self._refused.add(said.command_id)

    def _unfinished(self) -> list[str]:
        """An update that met a run whose code was not there yet left nothing: its caller sends it again. What met a run
        that two kills had parked was refused for good: its caller sends another."""
        for command_id, (workflow, body) in list(self._updates.items()):
            if command_id in self._refused:
                del self._updates[command_id]
                self._updates[self._send(workflow, body)] = workflow, body
            else:
                self._send_as(command_id, workflow, body)
        return super()._unfinished()

    def feed(self, count: int) -> None:
        """Start so many runs, and send each its signals and its update, now, whatever it is at by then."""
        for _ in range(count):
            workflow = f"w{len(self.expected)}"
            n, values, bumped = self.rng.randint(2, 9), (self._value(), self._value()), self._value()
            arguments = mixed_app.mixed.code.signature.bind((workflow, n, self.rng.choice((0, 30, 900))), {})
            self.last = self._send(workflow, c.StartWorkflow("mixed", arguments))
            signals = tuple(SentSignal(self._send(workflow, c.SignalWorkflow("go", _json(value)))) for value in values)
            update = c.UpdateWorkflow("bump", _json(bumped))
            self._updates[self._send(workflow, update)] = workflow, update
            result = mixed_app.result_of(n, bumped, values)
            self.expected[workflow] = Expected(result, mixed_app.steps_of(n), "completed", signals)
            self.expected[workflow + mixed_app.CHILD] = Expected(mixed_app.CHILD_RESULT, mixed_app.CHILD_STEPS)

    def _value(self) -> int:
        return self.rng.randint(1, 99)

    def feed_for(self, seconds: float, count: int = 1) -> None:
        """Callers go on for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.feed(count)
            time.sleep(0.25)

    def until(self, holds: Callable[[], object], what: str, engine: subprocess.Popen[bytes] | None = None) -> None:
        """Wait for something, while callers go on."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert engine is None or engine.poll() is None, f"the engine ended: {self.said()}"
            assert time.monotonic() < deadline, f"in vain: {what}\n{self.said()}"
            time.sleep(0.4)
            self.feed(1)

    def until_answered(self, what: str, engine: subprocess.Popen[bytes]) -> float:
        """Until somebody who asks from now on is answered; how many seconds that took."""
        began = time.monotonic()
        self.feed(1)
        asked = {self.last}

        def answered() -> bool:
            asked.add(self.last)
            return bool(asked & self.answered)

        self.until(answered, what, engine)
        return time.monotonic() - began

    def told(self) -> dict[str, str]:
        """All that every engine has said, by the log's name."""
        logs = sorted(self.site.directory.glob("engine-*.log"))
        return {log.name: log.read_text("utf-8", "replace") for log in logs}

    def said(self) -> str:
        """The end of it."""
        return "\n".join(f"{name}: {text[-2500:]}" for name, text in self.told().items())

    @contextmanager
    def engines(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Engine processes of a body, none of which outlives it; then nobody sends any more."""
        living: list[subprocess.Popen[bytes]] = []
        try:
            yield living
        finally:
            for engine in living:
                engine.kill()
                engine.wait(30)
            self._transport.close()

    def end_with(self, engine: subprocess.Popen[bytes], number: int) -> None:
        """Wait until every run has ended; the engine then ends in order."""
        self._until_ended(engine, number)
        self.drain(engine)

    def drain(self, engine: subprocess.Popen[bytes], in_order: bool = True) -> None:
        """Ask an engine to end, and wait until it has. Not `in_order`: what stands still may not let it release."""
        engine.terminate()
        assert engine.wait(60) in ((0,) if in_order else (0, ABANDONED)), self.said()

    def judge(self) -> Found:
        """The oracle over what is on the topics."""
        return self._judge()


def _json(value: int) -> Payload:
    return Payload(data=str(value).encode())
