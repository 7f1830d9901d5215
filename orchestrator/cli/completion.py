"""`orchestrator completion`: the script that teaches a shell to complete this command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, /, shell: str) -> None:
    """Print the completion script of SHELL.

    bash: eval "$(orchestrator completion bash)" in ~/.bashrc; zsh the same in ~/.zshrc;
    fish: orchestrator completion fish > ~/.config/fish/completions/orchestrator.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click completes no {shell}")
    click.echo(kind(context.find_root().command, {}, "orchestrator", "_ORCHESTRATOR_COMPLETE").source())
