"""`orchestrator topics grow`: more partitions, recorded by every owner, so that each command finds its run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from orchestrator.client.calls import Calls
from orchestrator.client.requests import Request
from orchestrator.codec.registry import codec_of
from orchestrator.config import Settings
from orchestrator.core.commands import ChangeRouting, QueryWorkflow
from orchestrator.core.values import Actor
from orchestrator.engine.soundness import ClaimLost
from orchestrator.engine.visiting import found_partition
from orchestrator.errors import CommandRejected, ConfigurationError, ReplyTimeout
from orchestrator.log.config import LogConfig
from orchestrator.log.growing import counts, empty_partitions, grow_topics
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.ports import Fenced

from .session import call, person

ASK_S = 15.0
AGAIN_S = 0.5
Row = dict[str, Any]


class Growth(NamedTuple):
    """What is asked for. `timeout_s`: how long a partition's owner may take to record it."""

    partitions: int
    reason: str
    timeout_s: float


def plan(settings: Settings, config: LogConfig, wanted: Growth) -> list[Row]:
    """What `grow` would do; changes nothing. Raises ConfigurationError when it cannot be done."""
    before = counts(config)
    _check(config, before, wanted.partitions)
    known = "?" if before["commands"] > before["events"] else _words(epochs_of(settings, 0))
    rows = [_row(config.topic(name), count, wanted.partitions) for name, count in sorted(before.items())]
    after = known if known.split(", ")[-1] == str(wanted.partitions) else f"{known}, {wanted.partitions}"
    return [*rows, {"what": "counts that commands are routed by", "from": known, "to": after}]


def grow(settings: Settings, config: LogConfig, wanted: Growth) -> list[Row]:
    """Grow the topics, give new partitions their first records, tell every owner; each partition with what it said.

    Whatever was done before is found done: after a kill, run it again. Raises ConfigurationError, KafkaUnavailable.
    """
    before = counts(config)
    _check(config, before, wanted.partitions)
    if before["commands"] > before["events"]:
        # Changed behind our back: no engine can start before the counts agree.
        grow_topics(config, wanted.partitions)
    epochs = epochs_of(settings, 0)
    if epochs[-1] > wanted.partitions:
        raise ConfigurationError(
            f"commands are routed by {epochs[-1]} partitions already: partitions are never taken away"
        )
    if epochs[-1] < wanted.partitions:
        epochs = (*epochs, wanted.partitions)
    grow_topics(config, wanted.partitions)
    # Partition 0 decides between two growths at once: what it refuses, nobody else hears of.
    first = call(settings, lambda calls: _tell(calls, [0], epochs, wanted), wanted.timeout_s)
    if not first[0]["ok"]:
        return first
    _found(settings, config, epochs, wanted.reason)
    others = range(1, wanted.partitions)
    return first + call(settings, lambda calls: _tell(calls, others, epochs, wanted), wanted.timeout_s)


def epochs_of(settings: Settings, partition: int) -> tuple[int, ...]:
    """The partition counts that a partition's log knows of. Raises ConfigurationError when no engine answers."""

    async def ask(calls: Calls) -> tuple[int, ...]:
        reply = await calls.caller.query("", QueryWorkflow("routing"), ASK_S, partition)
        return tuple(json.loads(reply.result.data)["epochs"])

    try:
        return call(settings, ask, ASK_S)
    except ReplyTimeout as error:
        raise ConfigurationError(
            f"nobody answers for partition {partition}: the engines record a growth, start them and run it again"
        ) from error


def _check(config: LogConfig, before: dict[str, int], wanted: int) -> None:
    least = max(before["commands"], before["events"])
    if wanted < least:
        raise ConfigurationError(f"{config.app} has {least} partitions: partitions are never taken away")


def _row(name: str, count: int, wanted: int) -> Row:
    return {"what": f"partitions of {name}", "from": count, "to": max(count, wanted)}


def _words(epochs: Sequence[int]) -> str:
    return ", ".join(map(str, epochs))


def _found(settings: Settings, config: LogConfig, epochs: tuple[int, ...], reason: str) -> None:
    numbers = empty_partitions(config)
    if not numbers:
        return
    log, codec = KafkaLog(config), codec_of(settings)
    try:
        for number in numbers:
            try:
                found_partition(log, codec, number, epochs, Actor("person", person(), via="cli"), reason)
            except (Fenced, ClaimLost):
                # An engine took it over in between: it is told like the others.
                continue
    finally:
        log.close()


async def _tell(calls: Calls, numbers: Iterable[int], epochs: tuple[int, ...], wanted: Growth) -> list[Row]:
    return list(await asyncio.gather(*(_tell_one(calls, number, epochs, wanted) for number in numbers)))


async def _tell_one(calls: Calls, number: int, epochs: tuple[int, ...], wanted: Growth) -> Row:
    clock = asyncio.get_running_loop().time
    ends = clock() + wanted.timeout_s
    said = ""
    while clock() < ends:
        request = Request(reason=wanted.reason, timeout_s=ends - clock())
        try:
            await calls.caller.command("", ChangeRouting(epochs), request, number)
        except ReplyTimeout:
            said = "nobody owns it: start engines (static assignment: give it to one), then run this again"
        except CommandRejected as error:
            said = str(error)
            # Its broker may not have heard of the new partitions yet.
            if error.code == "no_such_partitions":
                await asyncio.sleep(AGAIN_S)
                continue
        else:
            return {"partition": number, "ok": True, "says": f"routes by {_words(epochs)}"}
        break
    return {"partition": number, "ok": False, "says": said}
