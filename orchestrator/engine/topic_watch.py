"""Topics are what they were, looked at every minute: a deleted and re-created one takes commits as if nothing were.

A thread of its own, asleep between two looks: neither the supervisor nor the membership may wait for a broker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from ..errors import OrchestratorError
from ..log.ports import Log
from .growth import outgrown
from .partition import Partition

log = logging.getLogger(__name__)


class TopicWatch:
    """Compares the topics' identities with those that each partition was claimed under."""

    def __init__(
        self,
        log_: Log,
        partitions: Callable[[], Iterable[Partition]],
        every_s: float,
        counted: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`counted` is told at each look how many partitions there are."""
        self._log = log_
        self._partitions = partitions
        self._every_s = every_s
        self._counted = counted
        self._told = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="topics", daemon=True)

    def start(self) -> None:
        """Begin; the first look comes after one interval, for a claim looks itself."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, unless it waits for a broker: it ends with the process then."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _serve(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                self.look()
            except OrchestratorError as error:
                # A broker that is away, a topic that is gone for now: what works with it meets that by itself.
                self._tell(str(error))

    def look(self) -> None:
        """Once. Raises ConfigurationError, KafkaUnavailable."""
        ids = self._log.topic_ids()
        self._counted(ids.partitions)
        problem = ""
        for partition in list(self._partitions()):
            recorded = partition.compare(ids)
            if 0 < recorded != ids.partitions:
                problem = outgrown(self._log.app, recorded, ids.partitions)
        self._tell(problem)

    def _tell(self, problem: str) -> None:
        if problem and problem != self._told:
            log.error("topics: %s", problem)
        self._told = problem
