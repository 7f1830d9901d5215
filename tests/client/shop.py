"""The application of the client's tests. Its code never runs here: the fake engine decides how runs end."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.sdk.app import Orchestrator
from orchestrator.sdk.messages import query, signal

app = Orchestrator("shop")
approved = app.signal("approved", bool)
progress = app.query("progress", dict[str, str])


@dataclass
class Receipt:
    """A result with a type of its own."""

    number: int
    note: str


@app.error
class CardDeclined(Exception):
    """A declared error."""


@app.workflow
async def order(order_id: str, items: list[str], *, cents: int = 1) -> Receipt:
    """A workflow with positional, defaulted and keyword arguments."""
    return Receipt(len(items), f"{order_id} {cents}")


@app.workflow(name="hello", version=3)
async def greet(who: str) -> str:
    """A workflow with another name, of a certain version."""
    return f"hello {who}"


class Approval:
    """The class form: handlers take typed arguments."""

    def __init__(self) -> None:
        self.by = ""

    @app.run
    async def run(self, what: str) -> bool:
        """Decide."""
        return bool(self.by)

    @signal
    def approve(self, by: str, *, loudly: bool = False) -> None:
        """Somebody decided."""
        self.by = by.upper() if loudly else by

    @query
    def asked(self, of: str) -> dict[str, str | dict[str, str]]:
        """What the fake engine was asked."""
        return {"asked": of}
