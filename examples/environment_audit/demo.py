"""The demo: Kafka, a model server, an engine, the audit, three faults, and a ledger of what they cost."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.client.client import Client
from orchestrator.client.requests import ClientOptions
from orchestrator.config import Settings
from orchestrator.devkafka import DevKafka
from orchestrator.errors import ConfigurationError, KafkaUnavailable, OrchestratorError
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics
from orchestrator.testing.model_faults import read_receipts
from orchestrator.testing.model_server import ModelServer

from .app import Outcome, app, audit
from .distributions import take_inventory
from .plan import Plan, Wishes, check_endpoint, from_environment
from .processes import GRACE_S, ROOT, DemoFailed, EngineProcess, command, environment

T = TypeVar("T")

PARTITIONS = 4
LOOK_S = 0.05
"""Seconds between two looks at the receipts."""
EVERY = 20
"""Steps between two lines of progress."""
RUN_TIMEOUT_S = 600.0
CONNECT_S = 30.0


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, flush=True)


@dataclass
class Stage:
    """What is running. `directory` keeps what outlives the demo: reports, receipts, the engine's log."""

    wishes: Wishes
    plan: Plan
    directory: Path
    bootstrap: str
    endpoint: str
    engine: EngineProcess | None = None
    started: int = 0
    seen: int = 0
    shown: int = 0
    killed_at: float = 0.0
    again: set[str] = field(default_factory=set[str])

    @property
    def receipts(self) -> Path:
        """The model server's receipts."""
        return self.directory / "receipts.jsonl"

    def settings(self) -> Mapping[str, str]:
        """The environment of the processes that we start."""
        return environment(
            ORCHESTRATOR_APP="examples.environment_audit.app:app",
            ORCHESTRATOR_BOOTSTRAP=self.bootstrap,
            ORCHESTRATOR_STATE_DIR=str(self.directory / "state"),
            # One engine that owns everything: its successor need not wait for a group's session to end.
            ORCHESTRATOR_MEMBERSHIP="static",
            ORCHESTRATOR_ASSIGNMENT=f"0-{PARTITIONS - 1}",
            ORCHESTRATOR_GRACE_S=f"{GRACE_S:g}",
            OPENAI_BASE_URL=self.endpoint,
        )

    def start_engine(self) -> None:
        """Start an engine process; the one before must have ended."""
        self.engine = EngineProcess(self.settings(), self.directory / "engine.log")
        self.started += 1
        say(f"  engine {self.started} started (pid {self.engine.pid})")

    def stop_engine(self) -> None:
        """End the engine in order."""
        if self.engine is not None:
            self.engine.stop()

    # -- what the receipts say -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Show what is new in the receipts, and strike when the step to be killed is being held."""
        if self.engine is not None:
            self.engine.check()
        if not self.receipts.exists():
            return
        said = read_receipts(self.receipts)
        for line in said[self.seen :]:
            self.seen += 1
            self._show(int(line["label"].removeprefix("step-")), line)

    def _show(self, step: int, line: Mapping[str, Any]) -> None:
        what = line["event"]
        if what == "holding":
            self._strike(step)
        elif what == "rate_limited":
            say(f"  step {step:>3}: 429, Retry-After {line['retry_after_s']:g} s; the engine waits on its log")
            self.again.add(line["label"])
        elif what == "broke":
            say(f"  step {step:>3}: the stream broke in the middle; the engine tries again")
            self.again.add(line["label"])
        elif what == "received" and line["label"] in self.again:
            self.again.discard(line["label"])
            after = f", {line['time'] - self.killed_at:.1f} s after the kill" if step == self.plan.kill else ""
            say(f"  step {step:>3}: asked again{after}")
        elif what == "answered" and step >= self.shown + EVERY:
            self.shown = step - step % EVERY
            say(f"  step {step:>3} of {self.plan.steps}")

    def _strike(self, step: int) -> None:
        """The request is there and not answered: the worst moment for the engine to die."""
        if self.engine is None or step != self.plan.kill:
            return
        say(f"  step {step:>3}: the model has the request and has not answered: SIGKILL to engine {self.started}")
        self.killed_at = time.time()
        self.engine.kill()
        self.again.add(f"step-{step}")
        self.start_engine()


# -- the run -----------------------------------------------------------------------------------------------------------


