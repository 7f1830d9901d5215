"""Every error of this package that a user can meet. Each says what was wrong, where, and what to do."""

from __future__ import annotations

from typing import Any


class OrchestratorError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(OrchestratorError):
    """A setting, topic or environment is not as it must be; the message names the remedy."""


class UndecodableRecord(OrchestratorError):
    """Bytes that are not one of this application's records."""


class LogGap(OrchestratorError):
    """The events log is not whole: a footer, chain or batch does not follow from what came before."""


class LogReplaced(OrchestratorError):
    """The log under a state directory was cut, re-created or belongs to another application."""


class StoreError(OrchestratorError):
    """The state directory cannot be used."""


class StoreDamaged(StoreError):
    """The state directory is not what was written: an engine moves it aside and folds the log anew."""


class LimitExceeded(OrchestratorError):
    """A value is larger than a limit; names the step and the size. Nothing was committed."""


class BlobError(OrchestratorError):
    """A value that is kept beside the log, as a blob, cannot be had; names the blob."""


class BlobMissing(BlobError):
    """The blob that an event names is not where blobs are looked for."""


class BlobAltered(BlobError):
    """A blob's bytes are not those that the event was written for."""


class BlobsUnavailable(BlobError):
    """Blobs cannot be read or written at all: a full disk, a missing right, a directory that is none."""


class CheckpointRefused(OrchestratorError):
    """A checkpoint is torn, altered, or of another application, partition, log or release; the message says which."""


class CheckpointsUnavailable(OrchestratorError):
    """Checkpoints cannot be read or written at all: a full disk, a missing right, a store that does not answer."""


class BundleRefused(OrchestratorError):
    """A file of `audit export` was changed, cut, or signed by a key that was not given: the message names the file."""


class CommandRejected(OrchestratorError):
    """The engine refused a command, and recorded that. `code` is the reason in one word, for programs."""

    def __init__(self, message: str, *, code: str = "", workflow_id: str = "", run_id: str = "", command_id: str = ""):
        super().__init__(message)
        self.code = code
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.command_id = command_id


class WorkflowAlreadyRunning(CommandRejected):
    """The workflow id has an open run: choose another id or a conflict policy."""


class WorkflowAlreadyClosed(CommandRejected):
    """The workflow id was used by a run that closed, and the reuse policy forbids using it again."""


class WorkflowNotFound(CommandRejected):
    """No run of this workflow id (or of this run id) is known."""


class RunClosed(CommandRejected):
    """The run has ended: nothing can reach it any more."""


class Overloaded(CommandRejected):
    """The application has as many open runs or pending steps as it may: nothing was started, or recorded."""


class NotVerified(CommandRejected):
    """The application takes only signed commands, and nobody knows who sent this one. It changed nothing."""


class UpdateRejected(CommandRejected):
    """The run's validator refused an update, and nothing was written. `failure`: what it raised, as a record."""

    failure: Any = None


class UpdateFailed(OrchestratorError):
    """The handler of an update ended with an error; the run goes on. `type` names the error."""

    def __init__(self, message: str, *, type: str = "", details: str = ""):
        super().__init__(message)
        self.type = type
        self.details = details


class ReplyTimeout(OrchestratorError):
    """No answer in time. A command may have been decided or not: sending it again with the same id is safe."""


class KafkaUnavailable(OrchestratorError):
    """The cluster cannot be reached, does not let us in, or refused a record; the message says what to check."""


class RegistryUnavailable(OrchestratorError):
    """The schema registry cannot be reached or answers nonsense; the message says which and what to check."""


class RunEnded(OrchestratorError):
    """A run ended without a result, or stands still; subclasses say how."""

    def __init__(self, message: str, *, workflow_id: str = "", run_id: str = ""):
        super().__init__(message)
        self.workflow_id = workflow_id
        self.run_id = run_id


class RunCancelled(RunEnded):
    """The run ended after a request to cancel."""


class RunTerminated(RunEnded):
    """The run was ended from outside."""


class RunParked(RunEnded):
    """The run stands still until a fixed deploy or `orchestrator workflow retry`. Nothing is lost."""


class DoesNotRoundTrip(OrchestratorError):
    """A value does not come back from the log as it went in: its type hint and its value disagree."""


class MissingHint(ConfigurationError):
    """A step, workflow or signal lacks a type hint that can be resolved; found when the engine starts."""


class StepFailed(OrchestratorError):
    """A step failed for good.

    `type` names what it raised; as `__cause__` of the error itself where that is known here.
    """

    def __init__(self, message: str, type: str = "StepFailed") -> None:
        super().__init__(message)
        self.type = type


class StepTimeout(StepFailed):
    """A step's time-out is over."""


class StepCancelled(StepFailed):
    """A step ended as cancelled although this run was not."""


class ChildFailed(OrchestratorError):
    """A child workflow ended without a result."""

    def __init__(self, message: str, type: str = "ChildFailed", outcome: str = "failed") -> None:
        super().__init__(message)
        self.type = type
        self.outcome = outcome


class ChildCancelled(ChildFailed):
    """A child workflow was cancelled or terminated."""


class WorkflowFailed(OrchestratorError):
    """Raise it in workflow code to fail the run on purpose, with this message."""


class CompensationFailed(WorkflowFailed):
    """Compensations of a saga failed for good: what they were to undo stands. The message names each."""


class Divergence(OrchestratorError):
    """Workflow code no longer does what its history says it did."""


class RunFailed(RunEnded, WorkflowFailed):
    """The run failed with an error that is not one of the application's declared errors.

    `type` and `details` (JSON text) are the error's as recorded, `traceback` the code's where it was raised.
    """

    def __init__(self, message: str, *, type: str = "", details: str = "", traceback: str = "", **where: str):
        super().__init__(message, **where)
        self.type = type
        self.details = details
        self.traceback = traceback


class BlockingInLoop(OrchestratorError):
    """A blocking call on a thread whose event loop runs, which it would stop: use the async client there."""
