"""An engine under test in a process of its own: the contract's `processes3` mode.

A fork server that has imported everything makes one in milliseconds; an engine ends with the process that asked for it.
"""

from __future__ import annotations

import faulthandler
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing import connection
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import Orchestrator
from orchestrator.codec.records import Codec
from orchestrator.ending import Ending
from orchestrator.engine.options import EngineOptions
from orchestrator.engine.run import Engine
from orchestrator.log.config import LogConfig
from orchestrator.log.kafka_log import KafkaLog
from orchestrator.sdk.execution import ExecutorOptions
from orchestrator.store.partition_store import PartitionStore
from orchestrator.worker.threads import ThreadExecutor
from tests.contract.queued import every_step_queued

ENDS_WITHIN_S = 60.0
SAYS_WITHIN_S = 2.0
LOOK_S = 0.5


class Order(NamedTuple):
    """What an engine process is to run: `attribute` of `module` is the application, under another `name`."""

    module: str
    attribute: str
    name: str
    bootstrap: str
    options: Mapping[str, Any]
    state: str


def whereabouts(app: Orchestrator) -> tuple[str, str] | None:
    """Module and attribute by which another process finds an application; None if it was made within a test."""
    for module, found in list(sys.modules.items()):
        if module.startswith("tests.contract."):
            for name, value in vars(found).items():
                if value is app:
                    return module, name
    return None


class EngineProcess:
    """An engine that shares nothing with the test but the broker."""

    def __init__(self, order: Order) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "pytest", "pydantic", "tests.contract.world"])
        self._process = context.Process(target=serve, args=(order,), daemon=True)

    def start(self) -> None:
        """Begin; owning comes later, as the group decides."""
        self._process.start()

    def stop(self, grace_s: float) -> None:
        """Drain it; an engine that does not end cleanly fails the test."""
        self._process.terminate()
        self._process.join(ENDS_WITHIN_S + grace_s)
        code = self._process.exitcode
        if code is None:
            self._say_where()
        self._process.kill()
        assert code == 0, f"an engine process ended with {code}"

    def _say_where(self) -> None:
        """What each thread of one that does not end is at, into the test's own output."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGUSR1)
        self._process.join(SAYS_WITHIN_S)


def serve(order: Order) -> None:
    """The process's work: own partitions until SIGTERM, or until the test's process is gone."""
    faulthandler.register(signal.SIGUSR1)
    ending = Ending()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_test, daemon=True).start()
    app: Orchestrator = attrgetter(order.attribute)(importlib.import_module(order.module))
    app.name = order.name
    with every_step_queued():
        engine = Engine(
            KafkaLog(LogConfig(order.name, order.bootstrap)),
            app.registry,
            lambda report, freed: ThreadExecutor(app, ExecutorOptions(freed=freed), report),
            lambda number, codec: PartitionStore(Path(order.state) / str(number), codec),
            EngineOptions(**{**order.options, "claims_back": True}),
            codec=Codec(),
        )
        engine.start()
        while not ending.wait(LOOK_S):
            pass
        engine.stop(1.0)


def _end_with_the_test() -> None:
    test = multiprocessing.parent_process()
    assert test is not None
    connection.wait([test.sentinel])
    os._exit(1)
