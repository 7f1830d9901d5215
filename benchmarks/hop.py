"""A bare hop: one record produced in a transaction, committed, and read by a read_committed consumer."""

import argparse
import json
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

WAIT_S = 30


def measure(bootstrap: str, topic: str, n: int, size: int, lanes: int = 2, warm: int = 200) -> list[float]:
    """Milliseconds from begin to the record in the reader's hands, of each of `n` hops after `warm`, lanes in turn."""
    name = f"hop-{uuid.uuid4().hex}"
    fast = {"bootstrap.servers": bootstrap, "linger.ms": 0, "retry.backoff.ms": 1, "retry.backoff.max.ms": 5}
    producers = [Producer({**fast, "transactional.id": f"{name}.{lane}"}) for lane in range(lanes)]
    for producer in producers:
        producer.init_transactions(WAIT_S)
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": name, "isolation.level": "read_committed"})
    reader.assign([TopicPartition(topic, 0, reader.get_watermark_offsets(TopicPartition(topic, 0), WAIT_S)[1])])
    took: list[float] = []
    try:
        for hop in range(warm + n):
            producer, start = producers[hop % lanes], time.perf_counter()
            producer.begin_transaction()
            producer.produce(topic, bytes(size), key=f"{name}.{hop}", partition=0)
            producer.commit_transaction(WAIT_S)
            arrived = False
            while not arrived:
                message = reader.poll(WAIT_S)
                if message is None or message.error():
                    raise SystemExit(f"{topic}: hop {hop} did not arrive: {message and message.error()}")
                arrived = message.key() == f"{name}.{hop}".encode()
            took.append((time.perf_counter() - start) * 1000)
    finally:
        reader.close()
    return took[warm:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic", help="an existing topic; partition 0 is used")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=300)
    given = parser.parse_args()
    times = sorted(measure(given.bootstrap, given.topic, given.n, given.bytes))
    print(json.dumps({"hop_ms_p50": times[len(times) // 2], "hop_ms_p99": times[len(times) * 99 // 100]}))
