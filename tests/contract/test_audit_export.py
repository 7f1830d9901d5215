"""Bundles: signed, verified offline, refused at the place where one byte is another."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import Client
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core.tasks import Anchor
from orchestrator.errors import BundleRefused
from orchestrator.log.ports import Wire
from orchestrator.projections.bundle import FORMAT, BundleWriter
from orchestrator.projections.bundle_export import Exporter, Range, Runs
from orchestrator.projections.bundle_verify import verify_bundle
from tests.contract.test_audit import CODEC, app, footers, go, wires_of, work
from tests.contract.world import World

Write = Callable[[Path, Exporter], None]


class Hand:
    """Who exports: a key, and its public half for whoever verifies."""

    def __init__(self, place: Path) -> None:
        generate(place)
        self.signer = Signer.load(place)
        self.keys = PublicKeys.load([public_path(place)])


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path / "exporter.pem")


def export(path: Path, hand: Hand, wires: dict[int, list[Wire]], chosen: Runs | Range) -> Path:
    with path.open("wb") as file:
        writer = BundleWriter(file)
        scope = {"kind": "runs" if isinstance(chosen, Runs) else "batches"}
        ids = {"cluster_id": "cluster", "commands_id": "commands", "events_id": "events"}
        writer.line("manifest", {"format": FORMAT, "app": app.name, **ids, "scope": scope})
        exporter = Exporter(writer, CODEC)
        for number, found in wires.items():
            if isinstance(chosen, Runs):
                exporter.runs(number, [found], chosen)
            else:
                exporter.batches(number, [found], chosen)
        exporter.anchors(_heads(hand, wires))
        exporter.schemas()
        writer.sign(hand.signer, 1_700_000_000_000)
    return path


def _heads(hand: Hand, wires: dict[int, list[Wire]]) -> list[bytes]:
    """The last footer of every partition, signed."""
    found = []
    for number, log in wires.items():
        for offset, _ in list(footers(log))[-1:]:
            (wire,) = [wire for wire in log if wire.offset == offset]
            record = CODEC.decode_event(wire.key, wire.value)
            at = (record.event.claim_no, record.event.batch_no, record.hash, 1_700_000_000_000)
            found.append(CODEC.encode(hand.signer.sign(Anchor("cluster", "events", number, offset, *at))))
    return found


async def two_runs(client: Client, world: World) -> dict[int, list[Wire]]:
    """The log of two runs, of which one has a secret."""
    for workflow, x in (("one", 3), ("other", 123_456_789)):
        handle = await client.start(work.options(id=workflow), x)
        await handle.signal(go, 4)
        await handle.result()
    world.stop()
    return wires_of(world, app)


@pytest.mark.contract("audit-export")
def test_whole_batches(world: World, hand: Hand, tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        wires = await two_runs(client, world)
        found = verify_bundle(export(tmp_path / "all", hand, wires, Range()), hand.keys)
        assert found.ok, found.audit.findings
        assert sum(part.closed_runs for part in found.audit.partitions.values()) == 2
        assert all(part.complete_to for part in found.audit.partitions.values() if part.batches)
        for number, log in wires.items():
            ends = list(footers(log))
            middle = ends[len(ends) // 2 : -1]
            if len(middle) < 2:
                continue
            chosen = Range(from_offset=middle[0][0], to_offset=middle[-1][0])
            found = verify_bundle(export(tmp_path / "middle", hand, {number: log}, chosen), hand.keys)
            assert found.ok, found.audit.findings
            assert found.audit.partitions[number].batches == len(middle)
            timed = Range(since_ms=middle[0][1], until_ms=middle[-1][1])
            found = verify_bundle(export(tmp_path / "timed", hand, {number: log}, timed), hand.keys)
            assert found.ok, found.audit.findings
            assert found.audit.partitions[number].batches >= len(middle)

    world.run(app, scenario)


@pytest.mark.contract("audit-export")
def test_a_run_without_its_neighbours(world: World, hand: Hand, tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        wires = await two_runs(client, world)
        bundle = export(tmp_path / "one", hand, wires, Runs("one"))
        found = verify_bundle(bundle, hand.keys)
        assert found.ok, found.audit.findings
        (run,) = found.runs
        assert (run["workflow_id"], run["ends"]) == ("one", "with RunCompleted")
        kept = [json.loads(line) for line in bundle.read_text().splitlines()]
        values = b"".join(base64.b64decode(line["value"]) for line in kept if line["kind"] == "record")
        assert b"123456789" not in values
        assert b"other" not in values

    world.run(app, scenario)


@pytest.mark.contract("audit-export")
def test_what_was_changed_cut_or_signed_by_another_is_refused(memory: World, hand: Hand, tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        wires = await two_runs(client, memory)
        for chosen in (Range(), Runs("one")):
            data = export(tmp_path / "whole", hand, wires, chosen).read_bytes()
            refused(data, hand, tmp_path / "changed")
        other = Hand(tmp_path / "other.pem")
        with pytest.raises(BundleRefused, match="which is not one of those given"):
            verify_bundle(tmp_path / "whole", other.keys)

    def refused(data: bytes, hand: Hand, place: Path) -> None:
        lines = data.splitlines(keepends=True)
        last = len(data) - len(lines[-1])
        for at in [*range(0, last, 211), *range(last, len(data))]:
            place.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            line = data.count(b"\n", 0, at) + 1
            with pytest.raises(BundleRefused, match=rf"line {line}\b|line {line + 1}\b"):
                verify_bundle(place, hand.keys)
        for number in range(len(lines)):
            place.write_bytes(b"".join(lines[:number]))
            with pytest.raises(BundleRefused, match=r"cut|empty"):
                verify_bundle(place, hand.keys)
            place.write_bytes(b"".join([*lines[:number], *lines[number + 1 :]]))
            with pytest.raises(BundleRefused, match=rf"line {number + 1}\b|cut"):
                verify_bundle(place, hand.keys)
        place.write_bytes(data[:-1])
        with pytest.raises(BundleRefused, match=f"line {len(lines)}: the file was cut"):
            verify_bundle(place, hand.keys)
        place.write_bytes(data + b"\n")
        with pytest.raises(BundleRefused, match=f"line {len(lines) + 1}"):
            verify_bundle(place, hand.keys)

    memory.run(app, scenario)


@pytest.mark.contract("audit-export")
def test_a_liar_with_the_right_key_is_found_by_the_chains(memory: World, hand: Hand, tmp_path: Path) -> None:
    """Whoever exports may sign anything: what is not what the engine wrote shows in roots, chains and heads."""

    async def scenario(client: Client) -> None:
        wires = await two_runs(client, memory)
        (number, log) = next((n, log) for n, log in wires.items() if any(wire.key == b"one" for wire in log))
        at = next(at for at, wire in enumerate(log) if wire.key == b"one")
        for forged in ([*log[:at], *log[at + 1 :]], [*log[:at], *log[at : at + 1], *log[at:]]):
            found = verify_bundle(export(tmp_path / "lie", hand, {number: forged}, Range()), hand.keys)
            assert [finding.kind for finding in found.audit.findings] == ["gap"]
        whole = export(tmp_path / "one", hand, {number: log}, Runs("one"))
        lines = [json.loads(line) for line in whole.read_text().splitlines()]
        records = [at for at, line in enumerate(lines) if line["kind"] == "record"]
        for gone in records[:-1]:
            with (tmp_path / "lie").open("wb") as file:
                writer = BundleWriter(file)
                for one in [*lines[:gone], *lines[gone + 1 : -1]]:
                    writer.line(one["kind"], {key: one[key] for key in one if key not in ("kind", "sum")})
                writer.sign(hand.signer, 1)
            assert not verify_bundle(tmp_path / "lie", hand.keys).ok

    memory.run(app, scenario)
