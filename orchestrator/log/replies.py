"""The reader of one partition of the replies topic, from its end on: a caller's, or an engine's that asks."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ..errors import KafkaUnavailable
from .config import LogConfig
from .connecting import connected
from .rights import lacks, on_topic

log = logging.getLogger(__name__)

ASK_S = 15.0
ELSEWHERE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION)
"""The log of replies is not what it was: cut by an election, or made anew."""


class KafkaReplies:
    """Hears one partition of `<app>.replies`, any of them, in a thread of its own."""

    def __init__(self, config: LogConfig, partitions: int, sink: Callable[[bytes], None]) -> None:
        """Returns when whatever is answered from now on will be heard. Raises KafkaUnavailable."""
        self.topic = config.topic("replies")
        self.partition = random.randrange(partitions)
        self._config = config
        self._sink = sink
        self._stopped = False
        consumer = Consumer(config.consumer(group_id=f"{config.app}.client", fetch_wait_max_ms=200))
        self._consumer = connected(consumer, self.topic)
        try:
            self._seek_to_end()
        except BaseException:
            self._consumer.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="replies", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stopped = True
        self._thread.join()
        self._consumer.close()

    def _seek_to_end(self) -> None:
        """From here on. A topic that was just made may have no leader yet: asked again until the time is over."""
        position = TopicPartition(self.topic, self.partition)
        deadline = time.monotonic() + ASK_S
        bounds: Any = None
        while True:
            try:
                bounds = self._consumer.get_watermark_offsets(position, timeout=ASK_S)
                break
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise KafkaUnavailable(f"{self.topic}: {error.args[0].str()}") from error
                self._consumer.poll(0.1)
        if bounds is None:
            raise KafkaUnavailable(f"{self.topic}: the broker did not answer within {ASK_S:.0f} s")
        self._consumer.assign([TopicPartition(self.topic, self.partition, bounds[1])])

    def _found_again(self) -> bool:
        try:
            self._seek_to_end()
        except (KafkaUnavailable, KafkaException) as error:
            log.warning("no answer is heard: %s", error)
            return False
        return True

    def _tell(self, value: bytes) -> None:
        try:
            self._sink(value)
        except Exception:
            # Anybody's record, to whomever: what is wrong with it is nobody else's affair.
            log.exception("%s/%d: an answer that cannot be taken", self.topic, self.partition)

    def _serve(self) -> None:
        astray = False
        while not self._stopped:
            astray = astray and not self._found_again()
            message = self._consumer.poll(0.2)
            if message is None:
                continue
            if (error := message.error()) is None:
                self._tell(message.value() or b"")
            elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                # The right was there when the reader was opened. A group's is not needed: nothing is committed.
                log.error("no answer is heard: %s", lacks(self._config, on_topic("Read", self.topic)))
            elif error.code() in ELSEWHERE:
                # Nothing more would be fetched. An answer that is missed comes again: its command is sent again.
                log.warning("%s: %s: answers are heard from its end on", self.topic, error.str())
                astray = True
