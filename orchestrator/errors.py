"""Every error of this package that a user can meet. Each says what was wrong, where, and what to do."""

from __future__ import annotations


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


class LimitExceeded(OrchestratorError):
    """A value is larger than a limit; names the step and the size. Nothing was committed."""
