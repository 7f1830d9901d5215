"""Commands of workflow code that end its run, or let it stand. `commands.py` names all commands."""

from __future__ import annotations

from typing import NamedTuple

from .values import Failure, Payload
from .waits import Heard


class CompleteRun(NamedTuple):
    """The main function returned."""

    result: Payload


class FailRun(NamedTuple):
    """The main function raised an error that fails the run."""

    failure: Failure


class CancelRun(NamedTuple):
    """CancelledError left the main function after a request."""


class ContinueAsNew(NamedTuple):
    """Close this run and start the next one of the same workflow with fresh history. `untaken`: the places of signals
    that the code was given and did not take, and of a request to cancel that has not reached it."""

    arguments: Payload
    heard: tuple[Heard, ...] = ()
    untaken: tuple[int, ...] = ()


class ParkRun(NamedTuple):
    """The turn's verdict: `kind` is diverged, bug, forbidden, overlong, stuck or crashed; of kind code the run waits
    for another release and is not parked. Parking loses nothing."""

    kind: str
    message: str
    call_site: str = ""
