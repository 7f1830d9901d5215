"""Values on a command line: JSON where it parses, text where it does not."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from orchestrator.client.views import OPEN
from orchestrator.config import Settings
from orchestrator.core.calendars import Calendar
from orchestrator.core.commands import StartWorkflow
from orchestrator.core.invariants import CLOSED
from orchestrator.core.values import AttributeValue
from orchestrator.errors import ConfigurationError, DoesNotRoundTrip
from orchestrator.sdk.app import Orchestrator
from orchestrator.sdk.attributes import Attribute, Where

MOST_S = 100 * 365 * 86_400


def value_of(text: str) -> Any:
    """`7` → 7, `true` → True, `{"a": 1}` → an object, `pen` → "pen"."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class Seconds(click.ParamType[float]):
    """A length of time on a command line: not negative, and not endless."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        try:
            given = float(value)
        except ValueError:
            given = -1.0
        if not 0 <= given <= MOST_S:
            self.fail(f"{value!r} is no number of seconds, from 0 to a hundred years", param, ctx)
        return given


class Filled(click.ParamType[str]):
    """An id: a variable of a script that was never set is none."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click."""
        text = str(value)
        if not text.strip():
            self.fail("it is empty", param, ctx)
        return text


class Parts(click.ParamType[Calendar]):
    """A calendar on a command line: `hour=9 weekday=mon-fri`. What a part may be is the schedule's to say."""

    name = "calendar"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Calendar:
        """See click."""
        words = [word.partition("=") for word in str(value).split()]
        parts = {name: part for name, _, part in words}
        strange = next((name for name, _, part in words if name not in Calendar._fields or not part), "")
        if strange or not words or len(parts) < len(words):
            self.fail(
                f"{value!r} is no calendar: write {', '.join(Calendar._fields)}, each once at most, as in"
                " 'hour=9 weekday=mon-fri'",
                param,
                ctx,
            )
        return Calendar(**parts)


def json_of(text: str, where: str) -> Any:
    """JSON given as text, `@file` or `-` for stdin. Raises a usage error naming `where`."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise click.UsageError(f"{where}: {error.strerror}: {text[1:]}") from error
    except ValueError as error:
        raise click.UsageError(f"{where} is not JSON: {error}") from error


def workflow_arguments(pairs: Sequence[str], given: str) -> dict[str, Any]:
    """A workflow's arguments by parameter name, from `name=value` words over `--input`. Raises a usage error."""
    arguments = json_of(given, "--input") if given else {}
    if not isinstance(arguments, dict):
        raise click.UsageError("--input must be a JSON object: the arguments by parameter name")
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"{pair!r} is not an argument: write name=value, as in cents=9 or items='[\"pen\"]'")
        arguments[name] = value_of(text)
    return arguments


def check_start(settings: Settings, body: StartWorkflow) -> None:
    """Compare a start with the application's code, if it is at hand (`--app`). Raises a usage error.

    An engine takes what it does not know and waits for the code that does: right for a deploy, not for a slip of the
    keyboard. With `--app-name` nothing is compared.
    """
    if settings.app_name or not settings.app:
        return
    from orchestrator.worker.loading import load_app

    app = load_app(settings.app)
    code = app.registry.workflow(body.workflow_type, body.version)
    if code is None:
        raise click.UsageError(
            f"{_unknown(app, body)}. To start what only the engine's code has, give --app-name {app.name} in place of"
            " --app"
        )
    try:
        code.signature.unbind(body.arguments)
    except DoesNotRoundTrip as error:
        quoted = "; for a text that reads as JSON write name='\"7\"'" if " is no str" in str(error) else ""
        raise click.UsageError(f"{error}{quoted}") from error


def check_entity(settings: Settings, name: str) -> None:
    """Compare an entity's name with the application's code, if it is at hand. Raises a usage error."""
    if settings.app_name or not settings.app:
        return
    from orchestrator.worker.loading import load_app

    app = load_app(settings.app)
    if name not in app.registry.entities:
        known = ", ".join(sorted(app.registry.entities)) or "none"
        raise click.UsageError(f"{app.name} has no entity {name!r}; it has: {known}")


def _unknown(app: Orchestrator, body: StartWorkflow) -> str:
    """What an application has instead."""
    every = list(app.registry.workflows())
    versions = sorted(one.version for one in every if one.workflow_type == body.workflow_type)
    if versions:
        known = ", ".join(map(str, versions))
        return f"{app.name} has no version {body.version} of workflow {body.workflow_type!r}; it has: {known}"
    entity, dot, handler = body.workflow_type.partition(".")
    handlers = sorted(
        one.workflow_type.partition(".")[2] for one in every if one.workflow_type.startswith(f"{entity}.")
    )
    if dot and handlers:
        return f"entity {entity} of {app.name} has no handler {handler!r}; it has: {', '.join(handlers)}"
    known = ", ".join(sorted({one.workflow_type for one in every if "." not in one.workflow_type})) or "none"
    return f"{app.name} has no workflow {body.workflow_type!r}; it has: {known}"


def attribute_of(text: str) -> AttributeValue:
    """`NAME=JSON` (or text); a moment in ISO form is one."""
    name, equals, value = text.partition("=")
    found = value_of(value)
    try:
        if not equals:
            raise ConfigurationError("write NAME=VALUE, as in customer=acme")
        attribute: Attribute[Any] = Attribute(name, list[str] if isinstance(found, list) else type(found))
        if attribute.kind == "str" and re.match(r"\d{4}-\d\d-\d\dT", found):
            return Attribute(name, datetime).of(datetime.fromisoformat(found))
        return attribute.of(found)
    except (ConfigurationError, TypeError, ValueError) as error:
        raise click.BadParameter(f"--attribute {text}: {error}") from error


def _conditions(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[Where, ...]:
    return tuple(_condition(one) for one in given)


def _condition(text: str) -> Where:
    found = re.fullmatch(r"\s*([\w.-]+)\s*(<=|>=|!=|=|<|>|\bhas\b)\s*(.+?)\s*", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not NAME OPERATOR VALUE (= != < <= > >= has), like 'amount > 3'")
    name, operator, value = found.groups()
    return Where(name, operator, json.dumps(value_of(value)))


status_option = click.option(
    "--status", default="", type=click.Choice(["", *sorted(OPEN | CLOSED)]), metavar="STATUS",
    help=f"Only runs of this status: {', '.join(sorted(OPEN | CLOSED))}.",
)  # fmt: skip

where_option = click.option(
    "--where", multiple=True, metavar="CONDITION", callback=_conditions,
    help="Only runs whose attribute fits, like 'amount > 3' or 'customer = acme'; several: all of them.",
)  # fmt: skip
