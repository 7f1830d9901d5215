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
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..core import ids
from ..core.commands import Command, QueryWorkflow
from ..core.decide.decision import View
from ..core.decide.step import UNDER_WAY
from ..core.rows import STEPS, StepRow, step_key
from ..core.tasks import Reply
from ..core.values import Actor, Payload, ReplyTo
from ..errors import OrchestratorError, UndecodableRecord
from ..log.ports import Out, Replies
from ..sdk.execution import StepCall
from .clock import Clock
from .pages import as_json

if TYPE_CHECKING:
    from .shared import Shared

log = logging.getLogger(__name__)

KIND = "attempt"
ASKS_S = 5.0
"""How often an attempt is asked about at least: so late it may hear of its cancellation."""
ASKS_A_WINDOW = 3
"""How often a window is renewed before it is over: two questions may be late or lost."""
MOST_MS = 600_000
"""The longest window that a question opens, whatever it says: anybody may have sent it."""
DEAF_S = 60.0
"""How soon answers are tried to be heard again where they could not be."""


class Origin(NamedTuple):
    """Where an attempt of this process belongs: the partition that began it, and its place there."""

    partition: int
    workflow_id: str
    run_id: str
    step: str
    attempt: int

    @classmethod
    def of(cls, partition: int, call: StepCall) -> Origin:
        """Of an attempt that a partition begins."""
        return cls(partition, call.workflow_id, call.run_id, call.step, call.attempt)

    def question(self, window_ms: int) -> QueryWorkflow:
        """Whether it is wanted; who asks carries it on for so long at most without asking again."""
        about = {"attempt": self.attempt, "window_ms": window_ms}
        return QueryWorkflow(KIND, self.run_id, self.step, Payload(data=as_json(about)))


# -- the owner's side --------------------------------------------------------------------------------------------------


class Renewals:
    """Until when the attempts of a partition are carried on elsewhere, as those say who carry them on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def clear(self) -> None:
        """A claim was won: every window begins anew with it."""
        self._until.clear()

    def heard(self, body: QueryWorkflow) -> None:
        """A question came."""
        if body.kind == KIND:
            attempt, window_ms = _asked(body)
            token = ids.step_token(body.run_id, body.name, attempt)
            until = self._clock.monotonic() + min(window_ms, MOST_MS) / 1000
            self._until[token] = max(until, self._until.get(token, 0.0))

    def left_s(self, token: str) -> float:
        """How much of an attempt's renewed window is left; 0 for one that nobody speaks for."""
        left = self._until.get(token, 0.0) - self._clock.monotonic()
        if left <= 0:
            self._until.pop(token, None)
        return max(left, 0.0)


def wanted(view: View, workflow_id: str, body: QueryWorkflow) -> dict[str, bool]:
    """The answer: whether the attempt is `over`, its outcome known or another attempt begun; whether `cancelled`."""
    row = view.get(STEPS, step_key(workflow_id, body.run_id, body.name))
    attempt, _ = _asked(body)
    if isinstance(row, StepRow) and row.attempt == attempt and row.state in UNDER_WAY:
        return {"over": False, "cancelled": row.cancelled}
    return {"over": True, "cancelled": False}


def _asked(body: QueryWorkflow) -> tuple[int, int]:
    """(number of the attempt, milliseconds); (0, 0), which no attempt has, for what no engine asks."""
    try:
        found = json.loads(body.arguments.data)
        return int(found["attempt"]), max(0, int(found["window_ms"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 0, 0


# -- the side of who carries it on -------------------------------------------------------------------------------------


class Carrier:
    """Asks about what this process runs of partitions that are not its own, from a thread of its own."""

    def __init__(self, shared: Shared, owns: Callable[[int], bool]) -> None:
        """`owns(partition)`: whether the partition is this process's own, so that it knows by itself."""
        self._shared = shared
        self._owns = owns
        self._me = shared.options.instance
        self._numbers = itertools.count()
        self._replies: Replies | None = None
        self._deaf_until = 0.0
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
        """Ask no more, and end the thread."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        every_s = min(ASKS_S, self._shared.options.hand_over_ms / 1000 / ASKS_A_WINDOW)
        while not self._ending.wait(every_s):
            try:
                if self._ask():
                    self._hear()
                else:
                    self._hear_no_more()
            except Exception:
                log.exception("steps that are carried on could not be asked about; asking again")
        self._hear_no_more()

    def _ask(self) -> int:
        """One question about each; how many."""
        left_s = max(0.0, self._ends_at - self._shared.clock.monotonic())
        window_ms = int(min(self._shared.options.hand_over_ms, left_s * 1000))
        found = [(token, self._shared.origins.get(token)) for token in self._shared.executor.running()]
        abroad = [(token, one) for token, one in found if one is not None and not self._owns(one.partition)]
        for token, origin in abroad:
            self._send(token, origin, window_ms)
        return len(abroad)

    def _send(self, token: str, origin: Origin, window_ms: int) -> None:
        shared, replies = self._shared, self._replies
        command = Command(
            id=f"{token}{self._mark}{next(self._numbers)}",
            workflow_id=origin.workflow_id,
            body=origin.question(window_ms),
            actor=Actor(kind="engine", id=self._me),
            time_ms=shared.clock.wall_ms(),
            reply_to=ReplyTo(replies.topic, replies.partition) if replies is not None else None,
        )
        value = shared.codec.encode_command(command)
        key, topic = origin.workflow_id.encode(), f"{shared.log.app}.commands"
        shared.log.outgoing().send(Out(topic, origin.partition, key, value, shared.sign.headers(value)), _lost)

    @property
    def _mark(self) -> str:
        """Between an attempt's token and a number, in the ids of our questions."""
        return f"/{KIND}/{self._me}/"

    # -- answers -----------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Hear answers, if we may: who cannot renews all the same."""
        now = self._shared.clock.monotonic()
        if self._replies is not None or now < self._deaf_until:
            return
        try:
            self._replies = self._shared.log.replies(self._heard)
        except OrchestratorError as error:
            self._deaf_until = now + DEAF_S
            log.warning("steps that are carried on do not hear that they are cancelled: %s", error)

    def _hear_no_more(self) -> None:
        if self._replies is not None:
            self._replies.close()
            self._replies = None

    def _heard(self, value: bytes) -> None:
        """From the reader's thread: an answer, to whomever."""
        try:
            reply = self._shared.codec.decode(value)
        except UndecodableRecord:
            return
        token, is_ours, _ = reply.command_id.rpartition(self._mark) if isinstance(reply, Reply) else ("", "", "")
        if is_ours and reply.outcome == "answered":  # An owner of an older release refuses the question.
            said = json.loads(reply.result.data)
            if said["over"] or said["cancelled"]:
                self._shared.executor.cancel(token)


def _lost(problem: str) -> None:
    """A question that cannot be sent is asked again."""
