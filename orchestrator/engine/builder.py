"""Decide, encode, apply: drafts become sealed records of a batch, deliveries become turns, turns become more drafts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..codec.records import Codec
from ..core import machine
from ..core.apply.fold import Settings
from ..core.commands import ParkRun, TurnCommand
from ..core.decide.decision import CLOSED, Context, Draft, KeyFailed, Known, needs_of
from ..core.decide.fields import unwritable
from ..core.decide.fork import TooLong, after_divergence
from ..core.decide.turn import TurnPlace, decide_turn, in_order, needs_of_next
from ..core.events import (
    DELIVERABLE,
    TERMINAL,
    BatchFooter,
    Event,
    LevelChanged,
    RunAdmitted,
    RunParked,
    RunPinned,
    RunResumed,
    RunStarted,
    StepParked,
    TurnAttempted,
    UpdateCompleted,
)
from ..core.replay import root_of
from ..core.rows import HISTORY, RUNS, RunRow, history_key, run_key
from ..core.values import BatchId, InputPosition
from ..errors import BlobError, LimitExceeded
from ..sdk.compare import DIVERGED, LACKS_CODE
from ..sdk.registry import Registry
from ..store.large import light
from .admission import Load
from .batch import Batch
from .careful import Careful
from .known import KnownCode
from .large import NAMED_LETTERS, brief, keeper, size_of, with_brief_errors
from .options import EngineOptions
from .overlay import Overlay
from .steps import Begin, LocalSteps, StopAll
from .turns import RunKey, Taken, Turns

NO_HASH = b"\x00" * 32


class Builder:
    """Builds the batches of one partition upon its overlay."""

    def __init__(
        self,
        overlay: Overlay,
        codec: Codec,
        registry: Registry,
        settings: Settings,
        options: EngineOptions,
        steps: LocalSteps,
        turns: Turns,
    ) -> None:
        self.overlay = overlay
        self.careful = Careful(options.careful_attempts)
        self.later: dict[RunKey, None] = {}
        self.load = Load()
        self.level = 1
        """The feature level in force, as of the last record."""
        self._codec = codec
        self._known = KnownCode(registry, options.blobs)
        self._settings = settings
        self._options = options
        self._keep = keeper(options)
        self._steps = steps
        self._turns = turns

    def context(self, batch: Batch, **more: Any) -> Context:
        """What decisions of this batch may know beside state; `more`: other fields of it."""
        app, suggest_at = self._settings.app, self._options.suggest_at
        code_of, limit_of = self._known.code_of, self._known.limit_of
        return Context(app, batch.now_ms, code_of, level=batch.level, suggest_at=suggest_at, limit_of=limit_of, **more)

    # -- events ------------------------------------------------------------------------------------------------------

    def take(self, batch: Batch, drafts: Iterable[Draft]) -> None:
        """Record the events of one decision, then let the runs that they woke take their turns.

        Raises LimitExceeded, and BlobsUnavailable before anything is recorded.
        """
        for draft in [self._light(draft) for draft in drafts]:
            self._record(batch, draft)
        self._wake(batch)

    def _light(self, draft: Draft) -> Draft:
        body = light(draft.body, self._keep)
        return draft if body is draft.body else draft._replace(body=body)

    def _record(self, batch: Batch, draft: Draft) -> None:
        """Give a draft its place, seal it, apply it. Raises LimitExceeded before anything changed."""
        seq, prev_hash = 0, NO_HASH
        run: RunRow | None = None
        if type(draft.body) not in machine.APPLY_PARTITION:
            run = self.overlay.get(RUNS, run_key(draft.workflow_id, draft.run_id))
            seq, prev_hash = (run.seq + 1, run.head_hash) if run is not None else (1, NO_HASH)
        event = Event(
            draft.workflow_id,
            draft.run_id,
            seq,
            draft.body,
            draft.cause,
            batch.now_ms,
            batch.batch_id.claim_no,
            batch.batch_id.batch_no,
            len(batch.records),
            prev_hash,
            batch.trace,
            draft.original_ms,
        )
        record = self._codec.seal(event)
        if len(record.value) > self._options.event_bytes:
            what = (getattr(draft.body, "name", "") or getattr(draft.body, "step", ""))[:NAMED_LETTERS]
            raise LimitExceeded(
                f"{type(draft.body).__name__} {what} of {draft.workflow_id}: {len(record.value)} bytes, the limit is"
                f" {self._options.event_bytes}. Return a reference to large data, not the data."
            )
        machine.apply(self.overlay, record, self._settings)
        batch.add(record)
        if isinstance(draft.body, LevelChanged):
            self.level = draft.body.level
        if seq:
            self.load.changed(run, self.overlay.get(RUNS, run_key(draft.workflow_id, draft.run_id)))
            self._note(batch, event, copied=run is not None and seq <= run.forked_upto)

    def _note(self, batch: Batch, event: Event, copied: bool) -> None:
        """What an applied event of a run asks for: a turn, effects. A copied one asks for no effect."""
        body = event.body
        key = (event.workflow_id, event.run_id)
        if isinstance(body, RunStarted):
            self._turns.forget(key)
            if batch.next_offset <= self.careful.barrier:
                self.careful.suspect(key)
        if isinstance(body, DELIVERABLE):
            self._turns.notice(event)
            batch.woken.append(key)
        elif isinstance(body, RunResumed | RunPinned | RunAdmitted):
            batch.woken.append(key)
        if isinstance(body, TERMINAL):
            batch.on_proof.append(StopAll(event.run_id))
            batch.awaited[key] = None
            return
        if isinstance(body, RunParked | UpdateCompleted):
            batch.awaited[key] = None
        if isinstance(body, RunParked | StepParked) and not copied:
            batch.parked.append((key, body))
        for effect in () if copied else self._steps.effects(event, self.overlay):
            at_once = isinstance(effect, Begin) and effect.safe
            (batch.on_commit if at_once else batch.on_proof).append(effect)

    # -- turns -------------------------------------------------------------------------------------------------------

    def wake(self, batch: Batch, key: RunKey) -> None:
        """Let a run take the turns it has deliveries for."""
        batch.woken.append(key)
        self._wake(batch)

    def wake_later(self, batch: Batch) -> None:
        """Runs whose turn, or the rest of whose replay, was put off: each once, as far as there is room; one always."""
        for number, key in enumerate(tuple(self.later)):
            if number and not batch.has_room():
                return
            del self.later[key]
            self.wake(batch, key)

    def _wake(self, batch: Batch) -> None:
        """The first one now; those that its turns begin, as far as there is room: each may go on as the next."""
        first = True
        while batch.woken:
            key = batch.woken.popleft()
            if first or batch.has_room():
                self._take_turns(batch, key)
            else:
                self.later[key] = None
            first = False

    def _take_turns(self, batch: Batch, key: RunKey) -> None:
        while True:
            run: RunRow | None = self.overlay.get(RUNS, run_key(*key))
            if run is None or run.status != "running" or not self._has_code(batch, key, run):
                return
            if self.careful.doubts(key, run):
                self.careful.queue(key, run)
                return
            taken = self._turns.next(self.overlay, key, run, batch.no_turn_after)
            if taken is None:
                if self._turns.replaying(key):
                    self.later[key] = None
                elif self._options.evict_after_turn and self._turns.fresh(key) >= _between_evictions(run):
                    self._turns.drop(key)
                return
            if taken.turn.verdict is not None:
                self._turns.drop(key)
                self._stop(batch, key, taken, taken.turn.verdict)
                return
            came_with, batch.trace = batch.trace, taken.trace
            self._decide_turn(batch, TurnPlace(*key, run, taken.seq), taken.turn.commands)
            batch.trace = came_with
            self._note_silence(batch, key, taken.seq)
            now = time.perf_counter()
            batch.longest_turn_s = max(batch.longest_turn_s, now - taken.began_s)
            if now > batch.no_turn_after:
                self.later[key] = None
                return

    def _stop(self, batch: Batch, key: RunKey, taken: Taken, verdict: ParkRun) -> None:
        """The run's code came to no end of its turn: it waits, parks or, at the desk, forks."""
        if verdict.kind == LACKS_CODE:
            self._turns.lacking[key] = verdict.message
            return
        message = verdict.message
        if taken.replayed and verdict.kind == DIVERGED and self._options.forks_diverged:
            try:
                drafts = after_divergence(self.overlay, *key, taken.seq, self.context(batch))
            except (TooLong, KeyFailed) as error:
                message += f"\nIt does not go on from there by itself: {error}"
            else:
                for draft in drafts:
                    self._record(batch, draft)
                return
        self._record(batch, Draft(*key, RunParked(verdict.kind, brief(message), verdict.call_site)))

    def _note_silence(self, batch: Batch, key: RunKey, seq: int) -> None:
        """Remember a turn that left nothing on the log, if its run may wait for long.

        While steps are under way the next outcome wakes the run anyway: a `gather` of a thousand records nothing more.
        """
        run: RunRow | None = self.overlay.get(RUNS, run_key(*key))
        if run is not None and run.status == "running" and run.turn < seq and (run.attempts or not run.pending_steps):
            batch.silent[key] = seq
        else:
            batch.silent.pop(key, None)

    def _record_silence(self, batch: Batch) -> None:
        for key, seq in batch.silent.items():
            run: RunRow | None = self.overlay.get(RUNS, run_key(*key))
            if run is not None and run.status == "running" and run.turn < seq:
                self._record(batch, Draft(*key, TurnAttempted(0, seq)))

    def careful_turn(self, batch: Batch) -> bool:
        """The one turn, or the record of its attempt, that careful mode lets into this batch; whether there is one."""
        careful = self.careful
        if careful.attempted is not None:
            key = careful.attempted
            self.wake(batch, key)
            run: RunRow | None = self.overlay.get(RUNS, run_key(*key))
            is_open = run is not None and run.status not in CLOSED
            if is_open and self._turns.replaying(key):
                # The turn in doubt is still to come: others go on until the replay is through.
                self.later.pop(key, None)
                return False
            careful.taken()
            if not is_open:
                # It was terminated, or purged, while it replayed.
                self._turns.drop(key)
            elif run is not None and run.attempts and key not in batch.silent:
                # The turn came to its end and issued nothing: without this record it would count as one that did not.
                self.take(batch, [Draft(*key, TurnAttempted(0))])
            return True
        while careful.waiting:
            key = careful.next()
            waiting: RunRow | None = self.overlay.get(RUNS, run_key(*key))
            if waiting is not None and waiting.status == "running":
                self.take(batch, [careful.attempt(key, waiting)])
                return True
            careful.drop(key)
        return False

    def _has_code(self, batch: Batch, key: RunKey, run: RunRow) -> bool:
        if run.version == 0:
            known = self._known.code_of(run.workflow_type, 0)
            if known is None:
                return False
            self._pin(batch, key, known)
            return False
        return self._turns.has_code(key, run)

    def _pin(self, batch: Batch, key: RunKey, known: Known) -> None:
        started = self.overlay.get(HISTORY, history_key(*key, 1)).event.body
        try:
            limits = needs_of(known, started.arguments, started.priority)
        except KeyFailed as error:
            self._record(batch, Draft(*key, RunParked("bug", brief(str(error)), "")))
            return
        self._record(batch, Draft(*key, RunPinned(known.version, known.identity, limits)))

    def _decide_turn(self, batch: Batch, place: TurnPlace, commands: Sequence[TurnCommand]) -> None:
        context = self.context(batch)
        try:
            place.next_needs = needs_of_next(place.run, commands, context)
            commands = [self._kept(with_brief_errors(command, self._options.payload_bytes)) for command in commands]
        except BlobError as error:
            self._park(batch, place, "blob", str(error))
            return
        except KeyFailed as error:
            self._park(batch, place, "bug", str(error))
            return
        if problem := unwritable(tuple(commands)):
            self._park(batch, place, "bug", problem)
            return
        too_large = next(filter(None, (self._too_large(command) for command in commands)), "")
        if too_large:
            self._park(batch, place, "limit", too_large)
            return
        for command in in_order(commands):
            for draft in decide_turn(self.overlay, place, command, context):
                self._record(batch, draft)

    def _park(self, batch: Batch, place: TurnPlace, kind: str, message: str) -> None:
        key = (place.workflow_id, place.run_id)
        self._turns.drop(key)
        self._record(batch, Draft(*key, RunParked(kind, brief(message), "")))

    def _kept(self, command: TurnCommand) -> TurnCommand:
        """A turn's command with its payloads as its event may hold them. Raises BlobsUnavailable naming it."""
        try:
            return light(command, self._keep)
        except BlobError as error:
            raise type(error)(f"{_named(command)}: {error}") from error

    def _too_large(self, command: TurnCommand) -> str:
        """Why a turn's command cannot be recorded: found before anything of the turn is."""
        limit = self._options.payload_bytes
        size = size_of(command)
        if size > limit:
            return (
                f"{_named(command)}: {size} bytes in one record, the limit is {limit}. Pass a reference, not the data."
            )
        return ""

    # -- the footer --------------------------------------------------------------------------------------------------

    def close(self, batch: Batch, prev_footer_hash: bytes, position: InputPosition, outbox_upto: BatchId) -> None:
        """Seal the footer: it covers the batch by its root and carries the input position."""
        self._record_silence(batch)
        body = BatchFooter(
            prev_footer_hash=prev_footer_hash,
            root=root_of(record.hash for record in batch.records),
            event_count=len(batch.records),
            position=position,
            now_ms=batch.now_ms,
            outbox_upto=outbox_upto,
            level=self.level,
        )
        claim_no, batch_no = batch.batch_id
        batch.footer = self._codec.seal(
            Event(
                "",
                "",
                0,
                body,
                recorded_at_ms=batch.now_ms,
                claim_no=claim_no,
                batch_no=batch_no,
                batch_index=len(batch.records),
            )
        )

    # -- after a claim -----------------------------------------------------------------------------------------------

    def open_runs(self) -> list[RunKey]:
        """Runs whose code may not have seen every delivery. All that are open are counted."""
        behind = []
        self.load.clear()
        for key, run in self.overlay.scan(RUNS, ()):
            if not isinstance(run, RunRow):
                continue
            self.load.changed(None, run)
            if run.status not in CLOSED and (run.delivered > run.turn or run.version == 0):
                behind.append((str(key[0]), str(key[1])))
        return behind


def _named(command: TurnCommand) -> str:
    name = getattr(command, "name", "") or getattr(command, "workflow_type", "") or type(command).__name__
    return str(name)[:NAMED_LETTERS]


def _between_evictions(run: RunRow) -> int:
    """At the desk every turn is followed by an eviction.

    Of a long run, of steps or of anything else, every fiftieth, for each costs a whole replay.
    """
    return 50 if run.steps_done > 200 or run.seq > 1_000 else 0
