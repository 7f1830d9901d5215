"""The small values that commands, events and rows share. Named tuples: immutable, cheap to build, cheap to compare."""

from __future__ import annotations

from typing import NamedTuple


class BlobRef(NamedTuple):
    """Where a payload above the inline limit lies.

    `name` covers ciphertext or is keyed, never a plain hash of plaintext.
    """

    store: str
    name: str
    size: int


class Payload(NamedTuple):
    """A user value on the log: the envelope of format.md. `data` is empty when `blob` is set."""

    codec: str = "json"
    key_id: str = ""
    data: bytes = b"null"
    blob: BlobRef | None = None


NOTHING = Payload()


class AttributeValue(NamedTuple):
    """What a run can be found by, in clear text. `kind`: str, int, float, bool, time or list; `value` is its JSON."""

    name: str
    kind: str
    value: str


class Failure(NamedTuple):
    """An exception that crosses the log.

    `type` is the built-in's or the declared error's name, or the class path of anything else; `details` holds a
    declared error's fields as a JSON object; `retry_after_ms` is -1 unless the error named its own delay.
    """

    type: str
    message: str
    details: Payload = NOTHING
    traceback: str = ""
    retryable: bool = True
    retry_after_ms: int = -1


class Actor(NamedTuple):
    """Who asked. `authn` is `verified` only when a key of the application's key ring signed the command."""

    kind: str = "service"
    id: str = ""
    on_behalf_of: str = ""
    via: str = ""
    authn: str = "claimed"


class ReplyTo(NamedTuple):
    """Where an answer goes: a topic (full name) and the asker's partition of it."""

    topic: str
    partition: int


class Cause(NamedTuple):
    """What an event was caused by: a command id, the record it came in, or nothing but the engine itself.

    `answers` is true on exactly one event of a command's decision: the one whose `apply` stores the command's outcome
    for duplicates and, when `reply_to` is set, queues the reply.
    """

    command_id: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    answers: bool = False
    reply_to: ReplyTo | None = None


NO_CAUSE = Cause()


class CodeIdentity(NamedTuple):
    """Which code a run was started on: for messages and audits, never compared in order to refuse."""

    source_sha256: str = ""
    image: str = ""
    engine: str = ""
    python: str = ""


class ParentRef(NamedTuple):
    """The step of a parent run that a child answers to."""

    workflow_id: str
    run_id: str
    step: str


class RetryPolicy(NamedTuple):
    """Temporal's names and defaults, in milliseconds.

    `max_attempts` 0 is unlimited; `max_interval_ms` 0 is 100 × initial.
    """

    initial_interval_ms: int = 1_000
    backoff: float = 2.0
    max_interval_ms: int = 0
    max_attempts: int = 0
    non_retryable: tuple[str, ...] = ()


class LimitNeed(NamedTuple):
    """What a task needs of one limit before it may begin, with the limit as the code that asks declares it.

    `group` names the home of the limit's state, `key` the tenant (model, account) it counts for. 0 is none:
    `concurrency` tasks at once, `rate` begins in any `rate_ms`, a begin `debounce_ms` after the last that asked, but
    not later than `debounce_max_ms` after the first. `strategy`: queue, cancel_oldest, cancel_newest or round_robin
    over `fairness`. Of those that wait a higher `priority` comes first.
    """

    group: str
    name: str
    key: str = ""
    concurrency: int = 0
    rate: int = 0
    rate_ms: int = 0
    strategy: str = "queue"
    fairness: str = ""
    priority: int = 0
    debounce_ms: int = 0
    debounce_max_ms: int = 0


class LimitedTask(NamedTuple):
    """Who needs slots: an attempt of a step, or (`step` "", `attempt` 0) a run."""

    workflow_id: str
    run_id: str
    step: str = ""
    attempt: int = 0

    @property
    def id(self) -> str:
        """Of an attempt its token."""
        return f"{self.run_id}/{self.step}/{self.attempt}"


class StepOptions(NamedTuple):
    """How a step is carried out.

    Time-outs in milliseconds, 0 is none; `queue` "" runs in the engine's own step processes.
    """

    queue: str = ""
    on_crash: str = "retry"
    retry: RetryPolicy = RetryPolicy()
    start_to_close_ms: int = 0
    schedule_to_close_ms: int = 0
    schedule_to_start_ms: int = 0
    heartbeat_ms: int = 0
    cancellation: str = "try"
    limits: tuple[LimitNeed, ...] = ()


DEFAULT_STEP_OPTIONS = StepOptions()


class InputPosition(NamedTuple):
    """The next offset to read of a commands partition, bound to the very topic it was read from."""

    cluster_id: str
    topic_id: str
    partition: int
    offset: int


class BatchId(NamedTuple):
    """(claim, batch): the identity of one committed batch of a partition; never reused, ordered."""

    claim_no: int
    batch_no: int
