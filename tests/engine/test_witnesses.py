"""A start behind a witness parks the partition; heads are signed, and nothing about that can hold a partition up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core.tasks import Anchor
from orchestrator.core.values import Actor
from orchestrator.core.witness import read_note
from orchestrator.engine.options import AnchorOptions, EngineOptions
from orchestrator.engine.partition import State
from orchestrator.engine.repair import Acceptance, Repairer
from orchestrator.engine.run import Engine
from orchestrator.log.partitioner import partition_of
from orchestrator.store.memory_store import MemoryStore
from orchestrator.testing.memory_cluster import PartitionLog
from tests.engine.rig import MemorySite, Rig, until

Make = Callable[[Orchestrator], Rig]
WORKFLOW = "w"
NUMBER = partition_of(WORKFLOW.encode(), 2)

app = Orchestrator("witnessed")


@app.step
async def add(x: int) -> int:
    """One step."""
    return x + 1


@app.workflow
async def adds(x: int) -> int:
    """Four steps."""
    for _ in range(4):
        x = await add(x)
    return x


def worked(rig: Make) -> Rig:
    """A run was done, and the engine is gone."""
    one = rig(app)
    engine = one.engine()
    one.start(WORKFLOW, adds, 0)
    one.result(WORKFLOW)
    engine.stop(1.0)
    return one


def events_of(one: Rig) -> PartitionLog:
    return one.cluster.partition(f"{app.name}.events", NUMBER)


def footers(log: PartitionLog) -> list[int]:
    """Indices of the footers."""
    return [index for index, entry in enumerate(log.entries) if entry.wire.key == b"\x00footer"]


def parked(engine: Engine) -> str:
    """What the partition says once it is parked."""
    deadline = time.monotonic() + 10
    while NUMBER not in engine.partitions or engine.partitions[NUMBER].state is not State.PARKED:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return engine.partitions[NUMBER].problem


class TestAStartBehindAWitness:
    """The tail is cut where the broker's files are; the topic is the same."""

    def test_group_offsets_witness_what_no_directory_does(self, rig: Make) -> None:
        one = worked(rig)
        log = events_of(one)
        del log.entries[footers(log)[-3] + 2 :]
        problem = parked(one.engine(stores={}))
        assert "the log was cut" in problem
        assert "group offset" in problem

    def test_an_empty_log_with_a_note_was_cut(self, rig: Make) -> None:
        one = worked(rig)
        events_of(one).entries.clear()
        assert "the log was cut" in parked(one.engine(stores={}))

    def test_a_rewritten_tail_is_not_the_one_that_was_noted(self, rig: Make) -> None:
        one = worked(rig)
        assert isinstance(one.site, MemorySite)
        offset, note = one.site.group.offsets[NUMBER]
        place, _ = note.split()
        one.site.group.offsets[NUMBER] = (offset, f"{place} {'77' * 32}")
        assert "rewritten" in parked(one.engine(stores={}))

    def test_the_state_directory_witnesses_the_end(self, rig: Make) -> None:
        one = worked(rig)
        assert isinstance(one.site, MemorySite)
        one.site.group.offsets.clear()
        log = events_of(one)
        del log.entries[footers(log)[-2] + 2 :]
        assert "it was cut or replaced" in parked(one.engine())

    def test_the_state_directory_witnesses_its_footer(self, rig: Make) -> None:
        one = worked(rig)
        log = events_of(one)
        last, other = footers(log)[-1], footers(log)[-2]
        entry = log.entries[last]
        entry.wire = entry.wire._replace(value=log.entries[other].wire.value)
        assert "not the footer that the state was folded from" in parked(one.engine())

    @pytest.mark.parametrize("cut_claims", [False, True])
    def test_a_person_may_accept_the_log_as_it_is(self, rig: Make, cut_claims: bool) -> None:
        one = worked(rig)
        assert isinstance(one.site, MemorySite)
        if cut_claims:
            one.engine().stop(1.0)
        log = events_of(one)
        del log.entries[footers(log)[1] + 2 :]
        engine = one.engine(stores={})
        parked(engine)
        engine.stop(1.0)
        noted = read_note(one.site.group.offsets[NUMBER][1])
        assert noted is not None
        port = one.site.log(app.name)
        stores = {NUMBER: MemoryStore(one.codec)}
        repairer = Repairer(port, stores[NUMBER], one.codec, NUMBER, lambda: MemoryStore(one.codec))
        assert "the log was cut" in repairer.accept(Acceptance(Actor("person", "p"), "why")).wrong
        assert repairer.examine().is_none
        port.close()
        one.engine(stores=stores)
        assert one.result(WORKFLOW) == b"4"
        claims = {event.claim_no for event in one.events(WORKFLOW)}
        assert max(claims) > noted.batch.claim_no, "no batch number is used twice"

    def test_without_a_witness_it_is_a_valid_prefix(self, rig: Make) -> None:
        one = worked(rig)
        assert isinstance(one.site, MemorySite)
        one.site.group.offsets.clear()
        log = events_of(one)
        del log.entries[footers(log)[-3] + 2 :]
        engine = one.engine(stores={})
        deadline = time.monotonic() + 10
        while NUMBER not in engine.partitions or engine.partitions[NUMBER].state is not State.OWNED:
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key's file."""
    path = tmp_path / "anchor.pem"
    generate(path)
    return path


