"""What the partitions of a process share: nothing of it belongs to one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..codec.records import Codec
from ..codec.signatures import CommandSigner
from ..log.ports import Log
from ..sdk.execution import StepExecutor
from ..sdk.registry import Registry
from ..store.rows import Store
from .anchors import Anchors, NoAnchors
from .checkpoints import NoCheckpoints, Takes
from .clock import Clock
from .handed_over import Origin, Tokens
from .options import EngineOptions
from .standby import NoStandby, Standby
from .turn_guard import TurnGuard


class Shared(NamedTuple):
    """The process's parts, as a partition needs them. `stopped(number, problem)` is told of a partition's end."""

    log: Log
    codec: Codec
    registry: Registry
    executor: StepExecutor
    guard: TurnGuard
    clock: Clock
    options: EngineOptions
    open_store: Callable[[int], Store]
    stopped: Callable[[int, str], None]
    origins: dict[str, Origin]
    """Which partition began an attempt, by its token: its outcome goes there, whatever its workflow id hashes to."""
    sent: Tokens
    """Attempts whose outcome left this process by command: it lies before whoever owns their partition next."""
    over: Tokens
    """Attempts whose outcome nobody wants: their partition's owner of now said so."""
    anchors: Anchors = NoAnchors()
    checkpoints: Takes = NoCheckpoints()
    standby: Standby = NoStandby()
    sign: CommandSigner = CommandSigner("", None)
