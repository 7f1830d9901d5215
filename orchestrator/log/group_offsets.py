"""What engines noted beside their group's offsets. Asked for by a consumer that is no member."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ..errors import KafkaUnavailable
from .config import LogConfig
from .rights import Need, lacks, refused, why

SLICE_S = 1.0


class GroupOffsets:
    """Offsets of the engines' group.

    Not by an admin client: one that hears NOT_COORDINATOR to this question ends its process by SIGSEGV, and one whose
    connection ends under it asks in vain from then on (librdkafka 2.16).
    """

    def __init__(self, config: LogConfig) -> None:
        self._config = config
        self._need = Need("Describe", "group", config.group)
        self._lock = threading.Lock()
        self._refusal = ""
        self._consumer = Consumer(config.consumer())

    def notes(self, partitions: Sequence[int], within_s: float) -> dict[int, str]:
        """The metadata of each partition's offset, where there is any. Raises KafkaUnavailable.

        Who may not see the group is told so only once, and by the way: the question itself would wait for ever.
        """
        topic, until = self._config.topic("commands"), time.monotonic() + within_s
        places = [TopicPartition(topic, number) for number in partitions]
        slice_s = SLICE_S
        while True:
            left_s = until - time.monotonic()
            try:
                found = self._consumer.committed(places, timeout=max(0.0, min(slice_s, left_s)))
            except KafkaException as error:
                self._look(error.args[0], last=left_s <= slice_s)
                slice_s *= 2
                continue
            for place in found:
                if place.error is not None:
                    self._look(place.error, last=True)
            self._refusal = ""
            return {place.partition: place.metadata for place in found if place.metadata}

    def _look(self, error: KafkaError, last: bool) -> None:
        """Raises KafkaUnavailable unless it is only late, and may be asked again."""
        with self._lock:
            while (message := self._consumer.poll(0)) is not None:
                told = message.error()
                if told is not None and refused(told):
                    self._refusal = lacks(self._config, self._need)
        late = error.code() in (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT)  # noqa: SLF001
        if last or self._refusal or not late:
            said = why(self._config, error, self._need)
            raise KafkaUnavailable(f"the offsets of group {self._config.group} cannot be read: {self._refusal or said}")

    def close(self) -> None:
        """End the consumer."""
        self._consumer.close()
