"""Laws of runs: chains, one result a step, one ending a run, timers, attempts (I1, I2, I4, I5, I6)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .batches import ZERO, Fact
from .verdict import (
    ABORTED_READ,
    CORRUPTION,
    DUPLICATE,
    EARLY_TIMER,
    LOST_WRITE,
    NONMONOTONIC,
    PHANTOM,
    Anomaly,
    Verdict,
)

ENDINGS = {
    "RunCompleted": "completed",
    "RunFailed": "failed",
    "RunCancelled": "cancelled",
    "RunTerminated": "terminated",
    "RunContinuedAsNew": "continued_as_new",
}
RESULTS = {"StepCompleted", "StepFailed", "StepCancelled"}
CHILD_RESULTS = {"ChildCompleted", "ChildFailed"}
OF_ATTEMPT = {"StepLeased", "StepStarted", "StepHeartbeat", "StepAttemptFailed", "StepInterrupted", "StepParked"}


class Step:
    """One step of a run as its events tell it."""

    def __init__(self, scheduled: Fact) -> None:
        self.scheduled = scheduled
        self.attempt = 1
        self.result: Fact | None = None
        self.failed: Fact | None = None
        self.begun: dict[int, Fact] = {}
        self.begins = 0
        self.alive_ms = 0
        self.lease_ms = 0
        self.cancelled = False


class Run:
    """One run's history, read event by event."""

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.seq = 0
        self.head = ZERO
        self.started: Fact | None = None
        self.ended: Fact | None = None
        self.steps: dict[str, Step] = {}
        self.timers: dict[str, Fact] = {}
        self.spent: dict[str, Fact] = {}
        self.children: dict[str, Fact | None] = {}
        self.signals: list[Fact] = []

    @property
    def status(self) -> str:
        """running, or how it ended."""
        return ENDINGS[self.ended.name] if self.ended else "running"

    @property
    def result(self) -> Any:
        """The value that it returned."""
        if self.ended is None or self.ended.name != "RunCompleted":
            return None
        return json.loads(self.ended.fields["result"]["data"])


