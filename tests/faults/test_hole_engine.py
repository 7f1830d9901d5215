"""The engine in the hole of design.md §4: a delayed EndTxn ends the engine's next transaction of that lane half-way.

Its clients go through the proxy. Nothing is lost, nothing happens twice, half a batch is void and followed by a claim.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

import pytest

from orchestrator import Orchestrator
from orchestrator.core import commands as c
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.lanes import KafkaLanes
from orchestrator.log.ports import Fenced
from tests.engine.rig import KafkaSite, Rig
from tests.faults.kafka_proxy import END_TXN, Rule
from tests.faults.proxied import Proxied
from tests.oracle.oracle import Evidence, Expected, LoadModel, SentSignal, check, replies_of

pytestmark = pytest.mark.broker
SETTLE_S = 5.0
SIGNALS = 6


class Script:
    """Which lane the held EndTxn belongs to, and what happens half-way through that lane's next batch."""

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.lane = ""
        self.half_way: Callable[[], None] | None = None
        self.split = 0


class HoleLanes(KafkaLanes):
    """Lanes whose batch is produced in two parts when the script says so, as a large turn's is."""

    script: Script

    def begin(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        act = self.script.half_way
        if act is None or self._name() != self.script.lane:
            super().begin(records)
            return
        self.script.half_way = None
        super().begin(records[:1])
        act()
        self.script.split += 1
        producer = self._producer()
        problems: list[object] = []
        for key, value in records[1:]:
            producer.produce(
                self._topic, value, key, self._partition, on_delivery=lambda error, _: problems.append(error)
            )
        producer.flush(15)
        if any(problems):
            raise Fenced(f"lane {self._name()}: {problems}")

    def commit(self) -> None:
        lane, rule = self._name(), self.script.rule
        super().commit()
        if rule is not None and rule.applied.is_set() and not self.script.lane:
            self.script.lane = lane


class HoleSite(KafkaSite):
    """Callers reach the broker directly, the engine through the proxy."""

    def __init__(self, app: str, direct: str, proxied: str) -> None:
        super().__init__(app, direct, 1)
        self.script = Script()
        self._proxied = LogConfig(app, proxied, assignment=(0,))

    def log(self, app: str) -> KafkaLog:
        script = self.script

        class HoleLog(KafkaLog):
            def lanes(self, partition: int) -> KafkaLanes:
                lanes = HoleLanes(self._config, partition)
                lanes.script = script
                return lanes

        return HoleLog(self._proxied)


def application(name: str) -> Orchestrator:
    """Runs that add up their signals."""
    app = Orchestrator(name)
    go = app.signal("go", int)

    @app.workflow(name="listen")
    async def listen(n: int) -> int:
        return sum([await go.wait() for _ in range(n)])

    return app


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_delayed_end_of_a_transaction_costs_the_engine_nothing(end: str, stage: Proxied) -> None:
    """The engine sends no aborts: the delayed one is its own commit, turned into one on the way."""
    proxy = stage.proxy
    app = application(f"hole-{uuid.uuid4().hex[:6]}")
    site = HoleSite(app.name, stage.direct, stage.proxied)
    rig = Rig(app, site)
    try:
        rig.engine()
        code = app.registry.workflow("listen", 0)
        assert code is not None
        rig.accepted("w", c.StartWorkflow("listen", code.signature.bind((SIGNALS,), {})))
        sent = [rig.signal("w", "go", b"1")]
        site.script.rule = proxy.add(Rule(END_TXN, "hold"))
        sent.append(rig.signal("w", "go", b"2"))
        assert site.script.lane, "no commit of the engine was held"
        if end == "abort":
            held = proxy._held[0]
            assert held.frame[-1] == 1, "the held request is not the commit of an EndTxn v1"
            held.frame = held.frame[:-1] + b"\x00"

        def half_way() -> None:
            proxy.release()
            deadline = time.monotonic() + SETTLE_S
            while site.open_transactions(f"{app.name}.events"):
                assert time.monotonic() < deadline, "the delayed request ended nothing: is the hole shut?"

        site.script.half_way = half_way
        for value in range(3, SIGNALS + 1):
            sent.append(rig.signal("w", "go", str(value).encode()))
        total = sum(range(1, SIGNALS + 1))
        assert int(rig.result("w")) == total
        rig.engines[0].stop()
        assert site.script.split == 1, "no batch met the delayed request"
        verdict = check(
            rig.records("events"),
            rig.records("events", committed=False),
            LoadModel({"w": Expected(total, signals=[SentSignal(one) for one in sent])}, rig.acked),
            Evidence(rig.records("commands"), replies_of(raw for p in rig.records("replies").values() for raw in p)),
        )
    finally:
        rig.close()
    assert not verdict.anomalies, verdict.text()
    assert verdict.totals["claims"] == 2, "the torn batch was not noticed"
    assert verdict.totals["void_batches"] == (end == "commit")
    assert not site.open_transactions(f"{app.name}.events")
