"""The bundled model server's scripted faults and its receipts file.

A fault is chosen by the request's own label (header `X-Step-Label`) or by the order in which its key first came
(`nth_key`, 1 for the first distinct `Idempotency-Key`), never by chance, and fires once in the server's life.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigurationError

KINDS = ("hold", "rate_limit", "break")


@dataclass(frozen=True)
class Fault:
    """One scripted fault.

    `hold`: the request is received and not answered until the server is told (`POST /faults/release`) or the caller
    goes away. `rate_limit`: 429 with `Retry-After: retry_after_s`. `break`: the connection ends in mid-answer.
    """

    kind: str
    label: str | None = None
    nth_key: int | None = None
    retry_after_s: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigurationError if this fault could never fire or has an unknown kind."""
        if self.kind not in KINDS:
            raise ConfigurationError(f"model server: unknown fault {self.kind!r}; choose one of {', '.join(KINDS)}")
        if (self.label is None) == (self.nth_key is None):
            raise ConfigurationError(f"model server: fault {self.kind!r} needs either `label` or `nth_key`")

    def matches(self, label: str | None, nth_key: int) -> bool:
        """Whether this fault is meant for a request with this label and key order."""
        return self.label == label if self.label is not None else self.nth_key == nth_key


class FaultPlan:
    """The faults that have not fired yet, in the order in which they were written."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._left = list(faults)

    @classmethod
    def read(cls, path: Path | None) -> FaultPlan:
        """The plan of a JSON file (a list of objects with Fault's fields); raises ConfigurationError if it is none."""
        if path is None:
            return cls()
        try:
            return cls(Fault(**item) for item in json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"model server: the faults file {path} is not a JSON list of faults ({error}); "
                'write for example [{"kind": "rate_limit", "label": "step-42", "retry_after_s": 1}]'
            ) from error

    @staticmethod
    def write(path: Path, faults: Iterable[Fault]) -> None:
        """Write a file that `read` takes."""
        path.write_text(json.dumps([asdict(fault) for fault in faults]))

    def take(self, label: str | None, nth_key: int) -> Fault | None:
        """The first fault meant for this request, which has then fired; None if there is none."""
        for fault in self._left:
            if fault.matches(label, nth_key):
                self._left.remove(fault)
                return fault
        return None


class Receipts:
    """An append-only file of JSON lines; a line is on the disk when `write` returns.

    Every line has `event`, `n` (1 for the first request of this server's life), `key`, `step`, `label` and `time`
    (seconds since 1970). Events: `received` (with `prompt_tokens`), `answered` (with `completion_tokens`),
    `holding`, `released`, `cut` (the caller left while held), `rate_limited`, `broke`. A call was paid if it was
    received and not rate limited; it was cut if it was paid and has no `answered`.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._lock = threading.Lock()

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one line and fsync it."""
        line = json.dumps({"event": event, **fields, "time": time.time()}) + "\n"
        with self._lock:
            self._file.write(line.encode())
            self._file.flush()
            os.fsync(self._file.fileno())


def read_receipts(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a receipts file; a last line without its end (a killed server) is left out."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