async def conduct(stage: Stage) -> Outcome:
    """Start the run, watch it, and wait for what it returns; from here on Ctrl-C is heard again."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    async with AsyncExitStack() as stack:
        client = await connected(stack, stage)
        started = asyncio.ensure_future(
            client.start(audit.options(id="audit"), str(stage.directory), stage.wishes.limit, stage.wishes.seed)
        )
        handle = await _watched(stage, started)
        return await _watched(stage, asyncio.ensure_future(handle.result(timeout=RUN_TIMEOUT_S)))


async def connected(stack: AsyncExitStack, stage: Stage) -> Client:
    """A client, as soon as the topics that were just created have leaders. Raises KafkaUnavailable."""
    settings = Settings(bootstrap=stage.bootstrap)
    options = ClientOptions(timeout_s=90.0, parked="raise")
    until = time.monotonic() + CONNECT_S
    while True:
        try:
            return await stack.enter_async_context(Client.connect(app, settings, options=options))
        except KafkaUnavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(LOOK_S)


async def _watched(stage: Stage, work: asyncio.Future[T]) -> T:
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=LOOK_S)
            stage.look()
        return work.result()
    finally:
        work.cancel()


def prepare(stack: ExitStack, wishes: Wishes) -> Stage:
    """Start Kafka and, unless there is an endpoint, the model server; create the topics."""
    if wishes.endpoint:
        check_endpoint(wishes.endpoint)
    found = take_inventory(wishes.limit, wishes.seed)
    plan = Plan.of(wishes, len(found.names))
    directory = ROOT / ".orchestrator" / "demo" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        directory.mkdir(parents=True)
    except OSError as error:
        raise DemoFailed(f"{directory} cannot be created ({error}): make room there, or make it writable") from error
    say(f"Auditing this environment: Python {found.python}, {len(found.names)} distributions, {plan.steps} steps.")
    began = time.monotonic()
    kafka = stack.enter_context(DevKafka.start(progress=lambda line: say(f"  {line} ...")))
    say(f"  Kafka ready at {kafka.bootstrap} ({time.monotonic() - began:.1f} s)")
    stage = Stage(wishes, plan, directory, kafka.bootstrap, wishes.endpoint)
    if wishes.endpoint:
        say(f"  the model is at {wishes.endpoint} (OPENAI_BASE_URL)")
    else:
        stage.endpoint = stack.enter_context(ModelServer.start(stage.receipts, plan.faults())).url
        say(f"  OPENAI_BASE_URL is not set: the bundled model server answers, at {stage.endpoint}")
        say(f"  faults: {plan.words()}")
    for note in plan.notes:
        say(f"  note: {note}")
    init_topics(LogConfig(app.name, stage.bootstrap), PARTITIONS)
    return stage


# -- the sums ----------------------------------------------------------------------------------------------------------


def close_books(stage: Stage, outcome: Outcome) -> tuple[list[str], dict[str, Any]]:
    """The ledger's lines and figures. The audit of the log and the ledger are processes of their own."""
    verified = command(["-m", "orchestrator.cli.main", "audit", "verify", "-o", "json"], stage.settings())
    try:
        verdict = str(json.loads(verified.stdout)["verdict"])
    except (ValueError, KeyError):
        verdict = f"it did not end: {verified.stderr.strip()[-500:]}"
    say(f"  audit verify: {verdict}")
    script = Path(__file__).with_name("ledger.py")
    arguments = [str(script), "--bootstrap", stage.bootstrap, "--app", app.name, "--report", outcome.html]
    arguments += ["--audit", "ok" if verified.returncode == 0 else "failed"]
    if not stage.wishes.endpoint:
        arguments += ["--receipts", str(stage.receipts)]
    worked_out = command(arguments, stage.settings())
    if worked_out.returncode != 0:
        raise DemoFailed(f"the ledger cannot be worked out: {worked_out.stderr.strip()[-800:]}")
    *lines, last = worked_out.stdout.strip().splitlines()
    return lines, json.loads(last)


def objections(figures: Mapping[str, Any], plan: Plan, own_endpoint: bool) -> list[str]:
    """What does not hold, in sentences."""
    found: list[str] = []

    def must(name: str, wanted: int) -> None:
        if figures[name] != wanted:
            found.append(f"{name} is {figures[name]}, not {wanted}")

    if figures["audit"] != "ok":
        found.append("the audit of the log found something")
    must("steps", plan.steps)
    if not own_endpoint:
        must("repeated_calls", 0)
        must("cut_by_stream", int(plan.breaks > 0))
        must("rate_limited", int(plan.rate_limit > 0))
        must("kills", int(plan.kill > 0))
        if figures["cut_by_kill"] > int(plan.kill > 0):
            found.append(f"cut_by_kill is {figures['cut_by_kill']}: a kill may cut one call")
    return found


def perform() -> int:
    """The whole demo; 0 if everything holds. Raises OrchestratorError with a sentence when it cannot go on."""
    wishes = from_environment()
    began = time.monotonic()
    with ExitStack() as stack:
        stage = prepare(stack, wishes)
        stack.callback(shutil.rmtree, stage.directory / "state", ignore_errors=True)
        stack.callback(stage.stop_engine)
        stage.start_engine()
        # Ctrl-C while asyncio sets itself up would leave half a loop behind: it waits until the loop can be cancelled.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        outcome = asyncio.run(conduct(stage))
        say(f"  done: {outcome.distributions} distributions, {outcome.findings} findings; {outcome.markdown}")
        stage.stop_engine()
        lines, figures = close_books(stage, outcome)
    for line in lines:
        say(line)
    wrong = objections(figures, stage.plan, bool(wishes.endpoint))
    for line in wrong:
        say(f"  does not hold: {line}")
    say(f"  {time.monotonic() - began:.1f} s")
    say(json.dumps(figures))
    return 1 if wrong else 0


def main() -> int:
    """The command: 0 if everything holds, 1 if not, 2 for a wrong setting. KeyboardInterrupt leaves nothing running."""
    # SIGTERM ends the demo as Ctrl-C does, and a shell that made its background jobs deaf to SIGINT is not followed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        return perform()
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OrchestratorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
