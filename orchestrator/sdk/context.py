"""What workflow code may ask about its run: time, identity, chance. All of it comes out the same in a replay."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random as _random
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from ..core import ids
from ..core.events import RunStarted
from ..core.values import Payload
from ..errors import ConfigurationError
from .loop import Evicted, RunLoop, running_loop

if TYPE_CHECKING:
    from .turn import LiveRun


_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


class ContinueAsNewRequested(BaseException):
    """Leaves the main function of a run that goes on as a new one."""

    def __init__(self, arguments: Payload) -> None:
        super().__init__()
        self.arguments = arguments


class RunContext:
    """Identity of a run, as its code sees it."""

    def __init__(self, workflow_id: str, run_id: str, started: RunStarted) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.workflow_type = started.workflow_type
        self.version = started.version
        self.memo: Any = json.loads(started.memo.data) if started.memo.blob is None else None
        self.attributes = {one.name: one for one in started.attributes}
        self.history_length = 1
        """Events up to the one whose turn this is."""
        self._suggest_at = started.suggest_at
        self._seed = started.seed
        self._named: dict[str, _random.Random] = {}

    @property
    def continue_as_new_suggested(self) -> bool:
        """Whether the history is so long that the code might continue as new. It need not."""
        return 0 < self._suggest_at <= self.history_length

    def reseed(self) -> None:
        """A fork's code is behind its fork point: chance is its own from here on."""
        own = ids.seed(self.run_id)
        if self._seed != own:
            self._seed = own
            self._named.clear()

    def named(self, name: str) -> _random.Random:
        """A stream of its own, which survives edits elsewhere in the code."""
        if name not in self._named:
            self._named[name] = _random.Random(self._digest(f"name/{name}"))
        return self._named[name]

    def drawn(self, loop: RunLoop) -> _random.Random:
        """From (seed, task path, number of the task's last step, n-th draw since).

        A new draw shifts nothing beyond the next step.
        """
        identity = loop.identity()
        identity.draws += 1
        return _random.Random(self._digest(f"{identity.path}/{identity.last_step}/{identity.draws}"))

    def _digest(self, what: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._seed}/{what}".encode()).digest()[:16], "big")


def _here(what: str) -> RunLoop:
    loop = running_loop()
    if loop is None:
        raise ConfigurationError(f"{what} belongs in workflow code")
    return loop


def run_info() -> RunContext:
    """The run whose code is running."""
    found: RunContext = _here("run_info()").run.context  # type: ignore[attr-defined]
    return found


def now() -> datetime:
    """The log's time of this turn, in UTC. Never runs back."""
    return datetime.fromtimestamp(_here("now()").now_ms / 1000, UTC)


async def sleep_until(moment: datetime) -> None:
    """Sleep until `moment`, durably, never early; returns at once if that is past.

    Raises TypeError for a moment without time zone: where it lies would depend on the machine.
    """
    loop = _here("sleep_until()")
    if moment.utcoffset() is None:
        raise TypeError(f"sleep_until({moment}): the moment has no time zone; write datetime(..., tzinfo=UTC)")
    due_ms = -((_EPOCH - moment) // _MILLISECOND)
    if due_ms <= loop.now_ms:
        await asyncio.sleep(0)
        return
    woken = loop.create_future()
    timer = loop.call_at(due_ms / 1000, _wake, woken)
    try:
        await woken
    finally:
        timer.cancel()


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def random(name: str = "") -> _random.Random:
    """A source of random values that a replay repeats; a named one survives edits."""
    loop = _here("random()")
    if loop.evicting:
        # In a query: a draw would shift those of the run.
        raise Evicted
    context = run_info()
    return context.named(name) if name else context.drawn(loop)


def uuid4() -> uuid.UUID:
    """A random UUID that a replay repeats."""
    return uuid.UUID(int=random().getrandbits(128), version=4)


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """Close this run and go on as a new one with these arguments and fresh history.

    Raises TypeError and DoesNotRoundTrip as a call of the workflow would.
    """
    run: LiveRun = _here("continue_as_new()").run  # type: ignore[assignment]
    if run.code.entity is not None:
        raise ConfigurationError("a call of an entity does not continue as new: call another one, or return")
    raise ContinueAsNewRequested(run.code.signature.bind(args, kwargs))
