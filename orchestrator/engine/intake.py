"""What a batch is made of, in its order: outcomes of steps, due timers, runs to go on with, then commands."""

from __future__ import annotations

import logging

from ..codec.records import Codec
from ..core import ids, machine
from ..core.commands import Command, HeartbeatStep, QueryWorkflow, ReportStep, StartWorkflow, UpdateWorkflow
from ..core.decide.decision import Context, Draft, rejected
from ..core.decide.schedule import started_before
from ..core.decide.step import UNDER_WAY, Ended, attempt_failed, interrupted
from ..core.events import (
    CommandRejected,
    StepCancelled,
    StepStarted,
)
from ..core.rows import DEDUP, STEPS, StepRow, dedup_key, step_key
from ..core.signatures import attested
from ..core.tasks import Reply
from ..core.values import NO_CAUSE, NOTHING, Failure
from ..errors import BlobError, LimitExceeded, LogGap, LogReplaced, OrchestratorError, UndecodableRecord
from ..log.ports import Wire
from ..sdk.execution import StepReport
from .admission import OVERLOADED, REFUSED, refusal as overload, unwanted
from .batch import Batch
from .builder import Builder
from .handed_over import CARRIED_ON
from .keyring import KeyRing, turned_away
from .large import KEPT_LETTERS, keeper, reported, too_large, unclaimed
from .letters import dead_letter, undeliverable
from .misfits import misfit
from .options import EngineOptions
from .outbox import Unsent
from .ownership import Ground
from .poison import Poisoned, astray
from .routing import Routing
from .sabotage import sabotaged
from .steps import Begin, LocalSteps, Stop, Watch
from .timers import LOOK_AGAIN_MS, Timers
from .turns import Turns
from .updates import NOT_YET, refusal

log = logging.getLogger(__name__)

BEGINS = ("interrupted", "again")
"""Watches whose end says that nobody carries the attempt on."""
LONGEST_TRACE = 128
"""Letters of a trace context that events take over: a traceparent has 55, and this field is any producer's to fill."""
LONGEST_ANSWERED = 65_536
"""Letters of a command id that an answer takes back: it stands there twice."""


