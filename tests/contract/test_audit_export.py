"""Bundles: signed, verified offline, refused where a byte is another."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from orchestrator import Client
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core.tasks import Anchor
from orchestrator.errors import BundleRefused
from orchestrator.log.ports import Out, Wire
from orchestrator.projections.bundle import BundleWriter
from orchestrator.projections.bundle_export import Exporter, Range, Runs
from orchestrator.projections.bundle_verify import verify_bundle
from orchestrator.store.blobs import Blobs
from tests.contract.forced import KeptBack, home, recorded
from tests.contract.test_audit import CODEC, app, footers, go, measures, wires_of, work
from tests.contract.world import KafkaGround, MemoryGround, World
from tests.projections.test_bundle_kit import alone

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


def export(
    path: Path, hand: Hand, wires: dict[int, list[Wire]], chosen: Runs | Range, blobs: Blobs | None = None
) -> Path:
    with path.open("wb") as file:
        writer = BundleWriter(file)
        scope = {"kind": "runs" if isinstance(chosen, Runs) else "batches", **chosen._asdict()}
        ids = {"cluster_id": "cluster", "commands_id": "commands", "events_id": "events"}
        exporter = Exporter(writer, CODEC)
        for number, found in wires.items():
            if isinstance(chosen, Runs):
                exporter.runs(number, [found], chosen)
            else:
                exporter.batches(number, [found], chosen)
        exporter.anchors(_heads(hand, wires))
        if blobs is not None:
            exporter.blobs(blobs)
        beside = {"blobs": "left out" if blobs is None else "included", "absent_blobs": exporter.absent}
        manifest = {"app": app.name, **ids, "scope": scope, **beside, **exporter.heads(), **exporter.schemas()}
        writer.seal(manifest, hand.signer, 1_700_000_000_000)
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
    """The log of two runs, of which one has a secret. In one partition they lie among each other."""
    handles = [await client.start(work.options(id=name), x) for name, x in (("one", 3), ("other", 123_456_789))]
    for handle in handles:
        await handle.signal(go, 4)
        await handle.result()
    await world.end()
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
        with zipfile.ZipFile(bundle) as opened:
            names = [name for name in opened.namelist() if name.startswith("records/")]
            kept = [json.loads(line) for name in names for line in opened.read(name).splitlines()]
        values = b"".join(base64.b64decode(row["value"]) for row in kept if "value" in row)
        assert any(wire.key == b"other" for log in wires.values() for wire in log)
        assert b"123456789" not in values
        assert b"other" not in values

    world.run(app, scenario)


@pytest.mark.contract("audit-export")
@pytest.mark.usefixtures("held")
def test_of_what_lies_in_a_run_s_batches_the_hashes_are_kept(world: World, hand: Hand, tmp_path: Path) -> None:
    """Two runs start in one batch. Of the other its hashes stay: they are in what the footer is checked by."""
    other = next(name for name in (f"other-{n}" for n in range(99)) if home(world, name) == home(world, "one"))

    async def scenario(client: Client) -> None:
        async with KeptBack(world, "one") as kept:
            starts = []
            for name, x in (("one", 3), (other, 123_456_789)):
                starts.append(asyncio.create_task(client.start(work.options(id=name), x)))
                await kept.has(name, 1)
        for handle in await asyncio.gather(*starts):
            await handle.signal(go, 4)
            await handle.result()
        assert recorded(world, "one")[0][0] == recorded(world, other)[0][0], "in one batch"
        await world.end()
        bundle = export(tmp_path / "one", hand, wires_of(world, app), Runs("one"))
        found = verify_bundle(bundle, hand.keys)
        assert found.ok, found.audit.findings
        with zipfile.ZipFile(bundle) as opened:
            kept_rows = [json.loads(line) for line in opened.read(f"records/{home(world, 'one')}.jsonl").splitlines()]
        assert {"offset", "hash"} in [set(row) for row in kept_rows]
        assert b"123456789" not in b"".join(base64.b64decode(row["value"]) for row in kept_rows if "value" in row)

    world.run(app, scenario)


def leave_open(world: World, workflow_id: str) -> None:
    """An event of a workflow at the end of a log whose owners have ended, without a footer: void before the next claim.

    It is as the last owner would have begun its next batch.
    """
    topic, number = f"{app.name}.events", home(world, workflow_id)
    wires = wires_of(world, app)[number]
    last = CODEC.decode_event(wires[-1].key, wires[-1].value).event
    mine = [event for _, event in recorded(world, workflow_id)][-1]
    next_batch = last.batch_no + 1
    wire = CODEC.seal(mine._replace(claim_no=last.claim_no, batch_no=next_batch, batch_index=0, seq=mine.seq + 1))
    if isinstance(world.ground, MemoryGround):
        assert world.ground.cluster.send(Out(topic, number, wire.key, wire.value)) == ""
        return
    assert isinstance(world.ground, KafkaGround)
    producer = Producer({"bootstrap.servers": world.ground.config.bootstrap})
    producer.produce(topic, wire.value, wire.key, number)
    assert producer.flush(30) == 0


@pytest.mark.contract("audit-export")
def test_what_engines_wrote_verifies_without_the_package(world: World, hand: Hand, tmp_path: Path) -> None:
    """Every partition claimed twice, what is void between two claims, and a value beside the log."""

    async def scenario(client: Client) -> None:
        first = await client.start(work.options(id="one"), 3)
        large = await client.start(measures.options(id="large"), "x" * 100_000)
        assert await large.result() == 200_000
        async with world.down():
            await asyncio.to_thread(leave_open, world, "one")
        await first.signal(go, 4)
        assert await first.result() == 20
        await world.end()
        wires = wires_of(world, app)
        for chosen in (Range(), Runs("one"), Runs("large")):
            bundle = export(tmp_path / "bundle", hand, wires, chosen, world.blobs)
            found = verify_bundle(bundle, hand.keys)
            assert found.ok, found.audit.findings
            if isinstance(chosen, Range):
                parts = found.audit.partitions
                assert min(part.claims for part in parts.values()) >= 2
                assert sum(part.void_events for part in parts.values()) == 1
            blobs = [name for name in contents(bundle) if name.startswith("blobs/")]
            assert len(blobs) == (chosen != Runs("one"))
            done = alone(bundle, tmp_path / "exporter.pem")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "nothing was found" in done.stdout
            assert ("complete up to head" in done.stdout) >= isinstance(chosen, Range), (
                "the head is that of the whole log"
            )

    world.run(app, scenario, blobs="engines")


@pytest.mark.contract("audit-export")
def test_what_was_changed_cut_or_signed_by_another_is_refused(memory: World, hand: Hand, tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        wires = await two_runs(client, memory)
        for chosen in (Range(), Runs("one")):
            files_changed(export(tmp_path / "whole", hand, wires, chosen), hand, tmp_path / "changed")
            bytes_changed((tmp_path / "whole").read_bytes(), hand, tmp_path / "changed")
        other = Hand(tmp_path / "other.pem")
        with pytest.raises(BundleRefused, match="which is not one of those given"):
            verify_bundle(tmp_path / "whole", other.keys)

    memory.run(app, scenario)


def files_changed(whole: Path, hand: Hand, place: Path) -> None:
    """A file of the ZIP that has another byte, is gone, is new, or there twice, with everything around it in order."""
    files = contents(whole)
    for name, data in files.items():
        if data:
            rezip(place, {**files, name: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]})
            with pytest.raises(BundleRefused, match=re.escape(name.removesuffix(".sig"))):
                verify_bundle(place, hand.keys)
        rezip(place, {other: files[other] for other in files if other != name})
        with pytest.raises(BundleRefused, match=re.escape(name)):
            verify_bundle(place, hand.keys)
    rezip(place, {**files, "records/9.jsonl": b""})
    with pytest.raises(BundleRefused, match=r"records/9.jsonl is not one of the files"):
        verify_bundle(place, hand.keys)


def bytes_changed(data: bytes, hand: Hand, place: Path) -> None:
    """A byte of the file itself: refused, or none of what is signed."""
    place.write_bytes(data)
    files = contents(place)
    for at in range(0, len(data), 211):
        place.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            verify_bundle(place, hand.keys)
        except BundleRefused:
            continue
        assert contents(place) == files, f"byte {at} counts and was not noticed"
    for end in range(0, len(data) - 1, 499):
        place.write_bytes(data[:end])
        with pytest.raises(BundleRefused, match=r"changed or cut|no bundle"):
            verify_bundle(place, hand.keys)


def contents(bundle: Path) -> dict[str, bytes]:
    """The files of a ZIP."""
    with zipfile.ZipFile(bundle) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def rezip(place: Path, files: dict[str, bytes]) -> None:
    """A ZIP of these files."""
    with zipfile.ZipFile(place, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)


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
        files = contents(whole)
        name = f"records/{number}.jsonl"
        rows = files[name].splitlines(keepends=True)
        records = [at for at, row in enumerate(rows) if b'"key"' in row]
        for gone in records[:-1]:
            resigned(tmp_path / "lie", {**files, name: b"".join([*rows[:gone], *rows[gone + 1 :]])}, hand)
            assert not verify_bundle(tmp_path / "lie", hand.keys).ok

    memory.run(app, scenario)


def resigned(place: Path, files: dict[str, bytes], hand: Hand) -> None:
    """A ZIP of these files with a manifest to match, signed by the hand that may."""
    told = json.loads(files["manifest.json"])
    others = {name: data for name, data in files.items() if not name.startswith("manifest.json")}
    told["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in others.items()}
    text = json.dumps(told).encode()
    rezip(place, {**others, "manifest.json": text, "manifest.json.sig": hand.signer.sign_file(text).encode()})
