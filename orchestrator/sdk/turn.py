"""A run in memory: one delivery, one turn.

Live it issues commands; in replay it must issue those that history recorded.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..codec.payloads import adapter, encode_failure, message_of, printable
from ..core import commands as c, events as e
from ..core.values import NOTHING, Failure, Payload
from ..errors import Divergence, DoesNotRoundTrip, StepCancelled
from . import echoes, forbidden, garbage, outcomes
from .calls import Called, ChildCalled, StepCalled
from .compare import divergence
from .context import ContinueAsNewRequested, RunContext
from .loop import Evicted, Identity, Overlong as Overlong, RunLoop, RunTask
from .messages import Came, Mailbox
from .talk import Talk, handler_signature
from .updates import UpdateHandler
from .workflow import WorkflowCode

EVICT_ROUNDS = 100
_unending: list[RunTask] = []
"""Tasks that swallowed their eviction for ever. Never let go of: collected, they would go on in another run's turn."""


OVERLONG = c.ParkRun(
    "overlong", "a turn ran longer than a second without awaiting anything durable: move the work into a step"
)


class Turn(NamedTuple):
    """What a turn issued. With a verdict none of it counts: the run is parked."""

    commands: tuple[c.TurnCommand, ...]
    verdict: c.ParkRun | None = None


