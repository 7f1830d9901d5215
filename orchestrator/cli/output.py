"""Printing: a table for people, JSON and JSON lines for programs. What is printed to stdout is only the answer."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Row = Mapping[str, Any]

FORMATS = ("table", "json", "jsonl")
MAX_CELL = 80
MAX_LAST = 1_000
"""Of the last column, beside which nothing stands: sentences that say what to do."""
PAGE = 500
"""Lines of a table that are printed together."""


def output_option(command: F) -> F:
    """`-o table|json|jsonl`, as parameter `output`."""
    option = click.option(
        "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
    )
    return option(command)


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def dumps(value: Any, indent: int | None = None) -> str:
    """One JSON text, not escaped beyond need."""
    return json.dumps(plain(value), ensure_ascii=False, indent=indent)


def time_text(milliseconds: Any) -> str:
    """Milliseconds since 1970 as UTC, to the second; nothing for 0."""
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def cell(name: str, value: Any, most: int = MAX_CELL) -> str:
    """A value in a table, on one line."""
    text = line_of(name, value)
    return text if len(text) <= most else text[: most - 1] + "…"


def line_of(name: str, value: Any) -> str:
    """A value on one line, however long."""
    if name.endswith("_at_ms") or name in {"at_ms", "since_ms", "nominal_ms"}:
        return time_text(value)
    if value is None:
        return ""
    return " ".join((value if isinstance(value, str) else dumps(value)).split())


def heading(name: str) -> str:
    """A column's heading: times lose their unit, which the printed value shows."""
    return name.removesuffix("_ms").replace("_", " ")


def print_rows(rows: Iterable[Row], columns: Sequence[str], output: str) -> int:
    """Print rows; `columns` are those of the table. JSON lines leave as they come. Returns how many there were."""
    if output == "jsonl":
        count = 0
        for row in rows:
            click.echo(dumps(row))
            count += 1
        return count
    gathered = list(rows)
    if output == "json":
        click.echo(dumps(gathered, indent=2))
        return len(gathered)
    lines = [
        [*(cell(name, row.get(name)) for name in columns[:-1]), cell(columns[-1], row.get(columns[-1]), MAX_LAST)]
        for row in gathered
    ]
    headings = [heading(name) for name in columns]
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    for line in [headings, *lines]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    return len(gathered)


class RowStream:
    """Prints rows as they come: lines of a table and JSON lines at once, JSON as one array. Holds a page at most."""

    def __init__(self, columns: Sequence[str], output: str) -> None:
        self.count = 0
        self._columns = columns
        self._output = output
        self._widths = [len(heading(name)) for name in columns]
        self._held: list[list[str]] = [[heading(name) for name in columns]]

    def row(self, row: Row) -> None:
        """Print one more."""
        self.count += 1
        if self._output == "table":
            self._held.append([cell(name, row.get(name)) for name in self._columns])
            if len(self._held) > PAGE:
                self._flush()
        elif self._output == "jsonl":
            click.echo(dumps(row))
        else:
            text = dumps(row, indent=2).replace("\n", "\n  ")
            click.echo(("[" if self.count == 1 else ",") + f"\n  {text}", nl=False)

    def end(self) -> None:
        """There are no more."""
        if self._output == "table":
            self._flush()
        elif self._output == "json":
            click.echo("\n]" if self.count else "[]")

    def _flush(self) -> None:
        """A page of the table; its columns are as wide as those of the pages before it, or wider."""
        for column, texts in enumerate(zip(*self._held, strict=True)):
            self._widths[column] = max(self._widths[column], *map(len, texts))
        for line in self._held:
            click.echo("  ".join(text.ljust(width) for text, width in zip(line, self._widths, strict=True)).rstrip())
        self._held.clear()


def print_one(row: Row, output: str) -> None:
    """Print one object: a line a member in a table."""
    if output == "table":
        width = max(map(len, map(heading, row)), default=0)
        for name, value in row.items():
            text = line_of(name, value)
            if text:
                click.echo(f"{heading(name).ljust(width)}  {text}")
        return
    click.echo(dumps(row, indent=2 if output == "json" else None))


def print_value(value: Any, output: str) -> None:
    """Print a result: text as it is in a table, else as JSON."""
    if output == "table" and isinstance(value, str):
        click.echo(value)
    else:
        click.echo(dumps(value, indent=None if output == "jsonl" else 2))


def confirmed(question: str) -> bool:
    """What somebody answers on the terminal. Raises UsageError when nobody can be asked."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
            raise
        raise click.UsageError("nobody is there to be asked: give --yes") from None


def say(text: str) -> None:
    """Something about the work, for people: to stderr."""
    click.echo(text, err=True)


class Progress:
    """One changing line on stderr; on no terminal, a line whenever the text changes."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ""

    def show(self, text: str) -> None:
        """Show `text` instead of what was shown."""
        if text == self._last:
            return
        if self._live:
            width = shutil.get_terminal_size().columns
            click.echo("\r\x1b[2K" + text[: width - 1], err=True, nl=False)
        else:
            click.echo(text, err=True)
        self._last = text

    def clear(self) -> None:
        """Leave a clean line."""
        if self._live and self._last:
            click.echo("\r\x1b[2K", err=True, nl=False)
        self._last = ""
