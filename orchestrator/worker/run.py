"""The worker process: probes, signals, the connection, and `RemoteWorker` in the middle."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from typing import Any

from orchestrator.client.caller import Caller
from orchestrator.client.requests import ClientOptions
from orchestrator.client.transport import Transport
from orchestrator.codec.registry import codec_of
from orchestrator.codec.signatures import CommandSigner, signing_key
from orchestrator.config import Settings
from orchestrator.core.values import Actor
from orchestrator.ending import ABANDONED, END_S, SIGNALS, Leaving
from orchestrator.engine.health import Health, Probes
from orchestrator.errors import ConfigurationError
from orchestrator.open_files import raise_open_files
from orchestrator.store.blobs import DirectoryBlobs
from orchestrator.telemetry import export

from .build import executor_of, options_of
from .loading import load_app
from .options import WorkerOptions
from .remote import RemoteWorker, TaskSource

log = logging.getLogger(__name__)

_SLOTS = 16


def worker_name() -> str:
    """This process start, as leases name it: host, pid and a nonce."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def run_worker(settings: Settings) -> int:
    """Run steps of `settings.queues` until SIGTERM or SIGINT, which drain first; the exit code.

    Raises ConfigurationError, KafkaUnavailable, RegistryUnavailable.
    """
    app_ref = settings.required_app()
    if not settings.queues:
        raise ConfigurationError(
            "no task queue named: give --queue NAME, or set ORCHESTRATOR_QUEUES, to the queue of @app.step(queue=NAME)"
        )
    raise_open_files()
    app = load_app(app_ref)
    # A registry that does not answer, a key that cannot be read: the process ends before anything is opened.
    codec_of(settings)
    signing_key(settings)
    from orchestrator.client.kafka import KafkaTransport
    from orchestrator.log.client_io import TaskConsumer

    transport = KafkaTransport(app.name, settings)
    flush = export.start()
    code = asyncio.run(serve(settings, app, transport, TaskConsumer(app.name, settings)))
    flush()
    return code


async def serve(settings: Settings, app: Any, transport: Transport, source: TaskSource) -> int:
    """Work over the given transport and source until a signal; both are closed in the end. The exit code.

    From the signal on a process of ours lives for the grace time and `END_S` at most, or until a second signal.
    """
    name = worker_name()
    codec = await asyncio.to_thread(codec_of, settings)
    caller = Caller(
        app.name,
        transport,
        ClientOptions(actor=Actor(kind="service", id=name, via="worker"), timeout_s=settings.reply_timeout_s),
        codec,
        CommandSigner.of(settings, app.name),
    )
    executor_options = options_of(settings.step_slots, _SLOTS)
    worker = RemoteWorker(
        WorkerOptions(
            name,
            slots=executor_options.slots,
            lease_s=settings.lease_s,
            renew_s=settings.lease_s / 3,
            grace_s=settings.grace_s,
            blobs=DirectoryBlobs(settings.blobs, app.name),
        ),
        caller,
        source,
        executor_of(settings.required_app(), app, settings.isolation, executor_options),
        codec,
    )
    caller.on_stop = worker.stop
    drain = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        leaving, limit_s = Leaving.of_process, settings.grace_s + END_S
        if not drain.is_set():
            log.info(
                "ending: what runs may finish within %g s, all of it takes %g s at most", settings.grace_s, limit_s
            )
            drain.set()
            if leaving is not None:
                leaving.within(limit_s, lambda: worker.ending)
        elif leaving is not None:
            leaving.at_once()

    for number in SIGNALS:
        loop.add_signal_handler(number, end)

    def health() -> Health:
        return Health(worker.started, worker.started and not drain.is_set(), loop.is_running())

    try:
        with Probes(settings.health_host, settings.health_port, health):
            await caller.open()
            try:
                log.info("worker %s serves %s of %s", name, ", ".join(settings.queues), app.name)
                await worker.run(drain)
            finally:
                worker.ending = "while everything was closed"
                await caller.close()
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    return ABANDONED if worker.untold else 0