class LiveRun:
    """One run's code, brought to where its history is."""

    def __init__(self, code: WorkflowCode, workflow_id: str, run_id: str, started: e.RunStarted) -> None:
        forbidden.install()
        echoes.install()
        garbage.install()
        self.code = code
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.mailbox = Mailbox()
        self.mailbox.seen = {(one.name, one.match.data): one.number for one in started.heard}
        self.closed = False
        self.replaying = False
        self.loud = False
        """Whether a replay logs what its code logs: for whoever looks at it."""
        self.cancel_requested = False
        self.patches: dict[str, bool] = {}
        """Which side of each change the code took, once it asked."""
        self.recorded_patches: frozenset[str] = frozenset()
        self.context = RunContext(workflow_id, run_id, started)
        self._started = started
        self._loop = RunLoop()  # type: ignore[abstract]
        self._loop.run = self
        self.talk = Talk(code, self.mailbox, self._loop)
        self._main: RunTask | None = None
        self._cancelled_at = 0
        self._entity_state = NOTHING
        self._handler_error: BaseException | None = None
        self._asyncgens: set[Any] = set()

    # -- turns -------------------------------------------------------------------------------------------------------

    def deliver(self, event: e.Event) -> Turn:
        """Deliver one event live and run until idle."""
        return self._turn(event)

    def again(self, event: e.Event) -> Turn:
        """`deliver` what this process delivered before, to a copy that was evicted: what it logs was logged."""
        self._loop.muted = True
        try:
            return self._turn(event)
        finally:
            self._loop.muted = False

    def replay(self, delivery: e.Event, recorded: Sequence[e.Event]) -> Turn:
        """Deliver an event of history; a turn that issues anything but `recorded` has diverged."""
        self.replaying = True
        self._loop.muted = not self.loud
        self.recorded_patches = frozenset(one.body.patch for one in recorded if isinstance(one.body, e.RunPatched))
        try:
            turn = self._turn(delivery)
        finally:
            self.replaying = self._loop.muted = False
        if turn.verdict is not None:
            return turn
        problem = divergence(turn.commands, recorded, self.code.registry, delivery.seq <= self._started.forked_upto)
        if problem is not None:
            return Turn((), problem)
        return turn

    def _turn(self, event: e.Event) -> Turn:
        if self.closed:
            # Recorded in the batch in which the code ended, before it did: nobody is there to hear it.
            return Turn(())
        loop = self._loop
        now_ms = event.code_ms
        self.context.history_length = event.seq
        if event.seq > self._started.forked_upto > 0:
            self.context.reseed()
        if isinstance(event.body, e.RunStarted):
            now_ms += event.body.start_delay_ms
        loop.begin_turn(max(now_ms, loop.now_ms))
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._asyncgens.add, finalizer=self._asyncgens.discard)
        previous = asyncio._get_running_loop()
        asyncio._set_running_loop(loop)
        try:
            self._hand_in(event)
            loop.run_until_idle()
            if loop.verdict is None:
                self._conclude()
        except Overlong:
            loop.verdict = OVERLONG
        except (SystemExit, KeyboardInterrupt) as error:
            loop.verdict = c.ParkRun("bug", f"workflow code raised {type(error).__name__}: it may not end the process")
        except (DoesNotRoundTrip, Divergence) as error:
            loop.verdict = c.ParkRun("diverged", str(error))
        except Exception as error:
            # What code raises is seen to where it runs: this is a value on the log that we did not expect.
            what = f"{type(event.body).__name__} (event {event.seq}) cannot be delivered: {type(error).__name__}"
            loop.verdict = c.ParkRun("bug", f"{what}: {message_of(error)}")
        finally:
            asyncio._set_running_loop(previous)
            sys.set_asyncgen_hooks(*hooks)
        if loop.verdict is not None:
            return Turn((), loop.verdict)
        return Turn(tuple(loop.commands))

    # -- deliveries --------------------------------------------------------------------------------------------------

    def _hand_in(self, event: e.Event) -> None:
        body = event.body
        if isinstance(body, e.StepCompleted):
            self._complete(body.step, body.result)
        elif isinstance(body, e.RunStarted):
            # Delivered, its arguments have their bytes.
            self._started = body
            if self.code.entity is None:
                self._start(body)
            elif not body.queued:
                what = (
                    f"{self.code.workflow_type} is a handler of an entity: call it on a key (orchestrator entity call)"
                )
                self._loop.verdict = c.ParkRun("bug", what)
        elif isinstance(body, e.EntityAdmitted) and self.code.entity is not None:
            self._entity_state = body.state
            self._start(self._started)
        elif isinstance(body, e.StepFailed):
            self._fail(body.step, outcomes.step_error(body, self.code.registry.errors))
        elif isinstance(body, e.TimerFired):
            self._loop.fire(body.timer)
        elif isinstance(body, e.SignalReceived):
            self._signal(event.seq, body)
        elif isinstance(body, e.UpdateAccepted):
            self._update(event.seq, body)
        elif isinstance(body, e.CancelRequested):
            self.cancel_requested = True
            self._cancelled_at = event.seq
            self._loop.cancel_main()
        elif isinstance(body, e.StepCancelled):
            self._fail(body.step, StepCancelled(f"step {body.step} was cancelled", "StepCancelled"))
        elif isinstance(body, e.ChildCompleted):
            self._complete(body.child, body.result)
        elif isinstance(body, e.ChildFailed):
            self._fail(body.child, outcomes.child_error(body, self.code.registry.errors))
        elif isinstance(body, e.EventDelivered):
            self._come(body.wait, body)
        elif isinstance(body, e.ApprovalDecided | e.ApprovalExpired):
            self._come(body.approval, body)

    def _start(self, body: e.RunStarted) -> None:
        code = self.code
        args, kwargs = code.signature.unbind(body.arguments)
        if code.is_method:
            assert code.owner is not None
            try:
                entity = code.entity
                self.talk.object = code.owner() if entity is None else entity.load(self._entity_state)
            except Exception as error:
                self._loop.commands.extend(self.bug(f"{type(error).__name__}: {error}", error))
                self.closed = self._loop.verdict is None
                return
            args = (self.talk.object, *args)
        self._main = self._loop.main = self._loop.spawn(code.fn(*args, **kwargs), Identity("0"))
        if code.entity is not None and self.cancel_requested:
            # It was asked to cancel while it waited for its turn.
            self._loop.cancel_main()

    def _complete(self, step: str, result: Payload) -> None:
        called = self._loop.waiting.pop(step, None)
        if called is None or called.future is None or called.future.done():
            return
        called.future.set_result(self._decoded(called, result))

    def _come(self, wait: str, outcome: e.EventDelivered | e.ApprovalDecided | e.ApprovalExpired) -> None:
        """What a wait was for; whoever waits makes a value of it."""
        called = self._loop.waiting.pop(wait, None)
        if called is not None and called.future is not None and not called.future.done():
            called.future.set_result(outcome)

    def _decoded(self, called: Called, result: Payload) -> Any:
        if isinstance(called, StepCalled | ChildCalled):
            try:
                return called.code.signature.result.decode(result)
            except DoesNotRoundTrip as error:
                raise Divergence(
                    f"the recorded result of {called.describe()} (at {called.call_site}) no longer fits its"
                    f" return hint: {error}"
                ) from error
        return adapter(Any).decode(result)

    def _fail(self, step: str, error: BaseException) -> None:
        called = self._loop.waiting.pop(step, None)
        if called is None or called.future is None or called.future.done():
            return
        error.__orchestrator_step__ = True  # type: ignore[attr-defined]
        called.future.set_exception(error)

    def _signal(self, seq: int, body: e.SignalReceived) -> None:
        handler = self.code.handlers.signals.get(body.name)
        if handler is None:
            self.mailbox.put(body.name, Came(seq, body.payload))
            return
        self._loop.spawn(self._handle(handler, body.payload), Identity(f"s{seq}"))

    async def _handle(self, handler: Any, payload: Payload) -> None:
        try:
            args, kwargs = handler_signature(handler).unbind(payload)
            outcome = handler(self.talk.object, *args, **kwargs)
            if asyncio.iscoroutine(outcome):
                await outcome
        except (Exception, BaseExceptionGroup) as error:
            # Nobody awaits a handler: its error is the run's, as the main function's would be.
            self._handler_error = self._handler_error or error

    def _update(self, seq: int, body: e.UpdateAccepted) -> None:
        handler = self.talk.update(body.name)
        if handler is None:
            raise Divergence(f"history has update {body.name!r} accepted, for which the code has no handler now")
        self._loop.spawn(self._carry_out(handler, body), Identity(f"u{seq}"))

    async def _carry_out(self, handler: UpdateHandler, body: e.UpdateAccepted) -> None:
        try:
            args, kwargs = handler.unbind(body.payload)
            value = handler.fn(*args, **kwargs)
            if asyncio.iscoroutine(value):
                value = await value
            self._loop.commands.append(c.CompleteUpdate(body.update, handler.encode(value)))
        except (Exception, BaseExceptionGroup) as error:
            if self.fails_the_run(error):
                # Its caller's, not the run's: a declared error, a failed step.
                failure = outcomes.failure_of(error, self.code.registry.errors)
                self._loop.commands.append(c.CompleteUpdate(body.update, failure=failure))
            else:
                self._handler_error = self._handler_error or error

    # -- the end of a turn -------------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        loop, main = self._loop, self._main
        if loop.unawaited:
            called = next(iter(loop.unawaited.values()))
            loop.verdict = c.ParkRun(
                "bug", f"{called.describe()} was called at {called.call_site} and never awaited", called.call_site
            )
            return
        if main is None:
            return
        if self._handler_error is not None and not main.done():
            loop.commands.extend(self._ended_by(self._handler_error))
            self.closed = loop.verdict is None
        elif main.done():
            self.closed = True
            loop.commands.extend(self._outcome(main))
        elif not self._waits():
            loop.verdict = c.ParkRun("stuck", f"{self._where()}: waits for nothing that the log could ever bring")

    def _waits(self) -> bool:
        loop = self._loop
        handlers = self.code.handlers
        told = self.mailbox.waited_for() or self.mailbox.updates or handlers.signals or handlers.updates
        return bool(loop.waiting or loop.timers or told)

    def _where(self) -> str:
        frame = self._main.get_stack(limit=1) if self._main is not None else []
        return f"{frame[0].f_code.co_filename.rpartition('/')[2]}:{frame[0].f_lineno}" if frame else ""

    def _outcome(self, main: RunTask) -> list[c.TurnCommand]:
        try:
            value = main.result()
        except asyncio.CancelledError:
            if self.cancel_requested:
                return [c.CancelRun()]
            return self.bug("CancelledError left the workflow although nobody asked to cancel it", None)
        except ContinueAsNewRequested as again:
            owed = {self._cancelled_at} if self._loop.cancel_owed else set()
            untaken = tuple(sorted({*self.mailbox.untaken(), *owed}))
            return [c.ContinueAsNew(again.arguments, self.mailbox.heard(self._loop.now_ms), untaken)]
        except Overlong:
            self._loop.verdict = OVERLONG
            return []
        except BaseException as error:
            return self._ended_by(error)
        entity = self.code.entity
        try:
            payload, _ = self.code.signature.result.round_trip(value, f"result of workflow {self.code.workflow_type}")
            state = None if entity is None else entity.changed(self.talk.object, self._entity_state)
        except DoesNotRoundTrip as error:
            return self.bug(str(error), error)
        if entity is not None and state is not None:
            return [c.ChangeEntity(entity.name, state), c.CompleteRun(payload)]
        return [c.CompleteRun(payload)]

    def _ended_by(self, error: BaseException) -> list[c.TurnCommand]:
        if self.fails_the_run(error):
            return [c.FailRun(outcomes.failure_of(error, self.code.registry.errors))]
        return self.bug(f"{type(error).__name__}: {message_of(error)}", error)

    def fails_the_run(self, error: BaseException) -> bool:
        """Whether an error that leaves the code is the run's failure, not a bug."""
        return outcomes.fails_the_run(error, self.code.registry.errors)

    def bug(self, message: str, error: BaseException | None) -> list[c.TurnCommand]:
        """A bug parks the run: a fixed deploy goes on. `on_bug="fail"` fails it instead."""
        message, site = printable(message), outcomes.site_of(error)
        if self.code.on_bug == "fail":
            failure = (
                encode_failure(error, self.code.registry.errors)
                if error is not None
                else Failure("CancelledError", message, retryable=False)
            )
            return [c.FailRun(failure)]
        self._loop.verdict = c.ParkRun("bug", f"{message} (at {site})" if site else message, site)
        return []

    # -- reading and leaving -----------------------------------------------------------------------------------------

    @property
    def waiting(self) -> str:
        """In a sentence: what the code waits for."""
        loop = self._loop
        parts = [f"{called.describe()} (at {called.call_site})" for called in loop.waiting.values()]
        parts += [f"signal {name}" for name in self.mailbox.waited_for()]
        if loop.timers:
            parts.append(f"{len(loop.timers)} timer{'s' if len(loop.timers) > 1 else ''}")
        return f"waits for {', '.join(parts[:5])}" if parts else ""

    def maps(self) -> Payload:
        """How far each map is that the code waits for."""
        return adapter(Any).encode([progress.view() for progress in self._loop.maps])

    def evict(self) -> None:
        """Leave memory: every task is thrown into, on the run's own loop, which refuses all commands."""
        loop = self._loop
        if loop.evicting:
            return
        loop.evicting = loop.muted = True
        previous = asyncio._get_running_loop()
        asyncio._set_running_loop(loop)
        try:
            for task in sorted(loop.tasks.values(), key=lambda one: -one.number):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = task.get_coro()
                for _ in range(EVICT_ROUNDS):
                    try:
                        coroutine.throw(Evicted())
                    except BaseException:
                        # Ended: by Evicted, by returning, or by an error of a `finally`; nothing of it counts.
                        break
                else:
                    _unending.append(task)
            loop.clear()
            loop.waiting.clear()
            loop.unawaited.clear()
        finally:
            asyncio._set_running_loop(previous)
