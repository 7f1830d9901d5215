"""The engine process: membership says which partitions are its own, each gets a thread, a signal drains them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from ..codec.records import Codec
from ..codec.signatures import CommandSigner
from ..core.commands import Command, HeartbeatStep, ReportStep
from ..core.values import Actor
from ..ending import AS_AFTER_A_CRASH
from ..errors import BlobError
from ..failpoints import failpoint
from ..log.closing import close_all
from ..log.partitioner import partition_of
from ..log.ports import Log, Out
from ..sdk.execution import Report, StepExecutor, StepReport
from ..sdk.registry import Registry
from ..store.large import light
from ..store.rows import Store
from .anchors import OFF, AnchorWriter, NoAnchors
from .checkpoints import CheckpointTaker, NoCheckpoints
from .clock import Clock, SystemClock
from .handed_over import Carrier, Tokens
from .health import Health
from .inbox import Requests
from .keyring import RingWatch
from .large import keeper, reported
from .options import EngineOptions
from .partition import Partition, State
from .shared import Shared
from .standby import NoStandby, Standby, Standbys
from .supervisor import Supervisor
from .topic_watch import TopicWatch
from .turn_guard import TurnGuard

log = logging.getLogger(__name__)

RELEASE_S = 5.0
"""How long partitions may take to be released, if the grace time is shorter."""
BESIDE_S = 2.0
"""How long what works beside the partitions may take to end."""

MakeExecutor = Callable[[Report, Callable[[], None]], StepExecutor]
"""Builds the executor from where outcomes go and who is told of a freed slot."""


class Engine:
    """One process's partitions over a log, a registry of code and an executor of steps."""

    partition_type: type[Partition] = Partition
    """How a partition is owned. A simulation's run on threads of its own, one at a time."""

    def __init__(
        self,
        log_: Log,
        registry: Registry,
        make_executor: MakeExecutor,
        open_store: Callable[[int, Codec], Store],
        options: EngineOptions | None = None,
        clock: Clock | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.options = options or EngineOptions()
        self.log = log_
        self.partitions: dict[int, Partition] = {}
        self.ending = "while it began to end"
        """What the end of this engine waits for."""
        self._assigned_now: set[int] = set()
        self._codec = codec or Codec()
        self._clock = clock or SystemClock()
        self._sign = CommandSigner(log_.app, self.options.signatures.signer, self._clock.wall_ms)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._count = log_.topic_ids().partitions
        self._guard = self.make_guard()
        told = self.options.anchors
        self._anchors = AnchorWriter(log_, self._codec, self._clock, told) if told is not None else None
        kept = self.options.checkpoints
        self._checkpoints = CheckpointTaker(log_.app, self._clock, kept) if kept is not None else None
        self._standby = self._standbys(open_store)
        self.executor = make_executor(self._route, self._slot_freed)
        self._shared = Shared(
            log_,
            self._codec,
            registry,
            self.executor,
            self._guard,
            self._clock,
            self.options,
            lambda number: open_store(number, self._codec),
            self._stopped,
            {},
            Tokens(),
            Tokens(),
            self._anchors or NoAnchors(),
            self._checkpoints or NoCheckpoints(),
            self._standby,
            self._sign,
        )
        self._carrier = Carrier(self._shared, self._owns)
        self._supervisor = Supervisor(lambda: list(self.partitions.values()), self._clock)
        self._ring = RingWatch(self.options.signatures)
        self._topics = TopicWatch(log_, lambda: self.partitions.values(), self.options.topics_every_s, self._counted)

    def make_guard(self) -> TurnGuard:
        """Who ends turns that do not yield. A simulation has none: it measures time by the machine's clock."""
        return TurnGuard(self.options.turn_s)

    def _standbys(self, open_store: Callable[[int, Codec], Store]) -> Standby:
        if self.options.standby is None:
            return NoStandby()

        def opened(number: int) -> Store:
            return open_store(number, self._codec)

        return Standbys(self.log, self._codec, opened, self.options, self._clock, self._restoring)

    def _owns(self, number: int) -> bool:
        partition = self.partitions.get(number)
        return partition is not None and partition.state in (State.OWNED, State.PARKED)

    def _restoring(self) -> bool:
        return any(partition.state is State.RESTORING for partition in list(self.partitions.values()))

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Join the application's engines."""
        self._supervisor.start()
        self._topics.start()
        self._ring.start()
        if self._anchors is not None:
            self._anchors.start()
        if self._checkpoints is not None:
            self._checkpoints.start()
        self._standby.start()
        self._carrier.start()
        self.log.membership().start(self._assigned, self._revoked)
        self._counted(self._count)

    def stop(self, grace_s: float = 30.0) -> list[int]:
        """Release every partition, wait for running steps up to `grace_s`, report them, end.

        Returns the partitions that were not released: what comes after takes them over as after a crash. A second call
        does nothing.
        """
        if self._stopping.is_set():
            return []
        self._stopping.set()
        deadline = time.monotonic() + grace_s
        self._carrier.ends_within(grace_s)
        left = self._release(grace_s)
        self.ending = "while the group was left"
        self.log.membership().stop()
        self.ending = "while steps were running"
        cut = self.executor.stop(max(0.0, deadline - time.monotonic()))
        if cut:
            log.warning("%d steps were cut off at the end of the grace time", len(cut))
        self.ending = "while everything was closed"
        # Anchors are sent by the log's producer, so the log comes last.
        beside = {
            "carrier": self._carrier.stop,
            "standbys": self._standby.stop,
            "topics": self._topics.stop,
            "key ring": self._ring.stop,
        }
        if self._anchors is not None:
            beside["anchors"] = self._anchors.stop
        if self._checkpoints is not None:
            beside["checkpoints"] = self._checkpoints.stop
        close_all(beside, BESIDE_S)
        self._supervisor.stop()
        self._guard.stop()
        self.log.close()
        return left

    def _release(self, grace_s: float) -> list[int]:
        """Ask every partition to be released, and wait; the numbers of those that were not."""
        with self._lock:
            owned = list(self.partitions.values())
        for partition in owned:
            partition.inbox.ask(Requests(release=True, grace_ms=int(grace_s * 1000)))
        self.ending = "while partitions were to be released"
        deadline = time.monotonic() + max(grace_s, RELEASE_S)
        for partition in owned:
            partition.join(max(0.0, deadline - time.monotonic()))
        left = [partition.number for partition in owned if partition.unreleased]
        if left:
            log.error("partitions %s were not released, %s", ", ".join(map(str, left)), AS_AFTER_A_CRASH)
        return left

    def health(self) -> Health:
        """For the probes."""
        with self._lock:
            states = dict.fromkeys(self._assigned_now, State.STOPPED.value)
            states |= {number: partition.state.value for number, partition in self.partitions.items()}
        settled = all(state != State.RESTORING.value for state in states.values())
        ready = all(state == State.OWNED.value for state in states.values())
        member = self.log.membership().healthy() and not self._stopping.is_set()
        refused = self.log.inputs().refused() or self.log.tail().refused() or self.log.outgoing().refused()
        anchors = OFF if self._anchors is None else self._anchors.problem
        checkpoints = OFF if self._checkpoints is None else self._checkpoints.problem
        live = not self._supervisor.hung()
        told = {number: warm._asdict() for number, warm in self._standby.told().items()}
        return Health(
            member and settled,
            member and ready and not refused,
            live,
            states,
            anchors or "ok",
            checkpoints or "ok",
            told,
            refused or "ok",
        )

    # -- membership --------------------------------------------------------------------------------------------------

    def _assigned(self, numbers: Sequence[int]) -> None:
        failpoint("K18")
        with self._lock:
            self._assigned_now.update(numbers)
            for number in numbers:
                if number not in self.partitions:
                    self._begin(number)

    def _begin(self, number: int) -> None:
        """Own a partition, under the lock: its thread's end waits for it, so that it is listed first."""
        if not self._stopping.is_set():
            partition = self.partition_type(number, self._shared)
            partition.start()
            self.partitions[number] = partition

    def _revoked(self, numbers: Sequence[int], lost: bool) -> None:
        """Hand over, or, when the group has given the partitions away already, just stop: the log fences us."""
        failpoint("K17")
        grace_ms = self.options.hand_over_ms
        with self._lock:
            self._assigned_now.difference_update(numbers)
        for number in numbers:
            partition = self.partitions.get(number)
            if partition is None or partition.join(0.0):
                with self._lock:
                    self.partitions.pop(number, None)
                    self._followed(number)
                self.log.membership().released(number)
            else:
                partition.inbox.ask(Requests(release=True, grace_ms=grace_ms))

    def _stopped(self, number: int, problem: str) -> None:
        """A partition's thread ended. Parked ones stay listed, so that probes and people see them.

        One that was to be released and was given back before its thread had ended begins anew: nobody else has it.
        """
        with self._lock:
            partition = self.partitions.get(number)
            asked = partition is not None and partition.inbox.request.release
            if partition is not None and (asked or partition.state is not State.PARKED):
                del self.partitions[number]
            if asked and number in self._assigned_now:
                self._begin(number)
            self._followed(number)
        for report in partition.inbox.hand_on() if partition is not None else ():
            self._route(report)
        self.log.membership().released(number)

    def _counted(self, partitions: int) -> None:
        """So many there are: what is not ours may be followed."""
        with self._lock:
            for number in range(partitions):
                self._followed(number)

    def _followed(self, number: int) -> None:
        """Under the lock: whoever owns it now, we do not."""
        if number not in self.partitions and number not in self._assigned_now:
            self._standby.follow([number])

    # -- outcomes of steps -------------------------------------------------------------------------------------------

    def _route(self, report: StepReport) -> None:
        """To the partition that owns the run here, else by command to whoever owns it now."""
        body = report.body
        origins = self._shared.origins
        origin = origins.get(body.token) if isinstance(body, HeartbeatStep) else origins.pop(body.token, None)
        if isinstance(body, ReportStep) and body.token in self._shared.over:
            # Its owner knows the outcome, or has begun another attempt.
            return
        number = partition_of(report.workflow_id.encode(), self._count) if origin is None else origin.partition
        partition = self.partitions.get(number)
        if partition is not None and partition.inbox.put_report(report):
            return
        if isinstance(body, ReportStep):
            self._shared.sent.add(body.token)
            body = reported(report.workflow_id, body, keeper(self.options), self.options.payload_bytes)
        else:
            try:
                body = light(body, keeper(self.options))
            except BlobError as error:
                _lost(report, str(error))
                return
        kind = "beat" if isinstance(body, HeartbeatStep) else "report"
        command = Command(
            id=f"{body.token}/{kind}/{self.options.instance}" + (f"/{time.time_ns()}" if kind == "beat" else ""),
            workflow_id=report.workflow_id,
            body=body,
            actor=Actor(kind="engine", id=self.options.instance),
            time_ms=self._clock.wall_ms(),
        )
        value = self._codec.encode_command(command)
        topic, headers = f"{self.log.app}.commands", self._sign.headers(value)
        out = Out(topic, number, report.workflow_id.encode(), value, headers)
        self.log.outgoing().send(out, lambda problem: self._delivered(report, problem))

    def _delivered(self, report: StepReport, problem: str) -> None:
        if problem:
            self._shared.sent.discard(report.body.token)
            _lost(report, problem)

    def _slot_freed(self) -> None:
        with self._lock:
            owned = list(self.partitions.values())
        for partition in owned:
            partition.inbox.slot_is_free()


def _lost(report: StepReport, problem: str) -> None:
    what, so = (
        ("a heartbeat", "") if isinstance(report.body, HeartbeatStep) else ("the outcome", "; the step runs again")
    )
    log.error("%s of %s could not be sent: %s%s", what, report.body.token, problem, so)