class Intake:
    """Decides the inputs of one partition into a batch."""

    def __init__(
        self, ground: Ground, builder: Builder, steps: LocalSteps, turns: Turns, options: EngineOptions
    ) -> None:
        self.queries: list[Command] = []
        self.next_offset = 0
        self._ground = ground
        self._builder = builder
        self._steps = steps
        self._turns = turns
        self._options = options
        self._keep = keeper(options)
        self._codec: Codec = ground.codec
        self._routing = Routing(ground, builder)
        self._ring = KeyRing(ground.log.app, options)
        self.timers = Timers(ground, builder, steps, turns, options)
        self._poisoned = Poisoned()

    def begin(self, next_offset: int) -> None:
        """A claim was won: go on behind the last footer's input position."""
        self._routing.note()
        self.next_offset = next_offset
        self.queries.clear()
        self.timers.begin()

    def check(self) -> None:
        """The log and the input are what they were. Raises LogReplaced, LogGap."""
        inbox, number = self._ground.inbox, self._ground.number
        if inbox.down:
            raise LogReplaced(inbox.down)
        if inbox.lost_from >= 0:
            raise LogGap(
                f"{self._ground.log.app}.commands/{number}: the log begins at offset {inbox.lost_from}, the next"
                f" command was {self.next_offset}: commands were deleted before they were read."
                f" See `orchestrator partition repair {number}`."
            )

    # -- outcomes of steps -------------------------------------------------------------------------------------------

    def report(self, batch: Batch, *reports: StepReport) -> None:
        """Outcomes and heartbeats of steps of this process. All are the batch's from here on: none is lost with it."""
        batch.reports += reports
        for report in reports:
            batch.trace = self._steps.trace_of(report.body)
            self._report(batch, report)
            batch.trace = ""

    def _report(self, batch: Batch, report: StepReport) -> None:
        body = report.body
        if isinstance(body, ReportStep):
            body = reported(report.workflow_id, body, self._keep, self._options.payload_bytes)
        command = Command("", report.workflow_id, body)
        context = self._builder.context(batch, is_local=True, any_attempt=sabotaged("lease_ignored"))
        if isinstance(body, HeartbeatStep):
            self._steps.beat(body.token)
            if body.details == NOTHING and not self._has_timer(report.workflow_id, body):
                return
        drafts = machine.decide(self._builder.overlay, command, context)
        if drafts and isinstance(drafts[0].body, CommandRejected):
            log.debug("outcome of %s/%s ignored: %s", report.workflow_id, body.step, drafts[0].body.message)
            return
        try:
            self._builder.take(batch, drafts)
        except (LimitExceeded, BlobError) as error:
            self._builder.take(batch, too_large(self._builder.overlay, command, body, error, NO_CAUSE))

    def _has_timer(self, workflow_id: str, body: HeartbeatStep) -> bool:
        """Whether the attempt's silence is measured by a durable timer: then every heartbeat is an event."""
        row = self._builder.overlay.get(STEPS, step_key(workflow_id, body.run_id, body.step))
        return isinstance(row, StepRow) and f"heartbeat|{body.step}" in row.timers

    # -- deadlines of this owner's own ------------------------------------------------------------------------------

    def watch(self, batch: Batch, now: float) -> None:
        """The deadlines of this owner's own that are over."""
        self.timers.is_due_now()
        for watch in self._steps.watches.due(now):
            self._over(batch, watch)

    def _over(self, batch: Batch, watch: Watch) -> None:
        overlay, name = self._builder.overlay, f"{watch.kind} {watch.token}"
        row = overlay.get(STEPS, step_key(*watch.ref))
        if not isinstance(row, StepRow) or row.token != watch.token:
            self.timers.gone(name)
            self._steps.unwatched(watch)
            return
        if watch.kind in BEGINS and (left_s := self._steps.renewals.left_s(watch.token)):
            self.timers.gone(name)
            self._steps.look_again(watch, left_s)
            return
        if self._steps.reports_by_command(watch, row) and self.timers.unproven(name, batch):
            self._steps.look_again(watch, LOOK_AGAIN_MS / 1000)
            return
        batch.trace = self._turns.trace_of(overlay, (watch.ref.workflow_id, watch.ref.run_id))
        self._watch(batch, watch, row)
        batch.trace = ""

    def _watch(self, batch: Batch, watch: Watch, row: StepRow) -> None:
        overlay = self._builder.overlay
        if watch.kind == "again" and row.cancelled:
            self._cancelled(batch, watch, row)
        elif watch.kind == "again":
            call = self._steps.call_of(overlay, watch.ref)
            batch.on_proof += [Begin(call, safe=True)] if call else []
        elif watch.kind == "interrupted":
            self._interrupted(batch, watch, row)
        elif watch.kind == "offer":
            self._offer(batch, watch, row)
        elif row.state not in UNDER_WAY:
            self._steps.unwatched(watch)
        elif not self._steps.postponed(watch):
            self._steps.unwatched(watch)
            failure = Failure("StepTimeout", f"{watch.kind} of step {row.name} is over")
            ended = Ended(*watch.ref, row, NO_CAUSE)
            batch.on_proof.append(Stop(watch.token))
            self._builder.take(batch, attempt_failed(ended, failure, batch.now_ms, watch.kind))

    def _cancelled(self, batch: Batch, watch: Watch, row: StepRow) -> None:
        """A cancelled attempt that nobody carries out any more is not begun again."""
        draft = Draft(watch.ref.workflow_id, watch.ref.run_id, StepCancelled(watch.ref.step, row.attempt))
        self._builder.take(batch, [draft])

    def _interrupted(self, batch: Batch, watch: Watch, row: StepRow) -> None:
        if row.state not in CARRIED_ON:
            return
        if row.options.on_crash == "retry" and row.cancelled:
            self._cancelled(batch, watch, row)
            return
        if row.options.on_crash == "retry":
            call = self._steps.call_of(self._builder.overlay, watch.ref)
            batch.on_proof += [Begin(call, safe=True)] if call else []
            return
        failure = Failure(
            "StepInterrupted",
            f"step {row.name}: its engine {row.worker} is gone; the effect may have happened, or still be in flight",
            retryable=False,
        )
        self._builder.take(batch, interrupted(Ended(*watch.ref, row, NO_CAUSE), failure))

    def _offer(self, batch: Batch, watch: Watch, row: StepRow) -> None:
        """Offer a remote step again, unrecorded, until a worker's StartStep is accepted."""
        if row.state != "scheduled":
            return
        self._steps.offer_again(self._builder.overlay, watch)

    def want_slots(self, batch: Batch) -> None:
        """Record the start of `fail` and `park` steps for which a slot is free; they begin once that is proven."""
        overlay = self._builder.overlay
        for ref, token in list(self._steps.wanting.items()):
            row = overlay.get(STEPS, step_key(*ref))
            if not isinstance(row, StepRow) or row.token != token or row.state != "scheduled":
                del self._steps.wanting[ref]
                self._steps.executor.unreserve(token)
                continue
            if not self._steps.executor.reserve(token):
                return
            del self._steps.wanting[ref]
            started = StepStarted(ref.step, row.attempt, token, self._options.instance, self._options.start_within_ms)
            self._builder.take(batch, [Draft(ref.workflow_id, ref.run_id, started)])

    # -- commands ----------------------------------------------------------------------------------------------------

    def command(self, batch: Batch, wire: Wire) -> None:
        """One record of the commands topic; the position moves with its outcome."""
        if wire.offset < self.next_offset:
            return
        self.next_offset = batch.next_offset = wire.offset + 1
        if wire.offset in self._poisoned:
            self._dead_letter(batch, wire, self._poisoned[wire.offset])
            return
        try:
            self._take(batch, wire)
        except LimitExceeded as error:
            # Not even its refusal fits into an event: the id of its workflow, say, is as large as a record.
            self._give_back(batch, self._codec.decode_command(wire.value), wire, "limit", str(error))
        except (OrchestratorError, MemoryError):
            raise
        except Exception as error:
            raise self._poisoned.note(wire, error) from error
        batch.trace = ""

    def cuts(self, batch: Batch, wire: Wire) -> bool:
        """Whether a record waits for the next batch: what this one holds is not to wait until its run has begun."""
        if not (batch.cuts and batch.records) or wire.offset in self._poisoned:
            return False
        try:
            return isinstance(self._codec.decode_command(wire.value).body, StartWorkflow)
        except Exception:
            # Whatever is wrong with it, `command` finds and says.
            return False

    def _take(self, batch: Batch, wire: Wire) -> None:
        try:
            command = self._codec.decode_command(wire.value)
        except UndecodableRecord as error:
            self._dead_letter(batch, wire, str(error))
            return
        if len(command.trace) <= LONGEST_TRACE:
            batch.trace = command.trace
        if problem := astray(self._ground.log.app, command.reply_to):
            self._dead_letter(batch, wire, problem)
            return
        doubt = self._ring.doubt(wire)
        if doubt and self._ring.required:
            self._turn_away(batch, command, wire, doubt)
            return
        command = attested(command, not doubt)
        try:
            if not self._routing.is_here(batch, command, wire):
                return
        except LimitExceeded as error:
            context = self._builder.context(batch, input=(wire.topic, wire.partition, wire.offset))
            self._builder.take(batch, rejected(command, context, "limit", f"it belongs to another partition: {error}"))
            return
        if isinstance(command.body, QueryWorkflow):
            self._steps.renewals.heard(self._builder.overlay, command)
            self.queries.append(command)
            return
        known = self._builder.overlay.get(DEDUP, dedup_key(command.workflow_id, command.id))
        if known is not None and not sabotaged("no_dedup"):
            if command.reply_to is not None:
                batch.answers.append((command.reply_to, known.reply))
            if isinstance(command.body, StartWorkflow):
                context = self._builder.context(batch, input=(wire.topic, wire.partition, wire.offset))
                self._builder.take(batch, started_before(self._builder.overlay, command, context))
            return
        self._decide(batch, command, wire)

    def _decide(self, batch: Batch, command: Command, wire: Wire) -> None:
        context = self._builder.context(
            batch,
            input=(wire.topic, wire.partition, wire.offset),
            any_attempt=sabotaged("lease_ignored"),
            partitions=self._routing.partitions_now(command),
        )
        if not 0 < len(command.id) <= ids.MAX_COMMAND_ID:
            problem = (
                f"a command needs an id of 1 to {ids.MAX_COMMAND_ID:,} characters (a UUIDv7, say), this one has"
                f" {len(command.id):,}"
            )
            self._give_back(batch, command, wire, "limit" if command.id else "bad_request", problem)
            return
        if problem := unwanted(self._options, command):
            self._unwanted(batch, command, context, wire, problem)
            return
        if problem := unclaimed(command, self._options.blobs):
            self._builder.take(batch, rejected(command, context, "blob", problem))
            return
        if isinstance(command.body, UpdateWorkflow):
            refused = refusal(self._builder, self._turns, batch, command, command.body)
            if refused is not None:
                self._refuse(batch, command, context, refused)
                return
        drafts = machine.decide(self._builder.overlay, command, context)
        over = overload(self._builder.load, self._options, self._partitions(), command, drafts)
        if over is not None:
            self._refuse(batch, command, context, over)
            return
        if problem := misfit(self._builder.overlay, self._turns.registry, self._options, command, drafts):
            drafts = rejected(command, context, "bad_request", problem)
        try:
            self._builder.take(batch, drafts)
        except (LimitExceeded, BlobError) as error:
            if isinstance(command.body, ReportStep | HeartbeatStep):
                # Refused, it would come again with every attempt.
                drafts = too_large(self._builder.overlay, command, command.body, error, drafts[0].cause)
            else:
                drafts = rejected(command, context, "limit", str(error))
            self._builder.take(batch, drafts)
        if context.partitions:
            self._routing.note()

    def _partitions(self) -> int:
        ids = self._ground.ids
        return ids.partitions if ids is not None else 1

    def _refuse(self, batch: Batch, command: Command, context: Context, refused: Reply) -> None:
        """Answer without a record; what nobody hears of, and only came too early, is recorded all the same."""
        if command.reply_to is not None:
            batch.answers.append((command.reply_to, refused))
        elif refused.code in (NOT_YET, OVERLOADED):
            self._builder.take(batch, rejected(command, context, refused.code, refused.message, refused.run_id))
        else:
            log.info("%s: update %s was refused: %s", command.workflow_id, command.id, refused.message)

    def _unwanted(self, batch: Batch, command: Command, context: Context, wire: Wire, problem: str) -> None:
        """Its id is not used up: once the configuration allows the name, the letter can be sent again."""
        if isinstance(command.body, StartWorkflow) and command.body.parent is not None:
            # Its parent waits for an outcome.
            self._builder.take(batch, rejected(command, context, REFUSED, problem))
            return
        self._answer(batch, command, Reply(command.id, command.workflow_id, "", "rejected", REFUSED, problem))
        self._dead_letter(batch, wire, problem)

    def _turn_away(self, batch: Batch, command: Command, wire: Wire, doubt: str) -> None:
        """Nobody knows who sent it. Its id is not used up: else whoever guesses one could keep its owner out."""
        reply = turned_away(command.id, command.workflow_id, doubt)
        self._answer(batch, command, reply)
        if not isinstance(command.body, QueryWorkflow):
            self._dead_letter(batch, wire, reply.message)

    def _give_back(self, batch: Batch, command: Command, wire: Wire, code: str, reason: str) -> None:
        """No event can hold its refusal: it is a dead letter, and whoever waits for an answer gets one."""
        named = command.workflow_id[: ids.MAX_WORKFLOW_ID]
        self._answer(batch, command, Reply(command.id, named, "", "rejected", code, reason[:KEPT_LETTERS]))
        self._dead_letter(batch, wire, reason)

    def _answer(self, batch: Batch, command: Command, reply: Reply) -> None:
        if command.reply_to is not None and len(command.id) <= LONGEST_ANSWERED:
            batch.answers.append((command.reply_to, reply))

    def _dead_letter(self, batch: Batch, wire: Wire, reason: str) -> None:
        self._builder.take(batch, [dead_letter(wire, reason, self._options)])

    # -- what could not be sent --------------------------------------------------------------------------------------

    def unsent(self, batch: Batch, unsent: Unsent) -> None:
        """A record that can never be sent ends its step or child alone."""
        self._builder.take(batch, undeliverable(self._builder.overlay, self._ground.log.app, unsent))
