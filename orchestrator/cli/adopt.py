"""`orchestrator topics adopt`: the same log under other topic ids, verified partition by partition."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.codec.registry import codec_of
from orchestrator.config import Settings
from orchestrator.core.values import Actor
from orchestrator.engine.adoption import Adoption, adopt, verify
from orchestrator.errors import LogGap, LogReplaced
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.store.partition_store import PartitionStore

from .session import person

Row = dict[str, Any]


class Wish(NamedTuple):
    """What is asked for; `numbers` empty: every partition with a state directory here."""

    numbers: tuple[int, ...]
    yes: bool
    skip_input: bool
    reason: str


def adoptions(settings: Settings, config: LogConfig, wish: Wish) -> Iterator[Row]:
    """Verify, and with `yes` adopt, each partition; what was found. `ok` is false where something is left to do."""
    directory = settings.state_dir / config.app
    log, codec = KafkaLog(config), codec_of(settings)
    actor = Actor("person", person(), via="cli")
    try:
        for number in wish.numbers or _at_hand(directory):
            place = directory / str(number)
            was_there = place.is_dir()
            store = PartitionStore(place, codec)
            try:
                if wish.yes:
                    found = adopt(log, store, codec, number, actor, wish.reason, wish.skip_input)
                else:
                    found = verify(log, store, codec, number)
                yield _row(found, wish)
            except (LogReplaced, LogGap) as error:
                yield {"partition": number, "ok": False, "says": str(error)}
            finally:
                store.close()
                if not was_there:
                    # Folded to look at the log: engines have theirs elsewhere.
                    shutil.rmtree(place, ignore_errors=True)
    finally:
        log.close()


def _at_hand(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.glob("*") if path.name.isdigit()) if directory.is_dir() else []


def _row(found: Adoption, wish: Wish) -> Row:
    if found.is_none:
        return {"partition": found.partition, "ok": True, "says": "the topics are those of the state: nothing to adopt"}
    same = (
        f"the footer at offset {found.footer_offset} is the state's: the same log"
        if found.footer_offset >= 0
        else "there is no state to compare with; the log is whole"
    )
    reading = f"commands are read from {found.input_offset}"
    if wish.skip_input:
        reading = f"commands are read from the topic's end, {found.input_end}"
    elif not found.input_fits:
        reading = f"but the topic has {found.input_start}..{found.input_end}: --skip-input reads from its end on"
        reading = f"the next command was {found.input_offset}, {reading}"
    did = "adopted" if wish.yes else "to adopt it: --yes"
    says = f"{same}; {reading}. Before: {found.before}. Now: {found.now}. {did}"
    return {"partition": found.partition, "ok": wish.yes, "says": says}
