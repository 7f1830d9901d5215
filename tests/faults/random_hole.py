"""The hole by chance: requests of transactions are delayed at random under naive loops and under the engine.

`python -m tests.faults.random_hole --minutes 5 --seed N`. Behind one proxy are loops as librdkafka's manual has them,
and an engine. EndTxn, AddPartitionsToTxn and Produce, or their answers, are late, and EndTxn also arrives when its
connection was given up long ago. The loops commit and abort, and add a second topic or a group's offsets late. For
each loop the books say what was committed; the engine is judged by the oracle. The engine sends each batch in two
parts, with a pause between them, as a large turn would be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from orchestrator.log.kafka_log import KafkaLog
from orchestrator.log.lanes import KafkaLanes
from orchestrator.log.ports import Fenced
from tests.faults.cross import Crossed, ProxiedSite
from tests.faults.kafka_proxy import ADD_PARTITIONS, END_TXN, NAMES, PRODUCE, Chaos
from tests.faults.naive_loop import NaiveLoop, make_topics, visible
from tests.faults.proxied import Proxied, proxied_broker

PARTS_S = 0.15
"""At most so long between the parts of a batch."""
HANGS_S = 20.0
"""librdkafka may never come back from `send_offsets_to_transaction` (2.16): such a loop is counted and left alone."""
ACTIONS = ("late", "late", "delay", "delay_answer")
AT_ONCE = 12
"""Runs of the engine under way."""


class Books:
    """One naive loop, what it was told of each batch, and what is visible in the end."""

    def __init__(self, stage: Proxied, seed: str, offsets: bool) -> None:
        self._stage, self._rng, self._offsets = stage, random.Random(seed), offsets
        self._topics = make_topics(stage.direct, 2)
        self._told: dict[str, bool] = {}
        """By record: whether its batch was committed. What nobody was told of is in neither state."""
        self.counts: Counter[str] = Counter()

    def run(self, over: threading.Event) -> None:
        """Batch after batch; a loop that fails begins again under the same transactional id."""
        name = uuid.uuid4().hex
        consumer = Consumer({"bootstrap.servers": self._stage.direct, "group.id": name})
        consumer.assign([TopicPartition(self._topics[0], 0, 0)])
        while not over.is_set():
            with contextlib.suppress(KafkaException, AssertionError):
                loop = NaiveLoop(self._stage.proxied, name)
                while not over.is_set() and self._batch(loop, consumer):
                    pass
                loop.close()
        consumer.close()

    def _batch(self, loop: NaiveLoop, consumer: Consumer) -> bool:
        """One batch; whether the loop may go on."""
        rng, number = self._rng, self.counts["batches"]
        self.counts["batches"] += 1
        first, second = self._topics
        early = [(first, f"{number}.{part}") for part in range(rng.randint(1, 3))]
        late = [(rng.choice((first, second)), f"{number}.late")] if rng.random() < 0.7 else []
        loop.open(early)
        time.sleep(rng.uniform(0, PARTS_S))
        if late:
            loop.add(late)
        if self._offsets and rng.random() < 0.3:
            loop.offsets(consumer, [TopicPartition(first, 0, number)])
        gives_up = rng.random() < 0.4
        if gives_up:
            loop.abort()
        committed = not gives_up and loop.commit()
        self.counts["committed" if committed else "aborted" if gives_up else "refused"] += 1
        self._told.update(dict.fromkeys((value for _, value in early + late), committed))
        return committed or gives_up

    def settle(self) -> None:
        """Count what the books and the topics do not agree on."""
        seen = Counter(value for topic in self._topics for value in visible(self._stage.direct, topic))
        self.counts["lost"] += sum(committed and not seen[value] for value, committed in self._told.items())
        self.counts["aborted_read"] += sum(not committed and seen[value] for value, committed in self._told.items())
        self.counts["duplicated"] += sum(count > 1 for count in seen.values())


class _SplitLanes(KafkaLanes):
    """Lanes that send a batch in two parts."""

    rng: random.Random

    def begin(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        super().begin(records[:1])
        if len(records) == 1:
            return
        time.sleep(self.rng.uniform(0, PARTS_S))
        producer, problems = self._producer(), list[object]()
        try:
            for key, value in records[1:]:
                producer.produce(
                    self._topic, value, key, self._partition, on_delivery=lambda error, _: problems.append(error)
                )
            problems.append(producer.flush(15))
        except (KafkaException, BufferError) as error:
            raise Fenced(str(error)) from error
        if any(problems):
            raise Fenced(f"lane {self._name()}: {problems}")


class _SplitSite(ProxiedSite):
    """The engine's lanes are split."""

    def __init__(self, app: str, stage: Proxied, seed: str) -> None:
        super().__init__(app, stage)
        self._rng = random.Random(seed)

    def log(self, app: str) -> KafkaLog:
        rng = self._rng

        class SplitLog(KafkaLog):
            def lanes(self, partition: int) -> KafkaLanes:
                lanes = _SplitLanes(self._config, partition)
                lanes.rng = rng
                return lanes

        return SplitLog(self._proxied)


def campaign(stage: Proxied, seed: int, seconds: float, chance: float = 0.2, loops: int = 6) -> dict[str, object]:
    """Delay for so long, heal, let everything end, judge."""
    before = stage.proxy.counts.copy()
    books = [Books(stage, f"{seed}/{number}", number % 3 == 2) for number in range(loops)]
    over = threading.Event()
    threads = [threading.Thread(target=one.run, args=(over,), name="naive", daemon=True) for one in books]
    load = Crossed(stage, "", lambda app: _SplitSite(app, stage, f"{seed}/engine"))
    try:
        load.restart()
        stage.proxy.chaos = Chaos(seed, (END_TXN, ADD_PARTITIONS, PRODUCE), chance, ACTIONS)
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            load.more(AT_ONCE)
            load.settle()
        stage.proxy.heal()
        over.set()
        load.more(1)
        load.settle()
        for thread in threads:
            thread.join(HANGS_S)
        load.engines[-1].stop(1.0)
        verdict = load.verdict()
    finally:
        stage.proxy.heal()
        over.set()
        load.close()
    for one in books:
        one.settle()
    fired = stage.proxy.counts - before
    naive: Counter[str] = sum((one.counts for one in books), Counter())
    return {
        "seed": seed,
        "delays": sum(fired.values()),
        "by_request": {f"{NAMES[api]} {action}": count for (api, action), count in sorted(fired.items())},
        "naive": {name: naive[name] for name in (*KINDS, "lost", "aborted_read", "duplicated")},
        "naive_hung": sum(thread.is_alive() for thread in threads),
        "engine": {
            "runs": len(load.expected),
            "lost": verdict.lost,
            "duplicated": verdict.duplicated,
            "anomalies": [f"{one.name}: {one.where}: {one.detail}" for one in verdict.anomalies[:10]],
            **{name: verdict.totals[name] for name in ("batches", "claims", "void_batches", "void_events")},
        },
        "sound": not verdict.anomalies,
    }


KINDS = ("batches", "committed", "aborted", "refused")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--chance", type=float, default=0.2, help="of each request to be delayed")
    parser.add_argument("--loops", type=int, default=6, help="naive loops")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    print(f"seed {options.seed}", file=sys.stderr)
    with proxied_broker() as stage:
        found = campaign(stage, options.seed, options.minutes * 60, options.chance, options.loops)
    print(json.dumps(found))
    return 0 if found["sound"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
