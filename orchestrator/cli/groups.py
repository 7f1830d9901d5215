"""Groups whose commands are imported when they are used, so that `orchestrator --help` stays fast."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import click


class Later(NamedTuple):
    """A command to import: `where` is `module:attribute`, `help` its line in the list of commands."""

    where: str
    help: str

    def is_there(self) -> bool:
        """Whether its module is part of this installation."""
        return importlib.util.find_spec(self.where.partition(":")[0]) is not None

    def load(self) -> click.Command:
        """Import it."""
        module, _, attribute = self.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.where} is not a command")
        return command


class LazyGroup(click.Group):
    """A group that knows the names and help lines of its commands and imports the one that is called."""

    later: ClassVar[Mapping[str, Later]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted."""
        return sorted(
            {*super().list_commands(ctx), *(name for name, command in self.later.items() if command.is_there())}
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command named."""
        command = self.later.get(cmd_name)
        if command is None or not command.is_there():
            return super().get_command(ctx, cmd_name)
        return command.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As ever, but a slip of the keyboard is told the nearest command: click knows those alone that are loaded."""
        if self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.later.get(name)
            known = super().get_command(ctx, name)
            rows.append((name, command.help if command else known.get_short_help_str(90) if known else ""))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
