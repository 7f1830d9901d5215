"""One scenario for each switch: the same acts, with and without the safeguard. Each returns the oracle's verdict."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core import commands as c, events as e
from orchestrator.core.values import Payload
from orchestrator.engine.partition import State
from tests.oracle import verdict as v
from tests.oracle.verdict import Verdict

from .stage import Stage, listen, once, received, remote, sleep, wait_until


def _listening(stage: Stage, workflow: str, *values: int) -> None:
    """A run that waits for these signals."""
    stage.start(workflow, listen, len(values), sum(values))


def _finish(stage: Stage) -> Verdict:
    """Wait until every run of the model has ended, then judge."""
    for workflow, expected in stage.expected.items():
        assert int(stage.rig.result(workflow)) == expected.result
    stage.rig.engines[-1].stop()
    return stage.judge()


def _taken(stage: Stage, command_id: str) -> None:
    """Wait until a command is behind the input position, whether or not anything came of it."""
    wait_until(lambda: _behind(stage, command_id), f"command {command_id} is taken")


def _behind(stage: Stage, command_id: str) -> bool:
    offsets = [raw.offset for raw in stage.rig.records("commands")[0] if command_id.encode() in raw.value]
    bodies = [stage.rig.codec.decode_event(r.key, r.value).event.body for r in stage.rig.records("events")[0]]
    footers = [body for body in bodies if isinstance(body, e.BatchFooter)]
    return bool(offsets and footers) and footers[-1].position.offset > offsets[-1] and stage.had_its_turns()


# -- one owner -------------------------------------------------------------------------------------------------------


def no_dedup(stage: Stage) -> Verdict:
    """A signal is sent twice under one id."""
    stage.engine()
    _listening(stage, "w", 1, 2)
    stage.signal("w", 1, "same")
    stage.signal("w", 1, "same")
    stage.rig.answers("same", 2)
    last = stage.signal("w", 2)
    _taken(stage, last)
    stage.rig.engines[-1].stop()
    return stage.judge()


def input_ignored(stage: Stage) -> Verdict:
    """The commit with a signal is lost; the next command moves the input position."""
    stage.engine()
    _listening(stage, "w", 1)
    over = stage.at_next_commit(lambda: "lost")
    stage.signal("w", 1)
    assert over.wait(20)
    _taken(stage, stage.start("other", once, 1, 2))
    stage.rig.result("other")
    stage.rig.engines[-1].stop()
    return stage.judge()


def store_before_commit(stage: Stage) -> Verdict:
    """The same: the command that came to nothing must not be remembered."""
    return input_ignored(stage)


def timer_early(stage: Stage) -> Verdict:
    """A timer of half a second."""
    stage.engine()
    stage.start("w", sleep, 500, 500)
    return _finish(stage)


def _leased(stage: Stage, attempt: int, lease_ms: int) -> c.ReportStep:
    """A worker takes the remote step of `w`; its report, not sent yet."""
    (scheduled,) = stage.rig.wait_for(e.StepScheduled, "w")
    (started,) = [event for event in stage.rig.events("w") if isinstance(event.body, e.RunStarted)]
    step = f"{scheduled.path}:{scheduled.n}"
    token = f"{started.run_id}/{step}/{attempt}"
    stage.rig.accepted("w", c.StartStep(started.run_id, step, attempt, token, "worker", lease_ms))
    return c.ReportStep(started.run_id, step, attempt, token, Payload(data=b"2"))


def lease_ignored(stage: Stage) -> Verdict:
    """A worker's lease is over and another attempt is granted; then the first worker reports."""
    stage.engine()
    stage.start("w", remote, 1, 2)
    late = _leased(stage, 1, 20)
    stage.rig.wait_for(e.StepRetried, "w")
    current = _leased(stage, 2, 60_000)
    stage.rig.ask("w", late)
    stage.rig.ask("w", current)
    return _finish(stage)


def timer_before_report(stage: Stage) -> Verdict:
    """A worker's report lies on the topic before its lease is over; the engine reads it after that."""
    engine = stage.engine()
    stage.start("w", remote, 1, 2)
    report = _leased(stage, 1, 1_000)
    engine.log.inputs().pause(0)
    stage.rig.send("w", report)
    held = stage.partition(engine)._loop.intake.timers._barriers  # type: ignore[union-attr]
    wait_until(lambda: held or stage.rig.bodies(e.StepAttemptFailed, "w"), "the lease is over")
    engine.log.inputs().resume(0)
    if stage.rig.bodies(e.StepAttemptFailed, "w"):
        stage.rig.ask("w", report._replace(token="", attempt=1))
        engine.stop()
        return stage.judge(model=False)
    return _finish(stage)


# -- a look at the moment of a commit --------------------------------------------------------------------------------


def _at_the_commit(stage: Stage, act: Callable[[], None]) -> Verdict:
    """Judge what outsiders can see when a run's first commit is about to be sent."""
    engine = stage.engine()
    seen: list[Verdict] = []

    def look() -> str:
        act()
        seen.append(stage.judge(quiescent=False, model=False))
        return ""

    over = stage.at_next_commit(look)
    stage.start("w", once, 1, 2)
    assert over.wait(20)
    assert int(stage.rig.result("w")) == 2
    engine.stop()
    return seen[0] if seen[0].anomalies else stage.judge()


