"""`orchestrator engine run`: settings to a running engine, until a signal drains it."""

from __future__ import annotations

import faulthandler
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable

from ..codec.records import Codec
from ..codec.registry import codec_of
from ..codec.signatures import signing_key
from ..codec.signing import PublicKeys, Signer
from ..config import Settings
from ..ending import ABANDONED, END_S, SIGNALS, Ending, Leaving
from ..errors import ConfigurationError
from ..log.config import LogConfig
from ..log.kafka_log import KafkaLog
from ..open_files import raise_open_files
from ..sdk.app import Orchestrator
from ..store.blobs import DirectoryBlobs
from ..store.checkpoint import Checkpoints
from ..store.partition_store import PartitionStore, open_or_rebuild
from ..store.places import place_of
from ..telemetry import export
from .health import Probes
from .options import AnchorOptions, CheckpointOptions, EngineOptions, SignatureOptions, StandbyOptions
from .run import Engine, MakeExecutor

log = logging.getLogger(__name__)

LOOK_S = 0.5
SWITCH_S = 0.0005
YOUNG_OBJECTS = 50_000


def run_engine(settings: Settings, app: Orchestrator, make_executor: MakeExecutor) -> int:
    """Own partitions of `app`'s log until SIGTERM or SIGINT; drain, and return the exit code.

    Parked partitions do not end it: probes and `doctor` tell of them. From the signal on a process of ours lives for
    the grace time and `END_S` at most, or until a second signal.
    Raises ConfigurationError, KafkaUnavailable, RegistryUnavailable, MissingHint.
    """
    app.registry.check()
    raise_open_files()
    app.registry.image = settings.image_digest
    for code in app.registry.workflows():
        # Found out now, by reading every distribution's list of files: the first run would wait for it.
        _ = code.identity
    faulthandler.enable(sys.__stderr__ or sys.stderr)
    # Partition threads hand the GIL to each other: the default of 5 ms is two commits long.
    sys.setswitchinterval(SWITCH_S)
    # Records and rows are tuples by the hundred thousand and hold no cycles: looking for some after every 700 took 15 %
    # of a restore. What is left is looked through after four such looks: after twenty that stood still for 200 ms.
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 4, 100)
    ending = Ending()
    options = _options(settings, app.name)
    directory = settings.state_dir / app.name
    flush = export.start()

    def open_store(number: int, codec: Codec) -> PartitionStore:
        return open_or_rebuild(directory / str(number), codec)

    codec = codec_of(settings)
    codec.prepare()
    log_ = KafkaLog(LogConfig.of(settings, app.name))
    engine = Engine(log_, app.registry, make_executor, open_store, options, codec=codec)
    with Probes(settings.health_host, settings.health_port, engine.health):
        restore = _on_signals(ending.set)
        engine.start()
        log.info("engine %s works on %s", options.instance, app.name)
        left: list[int] = []
        limits = (settings.grace_s, settings.grace_s + END_S)
        try:
            while not ending.wait(LOOK_S):
                pass
        finally:
            log.info("ending: what runs may finish within %g s, all of it takes %g s at most", *limits)
            if Leaving.of_process is not None:
                Leaving.of_process.within(limits[1], lambda: engine.ending)
            left = engine.stop(settings.grace_s)
            engine.ending = "when everything of ours had ended"
            flush()
            # Clients that wait in cycles are ended while there is an interpreter for their threads to call back into.
            gc.collect()
            restore()
    return ABANDONED if left else 0


def _options(settings: Settings, app: str) -> EngineOptions:
    """What the settings say of the engine. Raises ConfigurationError for a key or a place that cannot be used."""
    return EngineOptions(
        hand_over_ms=int(settings.grace_s * 1000),
        claims_back=settings.membership == "group",
        evict_after_turn=settings.dev,
        forks_diverged=settings.dev,
        generation=settings.generation,
        refused=settings.refuse,
        max_open_runs=settings.max_open_runs,
        max_pending_steps=settings.max_pending_steps,
        suggest_at=settings.continue_as_new_at,
        signatures=_signatures(settings),
        anchors=_anchors(settings),
        checkpoints=_checkpoints(settings, app),
        standby=None if settings.standby is None else StandbyOptions(settings.standby),
        blobs=DirectoryBlobs(settings.blobs, app),
        inline_bytes=settings.inline_bytes,
        marks=settings.state_dir / app,
        observer=export.observer(),
    )


def _signatures(settings: Settings) -> SignatureOptions:
    """Whose commands are verified, and how the engine's own are signed. Raises ConfigurationError for unusable keys."""
    required = settings.signatures == "required"
    if settings.key_ring is None:
        return SignatureOptions(None, signing_key(settings), required)
    keys, signer = PublicKeys.load([settings.key_ring]), signing_key(settings)
    if required and (signer is None or not keys.has(signer.key_id)):
        which = "it has none" if signer is None else f"its key {signer.key_id} is not in {settings.key_ring}"
        raise ConfigurationError(
            f"ORCHESTRATOR_SIGNATURES=required: an engine signs what it sends to other workflows, and {which}: set"
            " ORCHESTRATOR_SIGNING_KEY to a key whose public half is in ORCHESTRATOR_KEY_RING"
        )
    return SignatureOptions(keys, signer, required, settings.key_ring)


def _anchors(settings: Settings) -> AnchorOptions | None:
    """Who signs heads; nobody without a key. Raises ConfigurationError for a key that cannot be used."""
    if settings.anchor_key is None:
        return None
    return AnchorOptions(Signer.load(settings.anchor_key), settings.anchor_dir)


def _checkpoints(settings: Settings, app: str) -> CheckpointOptions | None:
    """Where checkpoints go; nowhere without an address. Raises ConfigurationError for one that cannot be used."""
    if not settings.checkpoint_url:
        return None
    place = place_of(settings.checkpoint_url, app, settings.s3_endpoint)
    return CheckpointOptions(
        Checkpoints(place, settings.checkpoint_keep),
        settings.state_dir / app,
        settings.checkpoint_every_events,
        settings.checkpoint_every_s,
    )


def _on_signals(act: Callable[[], None]) -> Callable[[], None]:
    """SIGTERM and SIGINT drain; a second one ends at once. Returns what puts the handlers back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: object) -> None:
        act()
        if Leaving.of_process is not None:
            Leaving.of_process.hear_signals()
        else:
            signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)

    def restore() -> None:
        if Leaving.of_process is not None:
            # Nothing but the end comes after, and a second signal still means: at once.
            return
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore
