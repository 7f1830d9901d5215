"""Questions to the code of a run that left memory with a long history: it is replayed in pieces, between batches."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from ..core.commands import Command
from ..core.decide.decision import View
from ..core.rows import RUNS, RunRow, run_key
from .turns import REPLAY_S, Ask, Copy, RunKey, Turns

AT_ONCE = 2_000
"""Events of a history that is replayed in one go to be asked."""


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
        if run.seq <= AT_ONCE or self._turns.remembers(key) or not self._turns.has_code(key, run):
            return False
        self._asked.setdefault(key, {})[command.id] = command
        return True

    def go_on(self) -> None:
        """Replay the first of them for a moment; at its end answer whoever asks."""
        if not self._asked:
            return
        key = next(iter(self._asked))
        run: RunRow | None = self._view.get(RUNS, run_key(*key))
        if run is not None:
            if self._copy is None:
                self._copy = self._turns.copy(self._view, key, run)
            if not self._copy.go_on(time.perf_counter() + REPLAY_S):
                return
        commands = list(self._asked.pop(key).values())
        copy, self._copy = self._copy, None
        while commands and not (copy is not None and copy.is_spoilt):
            self._answer(commands.pop(0), key, run, copy.ask if copy is not None else _nobody)
        if commands:
            # A question has changed what the history made: those behind it need a copy of their own.
            self._asked[key] = {one.id: one for one in commands}
        if copy is not None:
            copy.close()

    def clear(self) -> None:
        """Another claim may find another history: who asked asks again."""
        self._asked.clear()
        if self._copy is not None:
            self._copy.close()
            self._copy = None


def _nobody(_question: object) -> None:
    return None
