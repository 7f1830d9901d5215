"""What commands share: the settings, the application, a connection for the time of one command."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import click

from orchestrator.client.caller import Caller
from orchestrator.client.calls import Calls
from orchestrator.client.requests import ClientOptions, Request
from orchestrator.client.transport import Transport
from orchestrator.codec.registry import codec_of
from orchestrator.codec.signatures import CommandSigner
from orchestrator.config import Settings
from orchestrator.core.values import Actor
from orchestrator.store.blobs import DirectoryBlobs

from .arguments import Seconds

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def settings_of(context: click.Context) -> Settings:
    """The settings that the root command read."""
    settings = context.obj
    if not isinstance(settings, Settings):
        raise TypeError("this command must be called through orchestrator.cli.main")
    return settings


def app_name(settings: Settings) -> str:
    """The application's name: as given, else from its code. Raises ConfigurationError."""
    if settings.app_name:
        return settings.app_name
    from orchestrator.worker.loading import load_app

    return str(load_app(settings.required_app()).name)


def open_transport(app: str, settings: Settings) -> Transport:
    """The transport of a command: Kafka's."""
    from orchestrator.client.kafka import KafkaTransport

    return KafkaTransport(app, settings)


@asynccontextmanager
async def connected(settings: Settings, timeout_s: float | None = None) -> AsyncIterator[Calls]:
    """Calls of the application, as the person at this terminal."""
    name = app_name(settings)
    actor = Actor(kind="person", id=person(), via="cli")
    options = ClientOptions(actor=actor, timeout_s=timeout_s or settings.reply_timeout_s)
    codec = await asyncio.to_thread(codec_of, settings)
    caller = Caller(name, open_transport(name, settings), options, codec, CommandSigner.of(settings, name))
    await caller.open()
    try:
        yield Calls(caller, DirectoryBlobs(settings.blobs))
    finally:
        await caller.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work on a loop of its own; Ctrl-C cancels it and ends with 130."""
    return asyncio.run(work)


def call(settings: Settings, work: Callable[[Calls], Coroutine[Any, Any, T]], timeout_s: float | None = None) -> T:
    """Connect, do `work`, disconnect."""

    async def inside() -> T:
        async with connected(settings, timeout_s) as calls:
            return await work(calls)

    return run(inside())


def request_options(command: F) -> F:
    """`--reason`, `--command-id` and `--timeout`, gathered by `request_of`."""
    options = (
        click.option("--reason", default="", help="Why; recorded in the history."),
        click.option("--command-id", default="", help="Your idempotency key: the same id never counts twice."),
        click.option(
            "--timeout", type=Seconds(), default=0.0, metavar="SECONDS", help="How long to wait for the reply."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def request_of(options: dict[str, Any]) -> Request:
    """The envelope that `request_options` asked for; takes its own out of `options`."""
    empty = Request()
    return replace(
        empty,
        reason=options.pop("reason", ""),
        command_id=options.pop("command_id", ""),
        timeout_s=options.pop("timeout", 0.0),
    )


def person() -> str:
    """Who sits at this terminal, as far as the machine knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container without a user database entry: the command still says that a person asked.
        return ""
