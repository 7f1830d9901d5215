"""The floor: one lane-alternating, gated transaction of a step's record count and bytes. Imports confluent_kafka only.

Gated: the next batch is produced at once, and its commit is sent when the previous batch's last record was read back.
"""

import argparse
import json
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

WAIT_S = 30


def measure(bootstrap: str, topic: str, n: int, sizes: list[int], lanes: int = 2, warm: int = 200) -> list[float]:
    """Milliseconds of each of `n` transactions, after `warm`: one record a size, on partition 0 of `topic`."""
    name = f"floor-{uuid.uuid4().hex}"
    fast = {"bootstrap.servers": bootstrap, "linger.ms": 0, "retry.backoff.ms": 1, "retry.backoff.max.ms": 5}
    producers = [Producer({**fast, "transactional.id": f"{name}.{lane}"}) for lane in range(lanes)]
    for producer in producers:
        producer.init_transactions(WAIT_S)
    tail = Consumer({"bootstrap.servers": bootstrap, "group.id": name, "isolation.level": "read_committed"})
    tail.assign([TopicPartition(topic, 0, tail.get_watermark_offsets(TopicPartition(topic, 0), WAIT_S)[1])])
    took: list[float] = []
    try:
        for batch in range(warm + n):
            producer, start = producers[batch % lanes], time.perf_counter()
            producer.begin_transaction()
            for size in sizes:
                producer.produce(topic, bytes(size), key=f"{name}.{batch}", partition=0)
            if producer.flush(WAIT_S):
                raise SystemExit(f"{topic}: the broker did not take a batch within {WAIT_S} s")
            left = len(sizes) if batch else 0
            while left:
                message = tail.poll(WAIT_S)
                if message is None or message.error():
                    raise SystemExit(f"{topic}: batch {batch - 1} was not read back: {message and message.error()}")
                left -= message.key() == f"{name}.{batch - 1}".encode()
            producer.commit_transaction(WAIT_S)
            took.append((time.perf_counter() - start) * 1000)
    finally:
        tail.close()
    return took[warm:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic", help="an existing topic; partition 0 is used")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--records", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=900, help="of all records of a transaction together")
    given = parser.parse_args()
    times = sorted(measure(given.bootstrap, given.topic, given.n, [given.bytes // given.records] * given.records))
    print(json.dumps({"floor_ms_p50": times[len(times) // 2], "floor_ms_p99": times[len(times) * 99 // 100]}))