def anchors(one: Rig) -> list[Anchor]:
    """The anchors topic, all of it signed with the one key."""
    return [one.codec.decode(record.value) for record in one.records("anchors")[0]]


class TestAnchors:
    """What an engine with a key tells of its heads."""

    def test_heads_are_signed_while_it_works_and_at_its_end(self, rig: Make, key: Path, tmp_path: Path) -> None:
        one = rig(app)
        signer, kept = Signer.load(key), tmp_path / "kept"
        engine = one.engine(EngineOptions(anchors=AnchorOptions(signer, kept, every_s=0.01)))
        one.start(WORKFLOW, adds, 0)
        one.result(WORKFLOW)
        until(lambda: bool(anchors(one)))
        assert engine.health().anchors == "ok"
        engine.stop(1.0)
        found = anchors(one)
        keys = PublicKeys.load([public_path(key)])
        assert {keys.verdict(anchor) for anchor in found} == {""}
        footer_of = {
            (number, batch.offset): batch.footer
            for number in range(2)
            for batch in one.batches()
            if not batch.is_claim and batch.footer.event.body.position.partition == number  # type: ignore[union-attr]
        }
        for anchor in found:
            footer = footer_of[anchor.partition, anchor.offset]
            assert (anchor.claim_no, anchor.batch_no) == (footer.event.claim_no, footer.event.batch_no)
            assert anchor.footer_hash == footer.hash
        last = {number: max(offset for at, offset in footer_of if at == number) for number in range(2)}
        assert {number: max(a.offset for a in found if a.partition == number) for number in range(2)} == last
        files = sorted(kept.rglob("*.anchor"))
        assert {one.codec.decode(file.read_bytes()).offset for file in files} == {anchor.offset for anchor in found}
        assert {file.stat().st_mode & 0o777 for file in files} == {0o444}

    def test_a_head_is_signed_after_so_many_batches(self, rig: Make, key: Path) -> None:
        one = rig(app)
        one.engine(EngineOptions(anchors=AnchorOptions(Signer.load(key), every_s=3_600, every_batches=2)))
        one.start(WORKFLOW, adds, 0)
        one.result(WORKFLOW)
        until(lambda: any(anchor.partition == NUMBER for anchor in anchors(one)))

    def test_a_lost_topic_is_told_and_stops_nobody(
        self, rig: Make, key: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        one = rig(app)
        one.cluster.delete(f"{app.name}.anchors")
        engine = one.engine(EngineOptions(anchors=AnchorOptions(Signer.load(key), every_s=0.01)))
        one.start(WORKFLOW, adds, 0)
        assert one.result(WORKFLOW) == b"4"
        until(lambda: "witnessed.anchors" in engine.health().anchors)
        assert engine.health().ready
        one.cluster.create(f"{app.name}.anchors", 1)
        one.start("another", adds, 0)
        until(lambda: engine.health().anchors == "ok")
        engine.stop(1.0)
        told = [record for record in caplog.records if "not witnessed" in record.getMessage()]
        assert [record.levelno for record in told] == [logging.WARNING], "said once"

    def test_a_directory_that_cannot_be_written_is_told(self, rig: Make, key: Path, tmp_path: Path) -> None:
        one = rig(app)
        blocked = tmp_path / "file"
        blocked.write_text("")
        engine = one.engine(EngineOptions(anchors=AnchorOptions(Signer.load(key), blocked, every_s=0.01)))
        one.start(WORKFLOW, adds, 0)
        assert one.result(WORKFLOW) == b"4"
        until(lambda: str(blocked) in engine.health().anchors)
        until(lambda: bool(anchors(one)))

    def test_without_a_key_nothing_is_signed(self, rig: Make) -> None:
        one = worked(rig)
        assert anchors(one) == []
        assert one.engines[0].health().anchors == "off"
