"""`orchestrator doctor`: settings, machine, cluster, topics and engines, each with a verdict and a remedy."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

import click

from orchestrator import errors
from orchestrator.client.calls import Calls
from orchestrator.codec.signatures import signing_key
from orchestrator.codec.signing import listed
from orchestrator.config import Settings
from orchestrator.core.commands import QueryWorkflow

from . import exits
from .output import output_option, print_rows
from .session import app_name, call, settings_of

OPEN_FILES = 4096
FREE_BYTES = 1 << 30
ANSWER_S = 3.0
"""How long an engine may take to answer for a partition."""


class Finding(NamedTuple):
    """One thing looked at. `verdict` is ok, warning or bad."""

    what: str
    verdict: str
    says: str


@click.command()
@output_option
@click.pass_context
def doctor(context: click.Context, /, output: str) -> None:
    """Look at settings, machine, cluster, topics and engines; exit code 1 if something is bad."""
    settings = settings_of(context)
    findings = [*_machine(settings), *_keys(settings), *_application(settings)]
    print_rows([finding._asdict() for finding in findings], ["what", "verdict", "says"], output)
    if any(finding.verdict == "bad" for finding in findings):
        raise exits.Exit(exits.FAILED)


def _machine(settings: Settings) -> list[Finding]:
    # Engines and workers raise their own limit as far as the hard one.
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = files == resource.RLIM_INFINITY or files >= OPEN_FILES
    remedy = "" if enough else f"; an engine of 64 partitions needs more: ulimit -n {OPEN_FILES}"
    return [
        Finding("open files", "ok" if enough else "warning", f"{files} allowed{remedy}"),
        _state_dir(settings.state_dir),
    ]


def _state_dir(directory: Path) -> Finding:
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding("state directory", "bad", f"{existing} is not writable: set ORCHESTRATOR_STATE_DIR")
    free = shutil.disk_usage(existing).free
    if free < FREE_BYTES:
        return Finding("state directory", "bad", f"{free >> 20} MiB free, make room, at least 1 GiB: {existing}")
    return Finding("state directory", "ok", f"{free >> 30} GiB free: {directory}")


def _keys(settings: Settings) -> list[Finding]:
    """What this process signs with, and whom an engine here would know; nothing where neither is set."""
    found: list[Finding] = []
    try:
        if (signer := signing_key(settings)) is not None:
            found.append(Finding("signing key", "ok", signer.key_id))
        if settings.key_ring is not None:
            ring = ", ".join(key_id for key_id, _ in listed([settings.key_ring]))
            found.append(Finding("key ring", "ok", f"{ring}; signatures are {settings.signatures}"))
    except errors.ConfigurationError as error:
        found.append(Finding("keys", "bad", str(error)))
    return found


def _application(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    try:
        name = app_name(settings)
        found.append(Finding("application", "ok", name))
        found += _topics(settings, name)
        found += _transactions(settings, name)
        found += _engines(settings)
    except Exception as error:
        # Whatever is wrong is the finding: code that does not import, a cluster that does not answer.
        what = "kafka" if isinstance(error, errors.KafkaUnavailable) else "application"
        found.append(Finding(what, "bad", exits.sentence(error)))
    return found


def _topics(settings: Settings, name: str) -> list[Finding]:
    from orchestrator.log.topics import check_topics

    from .topics import log_config, queues_of, registered

    looked_at = check_topics(log_config(settings, name), queues_of(settings)) + registered(settings)
    wrong = [found for found in looked_at if not found.ok]
    if not wrong:
        return [Finding("topics", "ok", f"the topics of {name} and the brokers are as they must be")]
    return [Finding("topics", "bad", f"{found.what}: {found.remedy}") for found in wrong]


def _transactions(settings: Settings, name: str) -> list[Finding]:
    from orchestrator.log.hanging import hanging_anywhere

    from .topics import log_config

    found = hanging_anywhere(log_config(settings, name))
    if not found:
        return [Finding("transactions", "ok", "none has been open for longer than its time-out")]
    return [Finding("transactions", "bad", one.sentence()) for one in found]


def _engines(settings: Settings) -> list[Finding]:
    async def work(calls: Calls) -> list[tuple[int, ...]]:
        return list(await asyncio.gather(*(_routing(calls, number) for number in range(calls.caller.partitions))))

    found = call(settings, work, ANSWER_S)
    silent = [number for number, epochs in enumerate(found) if not epochs]
    behind = [number for number, epochs in enumerate(found) if epochs and epochs[-1] != len(found)]
    if behind:
        which = ", ".join(map(str, behind))
        says = f"partition {which} does not route by {len(found)} partitions: orchestrator topics grow {len(found)}"
        return [Finding("engines", "bad", says)]
    if not silent:
        return [Finding("engines", "ok", "every partition is answered for")]
    which = ", ".join(map(str, silent))
    says = f"nobody answers for partition {which}: is an engine running, and does its log say why it holds back?"
    return [Finding("engines", "bad", says)]


async def _routing(calls: Calls, partition: int) -> tuple[int, ...]:
    """The counts that a partition routes by; none when nobody answers for it."""
    try:
        reply = await calls.caller.query("", QueryWorkflow("routing"), partition=partition)
    except errors.ReplyTimeout:
        return ()
    return tuple(json.loads(reply.result.data)["epochs"])