def reply_before_commit(stage: Stage) -> Verdict:
    """Whether the caller has its answer already."""
    return _at_the_commit(stage, lambda: None)


def effects_before_commit(stage: Stage) -> Verdict:
    """Whether the step has begun already."""

    def begun() -> None:
        running = stage.rig.engines[0].executor.running
        wait_until(lambda: received or not running(), "the step that runs reaches its receiver")

    return _at_the_commit(stage, begun)


# -- the hole: a commit that returns OK and took no effect -----------------------------------------------------------


def no_footer_check(stage: Stage) -> Verdict:
    """A signal's commit returns OK and its batch is void."""
    engine = stage.engine()
    _listening(stage, "w", 1, 2)

    def hole() -> str:
        stage.abort_open()
        return ""

    over = stage.at_next_commit(hole)
    first = stage.signal("w", 1)
    assert over.wait(20)
    stage.rig.answers(first)
    _taken(stage, stage.signal("w", 2))
    engine.stop()
    return stage.judge()


def no_gate(stage: Stage) -> Verdict:
    """The same, with the next input already waiting: it is produced before anybody knows."""
    engine = stage.engine()
    _listening(stage, "w", 1, 2)
    inbox = stage.partition(engine).inbox
    sent: list[str] = []

    def hole() -> str:
        sent.append(stage.signal("w", 2))
        wait_until(lambda: inbox.commands, "the next signal is here")
        stage.abort_open()
        return ""

    over = stage.at_next_commit(hole)
    stage.signal("w", 1)
    assert over.wait(20)
    _taken(stage, sent[0])
    engine.stop()
    return stage.judge()


def store_trusted(stage: Stage) -> Verdict:
    """The log loses its end while the engine is away: its state has a batch that nobody else will ever see."""
    engine = stage.engine()
    stage.start("w", once, 1, 2)
    assert int(stage.rig.result("w")) == 2
    engine.stop()
    stage.cut_last_batch()
    again = stage.engine()
    if stage.partition(again).state is State.OWNED:
        stage.start("other", once, 1, 2)
        stage.rig.result("other")
    else:
        assert "cut" in stage.partition(again).problem
    again.stop()
    return stage.judge(model=False)


# -- two owners ------------------------------------------------------------------------------------------------------


def no_claim_read_back(stage: Stage) -> Verdict:
    """The old owner commits once more after the new one has restored, and before the new one fences it."""
    stage.engine()
    _listening(stage, "w", 1, 2)

    def meanwhile() -> None:
        assert stage.rig.answers(stage.signal("w", 1)), "the old owner did not answer"

    stage.engine(own_store=True, before_init=meanwhile)
    _taken(stage, stage.signal("w", 2))
    stage.rig.engines[-1].stop()
    return stage.judge()


def one_lane_reinitialised(stage: Stage) -> Verdict:
    """An owner's commit fails because another has taken over; the other stands still, and the first recovers."""
    zombie = stage.engine(claims_back=True)
    begun = stage.claims_of(zombie)
    _listening(stage, "w", 1, 2)

    def taken_over() -> str:
        other = stage.engine(own_store=True)
        stage.rig.wait_for(e.SignalReceived, "w")
        other.log.inputs().pause(0)
        return ""

    over = stage.at_next_commit(taken_over)
    stage.signal("w", 1)
    assert over.wait(20)
    wait_until(lambda: begun, "the fenced owner works again")
    stage.owns(zombie)
    last = stage.signal("w", 2)
    # Two owners at work may find out about each other: then both stand still.
    wait_until(
        lambda: _behind(stage, last) or stage.partition(zombie).state is State.PARKED, "the zombie took it, or stopped"
    )
    zombie.stop()
    return stage.judge()


SCENARIOS: dict[str, tuple[Callable[[Stage], Verdict], str]] = {
    "no_claim_read_back": (no_claim_read_back, v.DUPLICATE),
    "one_lane_reinitialised": (one_lane_reinitialised, v.ABORTED_READ),
    "no_dedup": (no_dedup, v.DUPLICATE),
    "no_footer_check": (no_footer_check, v.LOST_WRITE),
    "store_before_commit": (store_before_commit, v.LOST_WRITE),
    "effects_before_commit": (effects_before_commit, v.PREMATURE_EFFECT),
    "input_ignored": (input_ignored, v.LOST_WRITE),
    "lease_ignored": (lease_ignored, v.ABORTED_READ),
    "timer_early": (timer_early, v.EARLY_TIMER),
    "timer_before_report": (timer_before_report, v.EARLY_TIMER),
    "reply_before_commit": (reply_before_commit, v.PREMATURE_REPLY),
    "no_gate": (no_gate, v.LOST_WRITE),
    "store_trusted": (store_trusted, v.LOST_WRITE),
}
"""By switch: what is played, and what the oracle must call it."""
