"""What a run's code is asked between its turns: queries, and whether it takes an update. Both only read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from ..codec.payloads import Signature
from ..core.values import NOTHING, Payload
from .loop import Evicted, RunLoop
from .messages import Mailbox
from .unchanged import Variables
from .updates import UpdateHandler
from .workflow import WorkflowCode


class Talk:
    """The handlers of one run in memory. `object` is the class form's, once the run has begun.

    `spoilt`: a handler that may only read has changed a variable. The run in memory is no longer what its history made
    of it, and must not go on.
    """

    def __init__(self, code: WorkflowCode, mailbox: Mailbox, loop: RunLoop) -> None:
        self.object: Any = None
        self.spoilt = False
        self._shared = code.fn.__closure__ or ()
        self._handlers = code.handlers
        self._mailbox = mailbox
        self._loop = loop

    def update(self, name: str) -> UpdateHandler | None:
        """How the run answers this kind of update now."""
        method = self._handlers.updates.get(name)
        return self._mailbox.updates.get(name) if method is None else method.on(self.object)

    def query(self, name: str, arguments: Payload) -> Payload:
        """Answer a query. Raises what the handler raises; one that would change state raises too."""
        handler = self._handlers.queries.get(name)
        answer = self._mailbox.answers.get(name)
        if handler is None and answer is None:
            known = sorted({*self._handlers.queries, *self._mailbox.answers})
            raise LookupError(f"no query {name!r}; this run answers {', '.join(known) or 'none'}")
        asked = answer[0] if answer is not None else None
        with self._reading(f"query {name!r} would change the run: queries only read", asked):
            if handler is not None:
                signature = handler_signature(handler)
                args, kwargs = signature.unbind(arguments if arguments != NOTHING else Payload(data=b"{}"))
                return signature.result.encode(handler(self.object, *args, **kwargs))
            assert answer is not None
            ask, kind = answer
            return kind.encode(ask())

    def judge(self, name: str, payload: Payload) -> Payload:
        """Let the code judge an update before it is accepted; it says nothing if it may be.

        Raises what the validator raises, LookupError when the code takes no such update, DoesNotRoundTrip when the
        payload is not of its type.
        """
        handler = self.update(name)
        if handler is None:
            known = sorted({*self._handlers.updates, *self._mailbox.updates})
            raise LookupError(f"no update {name!r}; this run takes {', '.join(known) or 'none'}")
        args, kwargs = handler.unbind(payload)
        if handler.validator is not None:
            what = f"the validator of update {name!r} would change the run: validators only read"
            with self._reading(what, handler.validator):
                handler.validator(*args, **kwargs)
        return NOTHING

    @contextlib.contextmanager
    def _reading(self, refusal: str, function: Any) -> Iterator[None]:
        """Within this, whatever durable the code asks for is refused; so is, afterwards, a change of its variables."""
        loop, variables = self._loop, Variables((self.object, function), self._shared)
        previous = asyncio._get_running_loop()
        asyncio._set_running_loop(loop)
        loop.evicting, before, numbers = True, list(loop.commands), loop.numbers
        try:
            yield
        except Evicted:
            raise PermissionError(refusal) from None
        finally:
            loop.evicting, loop.commands, loop.numbers = False, before, numbers
            asyncio._set_running_loop(previous)
            self.spoilt = not variables.are_as_they_were()
        if self.spoilt:
            raise PermissionError(refusal)


def handler_signature(handler: Any) -> Signature:
    """A handler's parameters and result, built once."""
    found: Signature | None = getattr(handler, "__signature_of__", None)
    if found is None:
        found = handler.__signature_of__ = Signature(handler, skip_self=True)
    return found
