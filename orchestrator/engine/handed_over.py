"""Attempts whose partition moved while they ran: who carries one on asks its partition's owner whether it is wanted.

The question is a query of kind `attempt`; nothing of it is recorded. To be asked renews the attempt's window at the
owner: until that is over, the attempt is neither begun again nor called interrupted. The answer tells who asked to end
what was cancelled, or is over (docs/adr/0043-who-carries-a-step-on-asks.md).
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import ids
from ..core.commands import Command, QueryWorkflow
from ..core.decide.decision import View
from ..core.decide.step import UNDER_WAY
from ..core.events import StepScheduled
from ..core.rows import (
    CLAIM_KEY,
    HISTORY,
    META,
    POSITION_KEY,
    STEPS,
    ClaimRow,
    PositionRow,
    StepRow,
    history_key,
    step_key,
)
from ..core.tasks import Reply
from ..core.values import Actor, Payload, ReplyTo
from ..errors import UndecodableRecord
from ..log.ports import Log, Out
from ..sdk.execution import StepCall
from .clock import Clock
from .pages import as_json

if TYPE_CHECKING:
    from .ownership import Ground
    from .shared import Shared

log = logging.getLogger(__name__)

KIND = "attempt"
ASKS_S = 5.0
"""How often an attempt is asked about at least: so late it may hear of its cancellation."""
ASKS_A_WINDOW = 3
"""How often a window is renewed before it is over: two questions may be late or lost."""
MOST_MS = 600_000
"""The longest window that a question opens, whatever it says: anybody may have sent it."""
LEAST_S = 0.1
"""How soon it is asked again at most, however short a window is."""
DEAF_S = 60.0
"""How soon answers are tried to be heard again where they could not be."""
ENDED = ("backoff", "interrupted", "parked")
"""States of a step whose attempt has ended."""
CARRIED_ON = ("started", "handed_over")
"""States of an attempt that an owner before this one may carry on: its outcome comes as a command then."""


class Attempt(NamedTuple):
    """An attempt of a step of a run, and the seq of the event that scheduled the step."""

    workflow_id: str
    run_id: str
    step: str
    number: int
    scheduled_seq: int

    def is_over(self, view: View) -> bool:
        """Whether that is on record. What is not there may be yet to come: its batch did not land, it comes again."""
        row = view.get(STEPS, step_key(self.workflow_id, self.run_id, self.step))
        if isinstance(row, StepRow):
            return row.attempt > self.number or (row.attempt == self.number and row.state in ENDED)
        record = view.get(HISTORY, history_key(self.workflow_id, self.run_id, self.scheduled_seq))
        body = record.event.body if record is not None else None
        return isinstance(body, StepScheduled) and ids.step_id(body.path, body.n) == self.step

    def under_way(self, view: View) -> StepRow | None:
        """The step's row, if it is this attempt's and that has not ended."""
        row = view.get(STEPS, step_key(self.workflow_id, self.run_id, self.step))
        return row if isinstance(row, StepRow) and row.attempt == self.number and row.state in UNDER_WAY else None


class Origin(NamedTuple):
    """Where an attempt of this process belongs: the partition and the claim that began it."""

    partition: int
    claim_no: int
    attempt: Attempt

    @classmethod
    def of(cls, ground: Ground, call: StepCall) -> Origin:
        """Of an attempt that an owner begins."""
        row = ground.overlay.get(STEPS, step_key(call.workflow_id, call.run_id, call.step))
        scheduled = row.scheduled_seq if isinstance(row, StepRow) else 0
        attempt = Attempt(call.workflow_id, call.run_id, call.step, call.attempt, scheduled)
        return cls(ground.number, ground.claim_no, attempt)

    def question(self, window_ms: int) -> QueryWorkflow:
        """Whether it is wanted; who asks carries it on for so long at most without asking again."""
        attempt = self.attempt
        about = {"attempt": attempt.number, "scheduled_seq": attempt.scheduled_seq, "window_ms": window_ms}
        return QueryWorkflow(KIND, attempt.run_id, attempt.step, Payload(data=as_json(about)))


class Begun:
    """The attempts of this process that one of its partitions began."""

    def __init__(self, origins: dict[str, Origin], over: Tokens, ground: Ground) -> None:
        """`over`: attempts whose outcome was not wanted any more."""
        self._origins = origins
        self._over = over
        self._ground = ground

    def add(self, call: StepCall) -> None:
        """One is about to begin."""
        self._over.discard(call.token)
        self._origins[call.token] = Origin.of(self._ground, call)

    def drop(self, token: str) -> None:
        """It did not begin after all."""
        self._origins.pop(token, None)

    def unwanted(self, view: View, running: Iterable[str]) -> list[str]:
        """Those that are to end: another owner may have recorded it while it had the partition."""
        found = ((token, self._origins.get(token)) for token in running)
        mine = [(token, one.attempt) for token, one in found if one and one.partition == self._ground.number]
        return [token for token, attempt in mine if attempt.is_over(view) or _is_cancelled(attempt, view)]


class Tokens:
    """Attempts, by token; the newest of them. Thread-safe."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._tokens: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, token: str) -> None:
        """Remember one."""
        with self._lock:
            self._tokens[token] = None
            while len(self._tokens) > self._most:
                self._tokens.popitem(last=False)

    def discard(self, token: str) -> None:
        """Forget one."""
        with self._lock:
            self._tokens.pop(token, None)

    def __contains__(self, token: object) -> bool:
        with self._lock:
            return token in self._tokens


