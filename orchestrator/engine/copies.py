"""Questions to the code of a run that left memory with a long history: it is replayed in pieces, between batches."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from ..core.commands import Command
from ..core.decide.decision import View
from ..core.rows import RUNS, RunRow, run_key
from ..errors import OrchestratorError
from .turns import REPLAY_S, Ask, Copy, RunKey, Turns
from .waits import REPLAYED

log = logging.getLogger(__name__)


class Copies:
    """The runs of one partition that are replayed to be asked, one after the other, and who asks.

    `answer` gets a question with its run (None: it was purged meanwhile) and how to put it.
    """

    def __init__(self, view: View, turns: Turns, answer: Callable[[Command, RunKey, RunRow | None, Ask], None]) -> None:
        self._view = view
        self._turns = turns
        self._answer = answer
        self._asked: OrderedDict[RunKey, dict[str, Command]] = OrderedDict()
        self._copy: Copy | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is something to go on with."""
        return bool(self._asked)

    def takes(self, command: Command, key: RunKey, run: RunRow) -> bool:
        """Whether the question has to wait until its run was replayed. Asked again by its caller it waits once."""
        if run.seq <= REPLAYED or self._turns.remembers(key) or not self._turns.has_code(key, run):
            return False
        self._asked.setdefault(key, {})[command.id] = command
        return True

    def go_on(self) -> None:
        """Replay the first of them for a moment; at its end answer whoever asks."""
        if not self._asked:
            return
        key = next(iter(self._asked))
        run: RunRow | None = self._view.get(RUNS, run_key(*key))
        ask = self._replayed(key, run)
        if ask is None:
            return
        commands = list(self._asked.pop(key).values())
        while commands and not (self._copy is not None and self._copy.is_spoilt):
            self._answer(commands.pop(0), key, run, ask)
        if commands:
            # A question has changed what the history made: those behind it need a copy of their own.
            self._asked[key] = {one.id: one for one in commands}
        self._close()

    def _replayed(self, key: RunKey, run: RunRow | None) -> Ask | None:
        """How to ask the run now; None while there is more to replay. What goes wrong is the answer to whoever asks."""
        if run is None or not self._turns.has_code(key, run):
            return _nobody
        try:
            if self._copy is None:
                self._copy = self._turns.copy(self._view, key, run)
            return self._copy.ask if self._copy.go_on(time.perf_counter() + REPLAY_S) else None
        except OrchestratorError:
            raise
        except Exception as error:
            log.warning("%s: a question cannot be answered", key[0], exc_info=True)
            return partial(_failed, error)

    def clear(self) -> None:
        """Another claim may find another history: who asked asks again."""
        self._asked.clear()
        self._close()

    def _close(self) -> None:
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()


def _nobody(_question: object) -> None:
    return None


def _failed(error: Exception, _question: object) -> None:
    raise error
