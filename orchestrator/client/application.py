"""The application as its code names it: what `sdk` knows of it, and the way to call it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from ..sdk.app import Orchestrator as Application

if TYPE_CHECKING:
    from ..config import Settings
    from .client import Client
    from .requests import ClientOptions


class Orchestrator(Application):
    """An application. Its name `[a-z0-9-]+` begins the names of its topics, group and transactional ids."""

    def connect(
        self, settings: Settings | None = None, *, options: ClientOptions | None = None
    ) -> AbstractAsyncContextManager[Client]:
        """A client of this application, for the time of an `async with` block; settings come from the environment.

        Raises KafkaUnavailable when no broker answers, ConfigurationError when the application's topics are missing.
        """
        from .client import Client
        from .requests import DEFAULT_OPTIONS

        return Client.connect(self, settings, options=options or DEFAULT_OPTIONS)
