"""Attributes and summaries: what a run can be found by, and what people read of it in a list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

from ..core.commands import AnnotateRun
from ..core.values import AttributeValue
from ..errors import ConfigurationError
from .loop import RunLoop
from .messages import inside

if TYPE_CHECKING:
    from .turn import LiveRun

T = TypeVar("T", str, int, float, bool, datetime, list[str])
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "has"]
KINDS: dict[Any, str] = {str: "str", int: "int", float: "float", bool: "bool", datetime: "time", list[str]: "list"}


class Where(NamedTuple):
    """A condition on an attribute: `value` is JSON; `has` asks whether a list has it."""

    name: str
    operator: str
    value: str


class Attribute(Generic[T]):
    """A kind of attribute: `app.attribute("customer", str)`."""

    def __init__(self, name: str, hint: type[T]) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", name):
            raise ConfigurationError(f"attribute {name!r}: a name has letters, digits, '_', '.' and '-'")
        if hint not in KINDS:
            raise ConfigurationError(f"attribute {name}: {hint} is not str, int, float, bool, datetime or list[str]")
        self.name = name
        self.kind = KINDS[hint]

    def of(self, value: T) -> AttributeValue:
        """A value, for `workflow.options(attributes=[...])`. Raises TypeError for one of another type."""
        return AttributeValue(self.name, self.kind, self._text(value))

    def set(self, value: T) -> None:
        """From workflow code: change it, for everybody who looks, with this turn's commit."""
        loop = inside(f"attribute {self.name}.set()")
        given = self.of(value)
        _annotate(loop, lambda said: said._replace(attributes=(*_others(said, self.name), given)))
        _run(loop).context.attributes[self.name] = given

    def get(self) -> T | None:
        """From workflow code: its value; None if it has none."""
        found = _run(inside(f"attribute {self.name}.get()")).context.attributes.get(self.name)
        if found is None:
            return None
        value = json.loads(found.value)
        return cast(T, datetime.fromisoformat(value) if self.kind == "time" else value)

    def where(self, operator: Operator, value: Any) -> Where:
        """A condition for `client.runs(where=[...])`: `=`, `!=`, `<`, `<=`, `>`, `>=`; `has` for lists."""
        return Where(self.name, operator, json.dumps(value) if operator == "has" else self._text(value))

    def _text(self, value: T) -> str:
        given: Any = value
        whole = self.kind == "float" and isinstance(given, int) and not isinstance(given, bool)
        if not whole and KINDS.get(list[str] if _is_texts(given) else type(given)) != self.kind:
            raise TypeError(f"attribute {self.name} is of type {self.kind}, not {given!r:.100}")
        if isinstance(given, datetime):
            if given.tzinfo is None:
                raise TypeError(f"attribute {self.name}: {given} has no time zone")
            given = given.astimezone(UTC).isoformat()
        return json.dumps(float(given) if whole else given)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def set_summary(text: str) -> None:
    """From workflow code: where the run is, in a few words, for lists. Changes with this turn's commit."""
    _annotate(inside("set_summary()"), lambda said: said._replace(summary=text))


def _run(loop: RunLoop) -> LiveRun:
    return cast("LiveRun", loop.run)


def _others(said: AnnotateRun, name: str) -> tuple[AttributeValue, ...]:
    return tuple(one for one in said.attributes if one.name != name)


def _annotate(loop: RunLoop, change: Callable[[AnnotateRun], AnnotateRun]) -> None:
    """One command a turn, whatever it says and however often."""
    before = [at for at, command in enumerate(loop.commands) if isinstance(command, AnnotateRun)]
    if before and not loop.evicting:
        loop.commands[before[0]] = change(cast(AnnotateRun, loop.commands[before[0]]))
    else:
        loop.issue(change(AnnotateRun()))
