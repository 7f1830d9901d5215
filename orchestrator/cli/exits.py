"""Exit codes, and how an error becomes one sentence and a code."""

from __future__ import annotations

import traceback
from pathlib import Path

from orchestrator import errors
from orchestrator.ending import ABANDONED as ABANDONED

from .starting import INTERRUPTED as INTERRUPTED

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
TIMEOUT = 4
REJECTED = 5
NO_KAFKA = 6

CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.WorkflowNotFound, NOT_FOUND),
    (errors.RunClosed, NOT_FOUND),
    (errors.CommandRejected, REJECTED),
    (errors.ReplyTimeout, TIMEOUT),
    (errors.KafkaUnavailable, NO_KAFKA),
    (errors.RegistryUnavailable, NO_KAFKA),
    (errors.ConfigurationError, USAGE),
)
"""The first that fits gives the code; any other error is FAILED."""


class Exit(Exception):
    """End with `code` and without a word: everything was said."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def code_of(error: BaseException) -> int:
    """The exit code that an error ends the command with."""
    return next((code for kind, code in CODES if isinstance(error, kind)), FAILED)


def sentence(error: BaseException) -> str:
    """What to say of an error on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, errors.OrchestratorError):
        return text or type(error).__name__
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{said}{_place(error)}"


def _place(error: BaseException) -> str:
    """Where code of somebody's raised what is no error of ours: an application's module, above all."""
    if error.__traceback__ is None or isinstance(error, OSError | SyntaxError):
        return ""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f" (at {Path(frame.filename).name}:{frame.lineno}; --debug shows all of it)"
