"""Local steps of a partition: what a committed event means for the executor, and what is watched while steps run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container
from typing import NamedTuple

from ..core import ids
from ..core.commands import HeartbeatStep, ReportStep
from ..core.decide.decision import View
from ..core.events import (
    Event,
    StepAdmitted,
    StepAttemptFailed,
    StepCancelRequested,
    StepCompleted,
    StepFailed,
    StepHeartbeat,
    StepRetried,
    StepScheduled,
    StepStarted,
)
from ..core.rows import HISTORY, STEPS, StepRow, history_key, step_key
from ..core.tasks import TaskOffer
from ..core.values import NOTHING
from ..errors import BlobError
from ..failpoints import failpoint
from ..sdk.debugger import debugged
from ..sdk.execution import StepCall, StepExecutor, StepReport, outcome
from .clock import Clock
from .deadlines import Deadlines
from .handed_over import CARRIED_ON, Begun, Renewals
from .large import unheard, whole_call
from .options import EngineOptions

WAITS, MOST_WAIT_S = 10, 5.0
"""How late a local time-out may be noticed for want of a slot: a tenth of its time, at most so many seconds."""


class StepRef(NamedTuple):
    """A step of a run."""

    workflow_id: str
    run_id: str
    step: str


class Watch(NamedTuple):
    """A deadline of a step.

    `kind` is start_to_close, heartbeat, interrupted, again or offer; `token` guards against later attempts. `begun`:
    the attempt had its slot when this was put, so that the whole time has passed. `elsewhere`: another process carried
    it on then; begun here meanwhile, it has its time anew.
    """

    kind: str
    ref: StepRef
    token: str
    wait_s: float = 0.0
    begun: bool = False
    elsewhere: bool = False


class Begin(NamedTuple):
    """An effect: begin an attempt. `safe` (`on_crash` retry) may begin as soon as the commit returned OK."""

    call: StepCall
    safe: bool


class Stop(NamedTuple):
    """An effect: tell a running attempt to end."""

    token: str


class StopAll(NamedTuple):
    """An effect: tell every attempt of a run, or of one of its steps, to end.

    Which ones is found out when it is done: an attempt of the same batch began in between.
    """

    run_id: str
    step: str = ""


Effect = Begin | Stop | StopAll


def told(event: Event) -> bool:
    """Whether an attempt's outcome came by command: from a person, a worker, or an engine that it was handed over by.

    The same attempt may run here all the same, begun again when the time of that one was over.
    """
    return bool(event.cause.command_id)


class LocalSteps:
    """One partition's side of the executor."""

    def __init__(
        self,
        executor: StepExecutor,
        options: EngineOptions,
        clock: Clock,
        send_offer: Callable[[str, TaskOffer], None],
        begun: Begun,
    ) -> None:
        self.executor = executor
        self.watches: Deadlines[Watch] = Deadlines()
        self.renewals = Renewals(clock)
        self.wanting: OrderedDict[StepRef, str] = OrderedDict()
        self.send_offer = send_offer
        self.unheard: Callable[[StepReport], object] = lambda report: None
        """Told of attempts that cannot begin, for want of their arguments."""
        self.traces: dict[str, str] = {}
        """Trace contexts of attempts under way, by token; of those that have one."""
        self._sent: Container[str] = ()
        self._beats: dict[str, float] = {}
        self._listened: set[str] = set()
        """Attempts whose silence is watched."""
        self._options = options
        self._begun = begun
        self._clock = clock

    # -- from events to effects --------------------------------------------------------------------------------------

    def effects(self, event: Event, view: View) -> list[Effect]:
        """What an event that was just applied asks of the executor once committed (or proven)."""
        body = event.body
        if isinstance(body, StepScheduled):
            if body.options.limits:
                return []
            if body.options.queue:
                step = ids.step_id(body.path, body.n)
                self.offered(StepRef(event.workflow_id, event.run_id, step), ids.step_token(event.run_id, step, 1))
                return []
            return self._begin(event, view, ids.step_id(body.path, body.n))
        if isinstance(body, StepRetried | StepAdmitted):
            return self._begin(event, view, body.step)
        if isinstance(body, StepStarted):
            ref = StepRef(event.workflow_id, event.run_id, body.step)
            call = self.call_of(view, ref)
            return [Begin(call, safe=False)] if call else []
        if isinstance(body, StepCancelRequested):
            return [StopAll(event.run_id, body.step)]
        if isinstance(body, StepHeartbeat):
            self.beat(ids.step_token(event.run_id, body.step, body.attempt))
            return []
        if isinstance(body, StepFailed) or (isinstance(body, StepCompleted | StepAttemptFailed) and told(event)):
            return [Stop(ids.step_token(event.run_id, body.step, body.attempt))]
        return []

    def _begin(self, event: Event, view: View, step: str) -> list[Effect]:
        ref = StepRef(event.workflow_id, event.run_id, step)
        row: StepRow = view.get(STEPS, step_key(*ref))
        if row.state == "limited":
            return []
        if row.options.queue:
            self.offered(ref, row.token)
            return []
        if row.options.on_crash != "retry":
            self.wanting[ref] = row.token
            return []
        call = self.call_of(view, ref)
        return [Begin(call, safe=True)] if call else []

    def call_of(self, view: View, ref: StepRef) -> StepCall | None:
        """The current attempt of a pending step, ready to be carried out."""
        row = view.get(STEPS, step_key(*ref))
        if not isinstance(row, StepRow):
            return None
        record = view.get(HISTORY, history_key(ref.workflow_id, ref.run_id, row.scheduled_seq))
        scheduled = record.event.body
        assert isinstance(scheduled, StepScheduled)
        within = row.window_ms / 1000 if row.state == "started" else 0.0
        return StepCall(
            workflow_id=ref.workflow_id,
            run_id=ref.run_id,
            step=ref.step,
            attempt=row.attempt,
            token=row.token,
            name=row.name,
            arguments=scheduled.arguments,
            idempotency_key=ids.idempotency_key(*ref),
            start_to_close_ms=row.options.start_to_close_ms,
            heartbeat_ms=row.options.heartbeat_ms,
            details=row.details,
            on_crash=row.options.on_crash,
            begin_before=self._clock.monotonic() + within if within else 0.0,
            trace=record.event.trace,
        )

    # -- carrying them out -------------------------------------------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        """Begin and stop attempts; those that the executor refuses for now are tried again."""
        calls = self._whole([effect.call for effect in effects if isinstance(effect, Begin)])
        if any(call.guarded for call in calls):
            failpoint("K25")
        for call in calls:
            self._begun.add(call)
            if call.trace:
                self.traces[call.token] = call.trace
        refused = {call.token for call in self.executor.start_many(calls)} if calls else set()
        for call in calls:
            if call.token in refused:
                self._begun.drop(call.token)
                ref = StepRef(call.workflow_id, call.run_id, call.step)
                self.watches.add(self._clock.monotonic() + 0.05, Watch("again", ref, call.token))
            else:
                self._watch(call)
        for effect in effects:
            if isinstance(effect, Stop):
                self.executor.cancel(effect.token)
        prefixes = tuple(f"{all_.run_id}/{all_.step and all_.step + '/'}" for all_ in effects if type(all_) is StopAll)
        if prefixes:
            for token in self.executor.running():
                if token.startswith(prefixes):
                    self.executor.cancel(token)

    def _whole(self, calls: list[StepCall]) -> list[StepCall]:
        """The attempts with their bytes. One whose bytes cannot be had has failed, and nothing of it began."""
        found = []
        for call in calls:
            try:
                found.append(whole_call(call, self._options.blobs))
            except BlobError as error:
                self.executor.unreserve(call.token)
                self.unheard(outcome(call, NOTHING, unheard(error)))
        return found

    def _watch(self, call: StepCall, elsewhere: bool = False) -> None:
        """Wait for the time-outs of an attempt."""
        ref = StepRef(call.workflow_id, call.run_id, call.step)
        # Guarded attempts have durable timers from their StepStarted on.
        if call.start_to_close_ms and not call.guarded:
            self._put(Watch("start_to_close", ref, call.token, call.start_to_close_ms / 1000, elsewhere=elsewhere))
        if call.heartbeat_ms and not call.guarded:
            if call.token in self._listened:
                # Handed over, it beat elsewhere and begins again here: its silence is watched already.
                self.beat(call.token)
                return
            self._listened.add(call.token)
            self._put(Watch("heartbeat", ref, call.token, call.heartbeat_ms / 1000))

    def _put(self, watch: Watch) -> None:
        """Wait for the whole time of an attempt that has its slot. One that has none is soon looked at again."""
        begun = not self.executor.waiting(watch.token)
        wait_s = watch.wait_s if begun else min(watch.wait_s / WAITS, MOST_WAIT_S)
        self.watches.add(self._clock.monotonic() + wait_s, watch._replace(begun=begun))

    # -- after a claim -----------------------------------------------------------------------------------------------

    def resume(self, view: View, mine: str, reported: Callable[[], set[str]], sent: Container[str]) -> list[Effect]:
        """Every pending step of the partition, as its row and this process know it.

        Begin, keep, wait out, or want a slot. `reported` names the attempts whose outcome waits to be taken, `sent`
        those whose outcome this process sent by command when the partition was not its own: it is yet to be read.
        """
        self._sent = sent
        self.watches.clear()
        self.wanting.clear()
        self._listened.clear()
        self.traces.clear()
        # In this order: an attempt is running until its outcome was handed over.
        running = set(self.executor.running())
        running |= reported()
        now = self._clock.monotonic()
        begin: list[Effect] = [Stop(token) for token in self._begun.unwanted(view, running)]
        for key, row in view.scan(STEPS, ()):
            if not isinstance(row, StepRow):
                continue
            ref = StepRef(str(key[0]), str(key[1]), str(key[2]))
            if row.options.queue:
                if row.state == "scheduled":
                    self.watches.add(now + self._options.offer_again_s, Watch("offer", ref, row.token))
            elif row.token in running:
                call = self.call_of(view, ref)
                if call is not None:
                    self._watch(call)
                    if call.trace:
                        self.traces[call.token] = call.trace
            elif row.state == "scheduled":
                if row.cancelled:
                    self.watches.add(now, Watch("again", ref, row.token))
                elif row.token in sent:
                    self.watches.add(now + self._options.hand_over_ms / 1000, Watch("again", ref, row.token))
                elif row.options.on_crash == "retry":
                    call = self.call_of(view, ref)
                    begin += [Begin(call, safe=True)] if call else []
                else:
                    self.wanting[ref] = row.token
            elif row.state in CARRIED_ON:
                # The whole duration, from our own claim's read-back: the old owner counts from before its commit.
                wait = 0.0 if row.worker == mine and row.token not in sent else row.window_ms / 1000
                self.watches.add(now + wait, Watch("interrupted", ref, row.token))
                if row.state == "handed_over" and (call := self.call_of(view, ref)) is not None:
                    # Who carries it on watches it no more.
                    self._watch(call, elsewhere=True)
        return begin

    def give_back(self, view: View) -> None:
        """The claim ends: what waits for a slot here is the next owner's to begin, at once."""
        waiting = set(filter(self.executor.waiting, self.executor.running()))
        for _, row in view.scan(STEPS, ()) if waiting else ():
            if isinstance(row, StepRow) and row.token in waiting and self.executor.withdraw(row.token):
                self._begun.drop(row.token)

    # -- attempts that are not carried out after all -----------------------------------------------------------------

    def held(self, token: str) -> bool:
        """Whether a local attempt's durable time-outs have to wait, because somebody debugs this process."""
        return token in self.executor.running() and debugged()

    def begun(self, token: str) -> bool:
        """Whether a local attempt is past waiting for a slot."""
        return token in self.executor.running() and not self.executor.waiting(token)

    def trace_of(self, body: ReportStep | HeartbeatStep) -> str:
        """The trace context of an attempt of this process that says something: its outcome is the last it says."""
        if not self.traces:
            return ""
        return self.traces.get(body.token, "") if isinstance(body, HeartbeatStep) else self.traces.pop(body.token, "")

    # -- silence of local attempts -----------------------------------------------------------------------------------

    def beat(self, token: str) -> None:
        """A local attempt is alive."""
        if token in self._listened:
            self._beats[token] = self._clock.monotonic()

    def reports_by_command(self, watch: Watch, row: StepRow) -> bool:
        """Whether the outcome of what is judged may be on the commands topic: another owner carried it out, or did."""
        if watch.kind == "again":
            return row.cancelled or watch.token in self._sent
        return watch.kind != "offer" and row.state in CARRIED_ON

    def look_again(self, watch: Watch, wait_s: float) -> None:
        """It is over, but not judged yet."""
        self.watches.add(self._clock.monotonic() + wait_s, watch)

    def unwatched(self, watch: Watch) -> None:
        """The attempt is over, or it was just found silent."""
        self._listened.discard(watch.token)
        self._beats.pop(watch.token, None)
        self.renewals.drop(watch.token)

    def postponed(self, watch: Watch) -> bool:
        """Whether a local time-out is not over after all.

        The attempt waited for a slot meanwhile, sent a heartbeat, was begun here and not elsewhere, or somebody debugs
        this process.
        """
        if watch.elsewhere and watch.token in self.executor.running():
            return True
        now = self._clock.monotonic()
        if not watch.begun or self.executor.waiting(watch.token) or debugged():
            self._put(watch)
            return True
        beat = self._beats.pop(watch.token, None) if watch.kind == "heartbeat" else None
        if beat is not None and beat + watch.wait_s > now:
            self.watches.add(beat + watch.wait_s, watch)
            return True
        return False

    # -- offers to workers -------------------------------------------------------------------------------------------

    def offered(self, ref: StepRef, token: str) -> None:
        """A step was offered to workers: offer it again if none takes it."""
        wait = self._options.offer_again_s
        self.watches.add(self._clock.monotonic() + wait, Watch("offer", ref, token, wait))

    def offer_again(self, view: View, watch: Watch) -> None:
        """Send an offer once more; the next time after twice as long."""
        call = self.call_of(view, watch.ref)
        row = view.get(STEPS, step_key(*watch.ref))
        if call is None:
            return
        offer = TaskOffer(
            *watch.ref,
            call.attempt,
            call.token,
            call.name,
            call.arguments,
            call.idempotency_key,
            call.start_to_close_ms,
            call.heartbeat_ms,
            call.details,
            call.trace,
            call.on_crash,
        )
        self.send_offer(row.options.queue, offer)
        wait = min(2 * (watch.wait_s or self._options.offer_again_s), self._options.offer_again_max_s)
        self.watches.add(self._clock.monotonic() + wait, watch._replace(wait_s=wait))