class Histories:
    """Every run of the application. `by_hand`: ids of commands by which people resolve steps; None: not known."""

    def __init__(self, verdict: Verdict, by_hand: frozenset[str] | None = None) -> None:
        self.runs: dict[tuple[str, str], Run] = {}
        self._verdict = verdict
        self._by_hand = by_hand

    def read(self, facts: Iterable[Fact]) -> None:
        """Facts of one partition, in order."""
        for fact in facts:
            if fact.fields["seq"]:
                self._one(fact)

    def _note(self, name: str, fact: Fact, detail: str) -> None:
        workflow, run = fact.run
        self._verdict.anomalies.append(Anomaly(name, f"{fact.where} {workflow}/{run}", detail))

    def _one(self, fact: Fact) -> None:
        run = self.runs.setdefault(fact.run, Run(fact.run))
        seq = fact.fields["seq"]
        if seq != run.seq + 1:
            name = DUPLICATE if seq <= run.seq else LOST_WRITE
            self._note(name, fact, f"{fact.name} has seq {seq}, the event before it {run.seq} (I4)")
        elif fact.fields["prev_hash"] != run.head:
            self._note(CORRUPTION, fact, f"the prev_hash of seq {seq} is not the hash of the event before it (I4)")
        if run.ended is not None:
            self._note(DUPLICATE, fact, f"{fact.name} after {run.ended.name} at {run.ended.where} (I2)")
        run.seq, run.head = max(seq, run.seq), fact.hash
        if fact.name == "RunStarted":
            if run.started is not None:
                self._note(DUPLICATE, fact, f"the run began at {run.started.where} already (I2)")
            run.started = fact
        elif fact.name in ENDINGS:
            run.ended = run.ended or fact
            self._verdict.totals[ENDINGS[fact.name]] += 1
        elif fact.name == "SignalReceived":
            self._signal(run, fact)
        elif fact.name.startswith("Step"):
            self._step(run, fact)
        elif fact.name.startswith("Timer"):
            self._timer(run, fact)
        elif fact.name in CHILD_RESULTS:
            self._child_result(run, fact)
        elif fact.name == "ChildScheduled":
            run.children[f"{fact.fields['path']}:{fact.fields['n']}"] = None

    def _signal(self, run: Run, fact: Fact) -> None:
        cause = fact.fields["cause"]
        for other in run.signals:
            if cause["command_id"] and other.fields["cause"]["command_id"] == cause["command_id"]:
                self._note(DUPLICATE, fact, f"signal {cause['command_id']} was received at {other.where} (I5)")
        if run.signals and cause["offset"] >= 0:
            last = run.signals[-1].fields["cause"]
            if last["topic"] == cause["topic"] and last["offset"] > cause["offset"]:
                self._note(NONMONOTONIC, fact, f"signal of offset {cause['offset']} after one of {last['offset']} (I5)")
        run.signals.append(fact)

    def _child_result(self, run: Run, fact: Fact) -> None:
        child = fact.fields["child"]
        before = run.children.get(child)
        if child not in run.children:
            self._note(PHANTOM, fact, f"{fact.name} of child {child}, which was never scheduled (I1)")
        elif before is not None:
            self._note(DUPLICATE, fact, f"child {child} has its outcome at {before.where} (I1)")
        run.children[child] = before or fact

    # -- steps -----------------------------------------------------------------------------------------------

    def _step(self, run: Run, fact: Fact) -> None:
        if fact.name == "StepScheduled":
            name = f"{fact.fields['path']}:{fact.fields['n']}"
            if name in run.steps:
                self._note(DUPLICATE, fact, f"step {name} was scheduled at {run.steps[name].scheduled.where} (I1)")
            else:
                run.steps[name] = Step(fact)
            return
        step = run.steps.get(fact.fields["step"])
        if step is None:
            self._note(PHANTOM, fact, f"{fact.name} of step {fact.fields['step']}, which was never scheduled (I1)")
        elif fact.name in RESULTS:
            self._result(step, fact)
        else:
            self._attempt(step, fact)

    def by_person(self, fact: Fact) -> bool:
        command_id = fact.fields["cause"]["command_id"]
        return bool(command_id) if self._by_hand is None else command_id in self._by_hand

    def _result(self, step: Step, fact: Fact) -> None:
        name, attempt = fact.fields["step"], fact.fields["attempt"]
        self._verdict.totals["step_results"] += 1
        if step.result is not None:
            self._note(DUPLICATE, fact, f"step {name} has its result at {step.result.where} (I1)")
            return
        step.result = fact
        if attempt != step.attempt:
            self._note(
                ABORTED_READ,
                fact,
                f"result of attempt {attempt} of step {name}, attempt {step.attempt} is current (I1)",
            )
        elif fact.name == "StepCompleted" and step.failed is not None and not self.by_person(fact):
            detail = f"result of attempt {attempt} of step {name}, which had failed at {step.failed.where} (I1)"
            self._note(ABORTED_READ, fact, detail)

    def _attempt(self, step: Step, fact: Fact) -> None:
        fields = fact.fields
        if step.result is not None:
            if fact.name != "StepCancelRequested":
                self._note(
                    DUPLICATE,
                    fact,
                    f"{fact.name} of step {fields['step']} after its result at {step.result.where} (I1)",
                )
        elif fact.name == "StepRetried":
            self._retried(step, fact)
        elif fact.name in OF_ATTEMPT:
            if fields["attempt"] != step.attempt:
                detail = (
                    f"{fact.name} of attempt {fields['attempt']} of step {fields['step']}, {step.attempt} is current"
                )
                self._note(ABORTED_READ, fact, detail)
            elif fact.name == "StepAttemptFailed" and step.failed is not None:
                detail = f"attempt {fields['attempt']} of step {fields['step']} had failed at {step.failed.where} (I1)"
                self._note(DUPLICATE, fact, detail)
            self._alive(step, fact)
            if fact.name in ("StepAttemptFailed", "StepInterrupted", "StepParked"):
                step.failed = fact

    def _alive(self, step: Step, fact: Fact) -> None:
        if fact.name in ("StepLeased", "StepStarted"):
            if step.attempt in step.begun and fact.name == "StepLeased":
                self._note(
                    DUPLICATE, fact, f"attempt {step.attempt} was granted at {step.begun[step.attempt].where} (I1)"
                )
            step.begun.setdefault(step.attempt, fact)
            step.begins += 1
            step.lease_ms = fact.fields.get("lease_ms", 0)
        step.alive_ms = fact.fields["recorded_at_ms"]

    def _retried(self, step: Step, fact: Fact) -> None:
        fields = fact.fields
        if fields["attempt"] != step.attempt + 1:
            detail = f"attempt {fields['attempt']} of step {fields['step']} follows attempt {step.attempt} (I1)"
            self._note(DUPLICATE if fields["attempt"] <= step.attempt else LOST_WRITE, fact, detail)
        due = step.failed.fields.get("retry_at_ms", 0) if step.failed else 0
        if fields["recorded_at_ms"] < due and not fields["cause"]["command_id"]:
            self._note(EARLY_TIMER, fact, f"retry due at {due} began at {fields['recorded_at_ms']} (I6)")
        step.attempt, step.failed = fields["attempt"], None

    # -- timers ----------------------------------------------------------------------------------------------

    def _timer(self, run: Run, fact: Fact) -> None:
        fields = fact.fields
        if fact.name == "TimerSet":
            run.timers[f"{fields['path']}:{fields['n']}"] = fact
            return
        name = fields["timer"]
        if name in run.spent:
            self._note(DUPLICATE, fact, f"timer {name} ended at {run.spent[name].where} by {run.spent[name].name} (I6)")
        elif name not in run.timers:
            self._note(PHANTOM, fact, f"timer {name} was never set (I6)")
        elif fact.name == "TimerFired":
            self._verdict.totals["timers_fired"] += 1
            due = run.timers[name].fields["due_at_ms"]
            if fields["recorded_at_ms"] < due or fields["due_at_ms"] != due:
                detail = (
                    f"timer {name} due at {due} fired at {fields['recorded_at_ms']} as due {fields['due_at_ms']} (I6)"
                )
                self._note(EARLY_TIMER, fact, detail)
        run.spent.setdefault(name, fact)
