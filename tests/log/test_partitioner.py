"""murmur2 against the vectors of the Java client's own tests: a producer in any language finds the same partition."""

from __future__ import annotations

import random

import pytest

from orchestrator.log.partitioner import murmur2, partition_of

# org.apache.kafka.common.utils.UtilsTest: signed 32-bit results.
VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("text", "signed"), VECTORS.items())
def test_the_hash_is_javas(text: str, signed: int) -> None:
    assert murmur2(text.encode()) == signed % 2**32


@pytest.mark.parametrize(("text", "signed"), VECTORS.items())
def test_the_partition_is_javas(text: str, signed: int) -> None:
    # Utils.toPositive clears the sign bit; it is not the absolute value.
    assert partition_of(text.encode(), 16) == (signed & 0x7FFFFFFF) % 16


def test_librdkafka_agrees(rng: random.Random) -> None:
    """The same algorithm in C, by way of the client that the projects of others use."""
    from confluent_kafka import murmur2 as by_librdkafka

    for _ in range(200):
        key = rng.randbytes(rng.randrange(0, 40))
        assert partition_of(key, 16) == by_librdkafka(key, 16)
