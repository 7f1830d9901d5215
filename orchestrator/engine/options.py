"""Bounds and habits of an engine process, with their units."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from ..codec.signing import PublicKeys, Signer
from ..core.events import SUGGEST_AT
from ..store.blobs import Blobs
from ..store.checkpoint import Checkpoints
from ..telemetry.observer import NOBODY, Observer

EVENT_BYTES = 1_000_000
INLINE_BYTES = 65_536
HEAD_ROOM = 8_192
"""Bytes of an event kept free for everything but its payload."""
PAYLOAD_BYTES = EVENT_BYTES - HEAD_ROOM
"""What a payload may take of an event, for those who report to an engine."""
CARRIED_BYTES = 900_000
"""What blobs may take of a record to a worker or a caller, who then need not have the store."""


def new_instance() -> str:
    """Identity of one process start: host, pid and a nonce. Another start on the same host is another instance."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True)
class AnchorOptions:
    """Who signs heads, how often, and where a copy goes besides the anchors topic."""

    signer: Signer = field(repr=False)
    directory: Path | None = None
    every_s: float = 60.0
    every_batches: int = 1_000


@dataclass(frozen=True)
class SignatureOptions:
    """Whose commands count as verified, and the key that signs what this engine sends to other workflows.

    `required`: commands that are not verified are turned away. Without `keys` every command counts as claimed. `place`
    is where the keys come from, for an engine that is to notice what changes there.
    """

    keys: PublicKeys | None = field(default=None, repr=False)
    signer: Signer | None = field(default=None, repr=False)
    required: bool = False
    place: Path | None = None


UNSIGNED = SignatureOptions()


@dataclass(frozen=True)
class CheckpointOptions:
    """Where checkpoints go, and how often a partition that has changed is due for one: whichever comes first.

    `scratch` is a directory of the file system that the state directories are on: copies are made there, and restores.
    """

    checkpoints: Checkpoints = field(repr=False)
    scratch: Path
    every_events: int = 500_000
    every_s: float = 600.0
    look_s: float = 1.0


@dataclass(frozen=True)
class StandbyOptions:
    """Which partitions of others are followed: `partitions`, or every one."""

    partitions: tuple[int, ...] = ()

    def wants(self, number: int) -> bool:
        """Whether a partition is followed while another process owns it."""
        return not self.partitions or number in self.partitions


@dataclass(frozen=True)
class EngineOptions:
    """Seconds end in `_s`, milliseconds in `_ms`.

    A batch takes no new turn after `batch_ms` and stays below `batch_bytes`. `cached_runs` coroutines stay in memory
    (0: every await evicts and replays). `prove_s` is how long a footer may take to be read back before the partition is
    claimed again; `hang_s` how long a restore may stand still before it is reported. So long after the last batch a
    footer alone says what was sent meanwhile (`idle_footer_s`), or which commands left no record (`idle_input_s`).
    """

    instance: str = field(default_factory=new_instance)
    batch_ms: int = 50
    batch_bytes: int = 512 * 1024
    event_bytes: int = EVENT_BYTES
    inline_bytes: int = INLINE_BYTES
    """Larger payloads that may be blobs are, if there is a store for them."""
    cached_runs: int = 5_000
    replay_slice: int = 500
    timers_per_batch: int = 500
    refused: tuple[str, ...] = ()
    """Names of workflows, or patterns of names, whose starts become dead letters."""
    max_open_runs: int = 0
    max_pending_steps: int = 0
    """Of the whole application, 0: no limit. Beyond them new starts are refused."""
    turn_s: float = 1.0
    prove_s: float = 2.0
    hang_s: float = 20.0
    start_within_ms: int = 5_000
    hand_over_ms: int = 60_000
    offer_again_s: float = 10.0
    offer_again_max_s: float = 300.0
    idle_footer_s: float = 1.0
    idle_input_s: float = 3_600.0
    careful_attempts: int = 2
    skew_ms: int = 5_000
    """How far this process's clock and the brokers' may be apart; beyond it a partition is released. 0: any."""
    suggest_at: int = SUGGEST_AT
    """The length of history from which a run is told that it might continue as new; 0: never."""
    dedup_horizon_ms: int = 14 * 86_400_000
    retention_ms: int = 30 * 86_400_000
    topics_every_s: float = 60.0
    """How often the topics' identities are looked at while partitions are owned."""
    evict_after_turn: bool = False
    forks_diverged: bool = False
    claims_back: bool = False
    """Whether a partition that another owner claimed is claimed again.

    The group says whose it is, a static map never changes.
    """
    generation: int = 0
    """Of the static map that assigned the partitions, for the claim's record."""
    signatures: SignatureOptions = UNSIGNED
    anchors: AnchorOptions | None = None
    """None: no heads are signed."""
    marks: Path | None = None
    """Directory of the small files that name the run whose turn is on, for the successor's messages. None: no files."""
    checkpoints: CheckpointOptions | None = None
    """None: none are taken, and none is restored."""
    standby: StandbyOptions | None = None
    """None: what others own is not followed."""
    blobs: Blobs | None = field(default=None, repr=False)
    """Where large payloads lie. None: what does not fit into an event ends in LimitExceeded."""
    observer: Observer = field(default=NOBODY, repr=False)
    """Who is told what the engine does."""

    @property
    def payload_bytes(self) -> int:
        """What of an event its payload may take; the rest is kept free for everything else."""
        return self.event_bytes - HEAD_ROOM
