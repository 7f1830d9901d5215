"""Runs by their attributes: conditions as a client writes them, against what a run has."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from ..core.rows import RunRow
from ..core.values import AttributeValue

COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "has": operator.contains,
}
Condition = tuple[str, str, Any]
"""Name, operator, value."""


def conditions(raw: Iterable[Any]) -> list[Condition]:
    """Conditions as they crossed the log, their values as JSON. Raises ValueError."""
    found = []
    for name, compared, value in raw:
        if compared not in COMPARE:
            raise ValueError(f"{compared!r} is none of {' '.join(COMPARE)}")
        found.append((str(name), str(compared), json.loads(value)))
    return found


def fits(run: RunRow, wanted: Iterable[Condition]) -> bool:
    """Whether a run has every attribute that is asked for. One that it lacks fits nothing, `!=` neither."""
    known = {one.name: one for one in run.attributes}
    return all(_fits(known.get(name), compared, value) for name, compared, value in wanted)


def _fits(found: AttributeValue | None, compared: str, value: Any) -> bool:
    if found is None:
        return False
    try:
        if found.kind == "time":
            return COMPARE[compared](datetime.fromisoformat(json.loads(found.value)), datetime.fromisoformat(value))
        return COMPARE[compared](json.loads(found.value), value)
    except (TypeError, ValueError):
        # Of another type: a text is not above a number.
        return False


def attributes_view(attributes: Iterable[AttributeValue]) -> dict[str, Any]:
    """For people and programs."""
    return {one.name: json.loads(one.value) for one in attributes}
