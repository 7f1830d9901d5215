"""`orchestrator upgrade`: the log's feature level, and the step after which there is no way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from orchestrator.client.calls import Calls
from orchestrator.client.requests import Request
from orchestrator.core import levels
from orchestrator.core.commands import ChangeLevel, QueryWorkflow
from orchestrator.errors import CommandRejected, ReplyTimeout
from orchestrator.sdk.identity import release

from . import exits
from .arguments import Seconds
from .output import output_option, print_rows, say
from .session import call, settings_of

ANSWER_S = 5.0
"""How long a partition's owner may take to say its level."""
COLUMNS = ["partition", "level", "engine", "reads", "says"]


class Standing(NamedTuple):
    """A partition's level in force, and what its owner is: its release and the level that it has. 0: nobody said."""

    partition: int
    level: int = 0
    reads: int = 0
    engine: str = ""

    def says(self, target: int) -> str:
        """What a raise to `target` would find."""
        if not self.reads:
            return "nobody answers: is an engine running, and what does `orchestrator doctor` say?"
        if self.level >= target:
            return f"level {self.level} is in force, no older release can read this log"
        if self.reads < target:
            return f"its owner's release has no level {target}: deploy {release()} there first"
        return f"the release before can still read it; its owner is ready for level {target}"


@click.group()
def upgrade() -> None:
    """What a new release writes, and whether the release before can still read it."""


@upgrade.command("status")
@output_option
@click.pass_context
def status_command(context: click.Context, /, output: str) -> None:
    """Every partition's level and its owner's release; exit code 1 if one is not answered for."""
    found = call(settings_of(context), _standings, ANSWER_S)
    target = max([levels.LEVEL, *(one.reads for one in found)])
    print_rows([_row(one, target) for one in found], COLUMNS, output)
    if not all(one.reads for one in found):
        raise exits.Exit(exits.FAILED)
    if any(one.level < target for one in found):
        say(f"a rollback is safe. Once it is not wanted any more: orchestrator upgrade finalize (level {target})")


@upgrade.command("finalize")
@click.option("--yes", is_flag=True, help="Do it; without it, it is only said what would be done.")
@click.option("--reason", default="", help="Why; recorded in every partition's log.")
@click.option("--timeout", "timeout_s", type=Seconds(), default=30.0, show_default=True, metavar="SECONDS",
              help="How long a partition's owner may take to record it.")  # fmt: skip
@output_option
@click.pass_context
def finalize_command(context: click.Context, /, yes: bool, reason: str, timeout_s: float, output: str) -> None:
    """Let engines write what only this release can read. It cannot be taken back: an older engine parks from then on.

    Every partition must be owned by an engine of this release (or a later one); else nothing is changed. Killed half
    way: run it again. Exit code 1 if a partition has not recorded it.
    """
    settings, target = settings_of(context), levels.LEVEL
    found = call(settings, _standings, ANSWER_S)
    behind = [one for one in found if one.reads < target]
    todo = [one.partition for one in found if one.level < target]
    if behind or not yes or not todo:
        print_rows([_row(one, target) for one in found], COLUMNS, output)
    if behind:
        which = ", ".join(str(one.partition) for one in behind)
        say(f"nothing was changed: partition {which} is not owned by an engine that has level {target}")
        raise exits.Exit(exits.FAILED)
    if not todo:
        say(f"level {target} is in force everywhere, and {release()} has no higher one")
        return
    if not yes:
        say(f"nothing was changed. No older release can read the log after `finalize --yes` (level {target})")
        return
    request = Request(reason=reason, timeout_s=timeout_s)
    rows = call(settings, lambda calls: _raise(calls, todo, target, request), timeout_s)
    print_rows(rows, ["partition", "ok", "says"], output)
    if not all(row["ok"] for row in rows):
        raise exits.Exit(exits.FAILED)


def _row(one: Standing, target: int) -> dict[str, Any]:
    return {**one._asdict(), "says": one.says(target)}


async def _standings(calls: Calls) -> list[Standing]:
    return list(await asyncio.gather(*(_standing(calls, number) for number in range(calls.caller.partitions))))


async def _standing(calls: Calls, number: int) -> Standing:
    try:
        reply = await calls.caller.query("", QueryWorkflow("level"), partition=number)
    except ReplyTimeout:
        return Standing(number)
    except CommandRejected:
        # A release that does not know the question: the first one, whose level is 1.
        return Standing(number, 1, 1, "older")
    return Standing(number, **json.loads(reply.result.data))


async def _raise(calls: Calls, numbers: Sequence[int], level: int, request: Request) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(_raise_one(calls, number, level, request) for number in numbers)))


async def _raise_one(calls: Calls, number: int, level: int, request: Request) -> dict[str, Any]:
    try:
        await calls.caller.command("", ChangeLevel(level), request, number)
    except (CommandRejected, ReplyTimeout) as error:
        return {"partition": number, "ok": False, "says": f"{error}; run it again"}
    return {"partition": number, "ok": True, "says": f"level {level} is in force"}
