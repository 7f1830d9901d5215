"""Values on a command line: JSON where it parses, text where it does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


def value_of(text: str) -> Any:
    """`7` → 7, `true` → True, `{"a": 1}` → an object, `pen` → "pen"."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def json_of(text: str, where: str) -> Any:
    """JSON given as text, `@file` or `-` for stdin. Raises a usage error naming `where`."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"{where}: {error.strerror}: {text[1:]}") from error
    try:
        return json.loads(text)
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