# -- the owner's side --------------------------------------------------------------------------------------------------


class Renewals:
    """Until when the attempts of a partition are carried on elsewhere, as those say who carry them on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def heard(self, view: View, command: Command) -> None:
        """A question came. What this owner has not seen begin elsewhere nobody carries on."""
        body = command.body
        if not isinstance(body, QueryWorkflow) or body.kind != KIND:
            return
        attempt, window_ms = _asked(command.workflow_id, body)
        row = attempt.under_way(view)
        if row is not None and row.state in CARRIED_ON:
            until = self._clock.monotonic() + min(window_ms, MOST_MS) / 1000
            self._until[row.token] = max(until, self._until.get(row.token, 0.0))

    def drop(self, token: str) -> None:
        """Nobody waits for the attempt any more."""
        self._until.pop(token, None)

    def left_s(self, token: str) -> float:
        """How much of an attempt's renewed window is left; 0 for one that nobody speaks for."""
        left = self._until.get(token, 0.0) - self._clock.monotonic()
        if left <= 0:
            self._until.pop(token, None)
        return max(left, 0.0)


def wanted(view: View, workflow_id: str, body: QueryWorkflow) -> dict[str, Any]:
    """The answer: whether the attempt is `over`, its outcome known or another one begun, or `cancelled`.

    `partition` and `claim_no` are of the owner that answers.
    """
    attempt, _ = _asked(workflow_id, body)
    position: PositionRow | None = view.get(META, POSITION_KEY)
    claim: ClaimRow | None = view.get(META, CLAIM_KEY)
    return {
        "over": attempt.is_over(view),
        "cancelled": _is_cancelled(attempt, view),
        "partition": position.position.partition if position is not None else -1,
        "claim_no": claim.claim_no if claim is not None else 0,
    }


def _is_cancelled(attempt: Attempt, view: View) -> bool:
    row = attempt.under_way(view)
    return row is not None and row.cancelled


def _asked(workflow_id: str, body: QueryWorkflow) -> tuple[Attempt, int]:
    """(attempt, milliseconds); one numbered 0, which no step has, for what no engine asks."""
    try:
        found = json.loads(body.arguments.data)
        number, seq, window_ms = (int(found[name]) for name in ("attempt", "scheduled_seq", "window_ms"))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        number = seq = window_ms = 0
    return Attempt(workflow_id, body.run_id, body.name, number, max(0, seq)), max(0, window_ms)


# -- the side of who carries it on -------------------------------------------------------------------------------------


