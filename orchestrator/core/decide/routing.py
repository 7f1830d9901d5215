"""The decision to route by a new partition count."""

from __future__ import annotations

from ..commands import ChangeRouting, Command
from ..events import RoutingChanged
from ..routing import follows
from ..rows import META, ROUTING_KEY, RoutingRow
from .decision import Context, Draft, View, accepted, caused, rejected


def change_routing(view: View, command: Command, body: ChangeRouting, context: Context) -> list[Draft]:
    """A new epoch, once the topics have its partitions; asked again, it is fulfilled already."""
    row: RoutingRow = view.get(META, ROUTING_KEY)
    if body.epochs == row.epochs:
        return accepted(command, context, "already_changed", f"routed by {row.epochs[-1]} partitions already", "")
    if not follows(row.epochs, body.epochs):
        message = (
            f"this log was routed by the counts {_words(row.epochs)}, which {_words(body.epochs)} does not follow:"
            " counts are added at the end, each larger than the one before"
        )
        return rejected(command, context, "other_epochs", message)
    count = body.epochs[-1]
    if count > context.partitions:
        message = f"the topics have {context.partitions} partitions, not {count}: orchestrator topics grow {count}"
        return rejected(command, context, "no_such_partitions", message)
    changed = RoutingChanged(count, body.epochs, command.actor, command.reason)
    return [Draft("", "", changed, caused(command, context))]


def _words(epochs: tuple[int, ...]) -> str:
    return ", ".join(map(str, epochs))
