"""Steps in this process with fakes in their places: for the testing environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from orchestrator.errors import ConfigurationError
from orchestrator.sdk.execution import ExecutorOptions, Report

from .threads import ThreadExecutor


class Replaced:
    """An application, and its registry, in which some steps have another function. Signatures stay the originals'."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._fakes: dict[str, Any] = {}

    @property
    def registry(self) -> Replaced:
        """What steps are looked up in."""
        return self

    @property
    def errors(self) -> Mapping[str, type[BaseException]]:
        """The application's declared errors."""
        errors: Mapping[str, type[BaseException]] = self._app.registry.errors
        return errors

    def step(self, name: str) -> Any:
        """The step's code, with its fake if it has one; None if there is no such step."""
        return self._fakes.get(name) or self._app.registry.step(name)

    def replace(self, name: str, fake: Callable[..., Any]) -> None:
        """Run `fake` in the place of the step. A method step's fake gets no `self`. Raises ConfigurationError."""
        code = self._app.registry.step(name)
        if code is None:
            raise ConfigurationError(f"there is no step {name!r} to replace: name one that the application defines")
        self._fakes[name] = SimpleNamespace(
            fn=fake,
            name=name,
            options=code.options,
            isolation=code.isolation,
            loose=code.loose,
            signature=code.signature,
            is_method=False,
            bound=None,
        )

    def restore(self, name: str) -> None:
        """Run the step itself again."""
        self._fakes.pop(name, None)


class InlineExecutor(ThreadExecutor):
    """A `ThreadExecutor` whose steps can be replaced."""

    def __init__(self, app: Any, options: ExecutorOptions, report: Report) -> None:
        self._replaced = Replaced(app)
        super().__init__(self._replaced, options, report)

    def replace(self, name: str, fake: Callable[..., Any]) -> None:
        """From the next attempt on, `fake` (sync or async) runs in the place of the step. Raises ConfigurationError."""
        self._replaced.replace(name, fake)

    def restore(self, name: str) -> None:
        """From the next attempt on, the step itself runs again."""
        self._replaced.restore(name)