class Carrier:
    """Asks about what this process runs of partitions that are not its own, from a thread of its own."""

    def __init__(self, shared: Shared, owns: Callable[[int], bool]) -> None:
        """`owns(partition)`: whether this process works on the partition, so that it knows by itself."""
        self._shared = shared
        self._owns = owns
        self._mark = f"/{KIND}/{shared.options.instance}/"
        """Between an attempt's token and a number, in the ids of our questions."""
        self._numbers = itertools.count()
        self._on_its_way: set[str] = set()
        self._listener: Listener | None = None
        self._ends_at = math.inf
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="carrier", daemon=True)

    def start(self) -> None:
        """Ask from now on."""
        self._thread.start()

    def ends_within(self, left_s: float) -> None:
        """What runs has no more time than that: no longer window is asked for."""
        self._ends_at = self._shared.clock.monotonic() + left_s

    def stop(self) -> None:
        """Ask no more, and end the threads."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._listener is not None:
            self._listener.close()
            self._listener.join()

    def _serve(self) -> None:
        options = self._shared.options
        windows_s = (options.hand_over_ms / 1000, options.start_within_ms / 1000)
        every_s = max(LEAST_S, min(ASKS_S, *(window_s / ASKS_A_WINDOW for window_s in windows_s)))
        while not self._ending.wait(every_s):
            try:
                self._listen(self._ask() > 0)
            except Exception:
                log.exception("steps that are carried on could not be asked about; asking again")

    def _ask(self) -> int:
        """One question about each that has none on its way; how many there are."""
        abroad = self._abroad()
        left_s = max(0.0, self._ends_at - self._shared.clock.monotonic())
        window_ms = int(min(self._shared.options.hand_over_ms, left_s * 1000))
        for token, origin in abroad.items():
            if token not in self._on_its_way:
                self._send(token, origin, window_ms)
        return len(abroad)

    def _abroad(self) -> dict[str, Origin]:
        found = ((token, self._shared.origins.get(token)) for token in self._shared.executor.running())
        return {token: origin for token, origin in found if origin is not None and not self._owns(origin.partition)}

    def _send(self, token: str, origin: Origin, window_ms: int) -> None:
        shared, listener, workflow_id = self._shared, self._listener, origin.attempt.workflow_id
        command = Command(
            id=f"{token}{self._mark}{next(self._numbers)}",
            workflow_id=workflow_id,
            body=origin.question(window_ms),
            actor=Actor(kind="engine", id=shared.options.instance),
            time_ms=shared.clock.wall_ms(),
            reply_to=listener.address if listener is not None else None,
        )
        value = shared.codec.encode_command(command)
        topic, headers = f"{shared.log.app}.commands", shared.sign.headers(value)
        out = Out(topic, origin.partition, workflow_id.encode(), value, headers)
        self._on_its_way.add(token)
        # One that cannot be sent is asked again.
        shared.log.outgoing().send(out, lambda problem: self._on_its_way.discard(token))

    # -- answers -----------------------------------------------------------------------------------------------------

    def _listen(self, listens: bool) -> None:
        """Hear answers while there is something to hear of, if we may: who cannot renews all the same."""
        listener = self._listener
        if listener is not None and (not listens or listener.deaf_for_s() > DEAF_S):
            listener.close()
            self._listener = listener = None
        if listens and listener is None:
            self._listener = Listener(self._shared.log, self._heard)
            self._listener.start()

    def _heard(self, value: bytes) -> None:
        """From the reader's thread: an answer, to whomever."""
        try:
            reply = self._shared.codec.decode(value)
            token, is_ours, _ = reply.command_id.rpartition(self._mark) if isinstance(reply, Reply) else ("", "", "")
            if not is_ours or reply.outcome != "answered":  # An owner of an older release refuses the question.
                return
            said = json.loads(reply.result.data)
            partition, claim_no = int(said["partition"]), int(said["claim_no"])
            over, cancelled = bool(said["over"]), bool(said["cancelled"])
        except (UndecodableRecord, ValueError, TypeError, KeyError, RecursionError):
            return
        origin = self._shared.origins.get(token)
        # One that has stood still since before the attempt began knows nothing of it.
        if origin is None or partition != origin.partition or claim_no <= origin.claim_no:
            return
        if over:
            self._shared.over.add(token)
        if over or cancelled:
            self._shared.executor.cancel(token)


class Listener(threading.Thread):
    """A reader of answers in a thread of its own: to open one, or to close it, may take as long as a broker likes."""

    def __init__(self, log_: Log, sink: Callable[[bytes], None]) -> None:
        super().__init__(name="listener", daemon=True)
        self.address: ReplyTo | None = None
        """Where answers are heard, once they are."""
        self._log = log_
        self._sink = sink
        self._over = threading.Event()
        self._deaf_since = math.inf

    def deaf_for_s(self) -> float:
        """How long ago it was found that nothing can be heard; below 0: it can, or nobody knows yet."""
        return time.monotonic() - self._deaf_since

    def close(self) -> None:
        """Hear no more."""
        self._over.set()

    def run(self) -> None:
        """Hear, until closed."""
        try:
            replies = self._log.replies(self._sink)
        except Exception as error:
            self._deaf_since = time.monotonic()
            log.warning("steps that are carried on do not hear that they are cancelled: %s", error)
            return
        self.address = ReplyTo(replies.topic, replies.partition)
        self._over.wait()
        replies.close()
