"""Growth under load with commits that fail: the oracle, which knows no epochs, finds nothing lost or doubled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.core.apply.fold import Settings
from orchestrator.projections.audit import AuditOptions, verify
from orchestrator.store.rows import state_hash
from orchestrator.testing.memory_cluster import COMMITTED
from tests.engine.rig import Rig
from tests.engine.test_routing_epochs import app, collects, grow
from tests.oracle.oracle import Evidence, Expected, LoadModel, SentSignal, StatePosition, check, replies_of
from tests.projections.test_audit_engine import failing

pytestmark = pytest.mark.slow

Make = Callable[..., Rig]


@pytest.mark.parametrize("every", [0, 7])
def test_nothing_is_lost_or_doubled_across_a_growth(rig: Make, every: int) -> None:
    one = rig(app, 2)
    engine = one.engine()
    counts = ((2, 5), (2, 5, 7))
    signals: dict[str, list[SentSignal]] = {}
    started: list[str] = []

    def start(name: str, total: int) -> None:
        one.start(name, collects, total)
        signals[name] = []
        started.append(name)

    def signal(name: str) -> None:
        signals[name].append(SentSignal(one.signal(name, "go", b"1")))

    for number in range(6):
        start(f"a{number}", 3)
        signal(f"a{number}")
    for epochs in counts:
        one.cluster.on_commit = lambda name: ""
        grow(one, epochs[-2], epochs[-1], epochs)
        one.cluster.on_commit = failing(every)
        for name in started:
            if len(signals[name]) < 3:
                signal(name)
        for number in range(6):
            start(f"b{epochs[-1]}-{number}", 2)
            signal(f"b{epochs[-1]}-{number}")
    for name in started:
        wanted = 3 if name.startswith("a") else 2
        while len(signals[name]) < wanted:
            signal(name)
        assert one.result(name) == b"[" + b",".join([b"2"] * wanted) + b"]"
    one.cluster.on_commit = lambda name: ""
    engine.stop(5.0)

    logs = one.cluster.topics[f"{app.name}.events"].partitions
    audited = verify(
        {n: [[entry.wire for entry in log.entries if entry.state == COMMITTED]] for n, log in enumerate(logs)},
        one.codec,
        AuditOptions(state_hash=lambda n: state_hash(one.stores[n]), settings=Settings(app.name)),
    )
    assert audited.ok, audited.findings
    assert {part.state for part in audited.partitions.values()} == {"equal"}
    heads = {n: StatePosition(p.head_offset + 1, p.head_hash) for n, p in audited.partitions.items() if p.batches}
    expected = {name: Expected([2] * len(sent), len(sent), "completed", tuple(sent)) for name, sent in signals.items()}
    verdict = check(
        one.records("events"),
        one.records("events", committed=False),
        LoadModel(expected, one.acked),
        Evidence(one.records("commands"), replies_of(one.records("replies")[0]), state=heads),
    )
    assert not verdict.anomalies, verdict.text()
    assert verdict.totals["completed"] == len(signals)
    if every:
        assert verdict.totals["claims"] > 3 * 7, "no commit failed: the test shows nothing"
