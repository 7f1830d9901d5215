"""Answers as JSON, and lists of as many rows as fit into one."""

from __future__ import annotations

import json
from typing import Any

from ..core.values import Payload

PAGE_BYTES = 700_000


def as_json(value: Any) -> bytes:
    """As short as it may be: escaped, a text in Cyrillic letters takes three times its bytes."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Half a surrogate pair is no UTF-8.
        return json.dumps(value, separators=(",", ":")).encode()


class Page:
    """Rows of an answer, each encoded once: at most so many, and of so many bytes, but one at least."""

    def __init__(self, most: float = float("inf")) -> None:
        self._most = most
        self._rows: list[bytes] = []
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether it has as many rows as it may."""
        return len(self._rows) >= self._most

    def takes(self, row: Any) -> bool:
        """Add a row. False: it has no room for it."""
        encoded = as_json(row)
        if self.full or (self._rows and self._size + len(encoded) > PAGE_BYTES):
            return False
        self._rows.append(encoded)
        self._size += len(encoded)
        return True

    def payload(self, name: str, **beside: Any) -> Payload:
        """The answer: the rows as `name`, and what stands beside them."""
        return Payload(data=b'{"%s":[%s],%s' % (name.encode(), b",".join(self._rows), as_json(beside)[1:]))
