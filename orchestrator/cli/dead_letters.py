"""`orchestrator dead-letters`: input that no run could take."""

from __future__ import annotations

import asyncio
import base64
import heapq
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from orchestrator.client.transport import Transport
from orchestrator.codec.records import Codec
from orchestrator.codec.registry import codec_of
from orchestrator.codec.signatures import CommandSigner
from orchestrator.config import Settings
from orchestrator.core.signatures import attested, named
from orchestrator.core.tasks import DeadLetter
from orchestrator.errors import KafkaUnavailable, UndecodableRecord, WorkflowNotFound
from orchestrator.log.config import LogConfig
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Headers
from orchestrator.log.reader import read_partition
from orchestrator.log.topics import partition_count
from orchestrator.store.blobs import DirectoryBlobs

from . import exits, session
from .output import confirmed, output_option, print_one, print_rows
from .session import app_name, settings_of
from .topics import log_config


class Letter(NamedTuple):
    """A dead letter with its number: its offset in the topic, behind its partition (`2/17`) unless that is 0."""

    number: str
    at_ms: int
    letter: DeadLetter


@click.group("dead-letters")
def dead_letters() -> None:
    """Input that no run could take: undecodable, of an unknown schema, of a name that ORCHESTRATOR_REFUSE refuses."""


def _letters(settings: Settings) -> Iterator[Letter]:
    """Those of every partition, oldest first: `topics init` makes one, who made the topic otherwise may have more."""
    config, codec = log_config(settings), codec_of(settings)
    partitions = range(partition_count(config, "dead-letters"))
    yield from heapq.merge(*(_of(config, codec, number) for number in partitions), key=lambda found: found.at_ms)


def _of(config: LogConfig, codec: Codec, partition: int) -> Iterator[Letter]:
    for wires in read_partition(config, config.topic("dead-letters"), partition):
        for wire in wires:
            decoded = codec.decode(wire.value)
            if not isinstance(decoded, DeadLetter):
                raise UndecodableRecord(f"{wire.topic}/{partition} offset {wire.offset} is no dead letter")
            number = f"{partition}/{wire.offset}" if partition else str(wire.offset)
            yield Letter(number, wire.timestamp_ms, decoded)


def _one(settings: Settings, number: str) -> DeadLetter:
    for found in _letters(settings):
        if found.number == number:
            return found.letter
    raise WorkflowNotFound(f"there is no dead letter {number}: see `orchestrator dead-letters list`")


def _row(found: Letter) -> dict[str, Any]:
    letter = found.letter
    return {
        "number": found.number,
        "at_ms": found.at_ms,
        "from": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "key": letter.key.decode(errors="replace"),
        "bytes": letter.value.blob.size if letter.value.blob else len(letter.value.data),
        "reason": letter.reason,
    }


@dead_letters.command("list")
@output_option
@click.pass_context
def list_command(context: click.Context, /, output: str) -> None:
    """List the dead letters, oldest first."""
    rows = (_row(found) for found in _letters(settings_of(context)))
    print_rows(rows, ["number", "at_ms", "from", "key", "bytes", "reason"], output)


@dead_letters.command("show")
@click.argument("number")
@output_option
@click.pass_context
def show(context: click.Context, /, number: str, output: str) -> None:
    """Show dead letter NUMBER with its original bytes, and what it says of itself if it is a command."""
    settings = settings_of(context)
    letter = _one(settings, number)
    blob = letter.value.blob
    row = {**_row(Letter(number, 0, letter)), "blob": blob.name if blob else None}
    row.pop("at_ms")
    value = _whole(settings, letter).value
    row |= _command(codec_of(settings), value.data)
    if output == "table":
        print_one({**row, "text": value.data.decode(errors="replace")}, output)
    else:
        print_one({**row, "key_base64": _base64(letter.key), "value_base64": _base64(value.data)}, output)


def _command(codec: Codec, value: bytes) -> dict[str, Any]:
    """A command in a few words, for whoever has to decide about it; nothing of bytes that are none."""
    try:
        command = attested(codec.decode_command(value), verified=False)
    except UndecodableRecord:
        return {}
    said_by = named(command.actor)
    return {"command": type(command.body).__name__, "workflow_id": command.workflow_id, "said_by": said_by}


def _whole(settings: Settings, letter: DeadLetter) -> DeadLetter:
    """The letter with its bytes, from the blob directory if they are there. Raises BlobError."""
    ref = letter.value.blob
    if ref is None:
        return letter
    data = DirectoryBlobs(settings.blobs).get(ref)
    return letter._replace(value=letter.value._replace(data=data, blob=None))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dead_letters.command("resubmit")
@click.argument("number")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@click.pass_context
def resubmit(context: click.Context, /, number: str, yes: bool, output: str) -> None:
    """Send the original bytes of dead letter NUMBER to the commands topic again, after a fix.

    Without one it becomes a dead letter again. A command that was carried out meanwhile changes nothing. With a signing
    key the bytes are signed anew: you vouch for what they say of their sender.
    """
    settings = settings_of(context)
    letter = _whole(settings, _one(settings, number))
    if not yes and not confirmed(f"send {len(letter.value.data)} bytes to the commands topic again?"):
        raise exits.Exit(exits.FAILED)
    transport = session.open_transport(app_name(settings), settings)
    headers = CommandSigner.of(settings, app_name(settings)).headers(letter.value.data)
    partition = asyncio.run(_send(transport, letter, headers, settings.reply_timeout_s))
    print_one({"number": number, "sent_to_partition": partition}, output)


async def _send(transport: Transport, letter: DeadLetter, headers: Headers, timeout_s: float) -> int:
    loop = asyncio.get_running_loop()
    sent: asyncio.Future[str] = loop.create_future()

    def done(problem: str) -> None:
        loop.call_soon_threadsafe(sent.set_result, problem)

    await asyncio.to_thread(transport.open, lambda value: None)
    try:
        partition = partition_of(letter.key, transport.partitions)
        transport.send(partition, letter.key, letter.value.data, done, headers)
        problem = await asyncio.wait_for(sent, timeout_s)
    except TimeoutError:
        raise KafkaUnavailable(f"the commands topic took nothing within {timeout_s:g} s") from None
    finally:
        await asyncio.to_thread(transport.close)
    if problem:
        raise KafkaUnavailable(f"the commands topic refused it: {problem}")
    return partition
