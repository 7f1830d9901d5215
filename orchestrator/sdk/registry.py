"""What an application defines: steps, workflows and their versions, declared errors, objects of method steps."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

from ..codec.payloads import Adapter
from ..errors import CompensationFailed, ConfigurationError, WorkflowFailed
from .entity import EntityCode
from .limits import Limit
from .step import StepCode
from .workflow import WorkflowCode


class Declared:
    """What values of a name may be: modules of one application may declare it with different types."""

    def __init__(self) -> None:
        self._adapters: dict[str, dict[str, Adapter[Any]]] = {}

    def add(self, name: str, adapter: Adapter[Any]) -> None:
        """The same type again changes nothing."""
        self._adapters.setdefault(name, {})[repr(adapter.hint)] = adapter

    def of(self, name: str) -> list[Adapter[Any]]:
        """The types of a name; empty if it is not declared."""
        return list(self._adapters.get(name, {}).values())


class Registry:
    """Filled by decorators at import, read by engines and workers."""

    def __init__(self) -> None:
        self.errors: dict[str, type[BaseException]] = {
            "WorkflowFailed": WorkflowFailed,
            "CompensationFailed": CompensationFailed,
        }
        self.entities: dict[str, EntityCode] = {}
        self.limits: dict[str, Limit] = {}
        self.signals = Declared()
        self.events = Declared()
        self.image = ""
        """The digest of the image that this process runs in, as its deployment says."""
        self._steps: dict[str, StepCode] = {}
        self._workflows: dict[str, dict[int, WorkflowCode]] = {}

    def step(self, name: str) -> StepCode | None:
        """A step by name."""
        return self._steps.get(name)

    def workflow(self, workflow_type: str, version: int = 0) -> WorkflowCode | None:
        """A workflow's version; 0 is the newest."""
        versions = self._workflows.get(workflow_type)
        if not versions:
            return None
        return versions.get(version or max(versions))

    def steps(self) -> Iterator[StepCode]:
        """All steps."""
        return iter(self._steps.values())

    def workflows(self) -> Iterator[WorkflowCode]:
        """All versions of all workflows."""
        return (code for versions in self._workflows.values() for code in versions.values())

    def add_step(self, code: StepCode) -> None:
        """The same module and name registers again (a notebook's cell); another module's is an error."""
        self._check_same("step", code.name, self._steps.get(code.name), code)
        self._steps[code.name] = code

    def add_workflow(self, code: WorkflowCode) -> None:
        """See `add_step`."""
        versions = self._workflows.setdefault(code.workflow_type, {})
        self._check_same("workflow", code.workflow_type, versions.get(code.version), code)
        versions[code.version] = code

    def add_error(self, cls: type[BaseException]) -> None:
        """An error that crosses the log as itself."""
        if not issubclass(cls, Exception) or hasattr(builtins, cls.__name__):
            raise ConfigurationError(f"error {cls.__name__}: derive it from Exception, and give it a name of its own")
        known = self.errors.get(cls.__name__)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigurationError(
                f"error {cls.__name__} is declared in {known.__module__} already: names must differ"
            )
        self.errors[cls.__name__] = cls

    def add_entity(self, code: EntityCode) -> None:
        """See `add_step`."""
        known = self.entities.get(code.name)
        if known is not None and known.cls.__module__ != code.cls.__module__:
            raise ConfigurationError(
                f"entity {code.name!r} is defined in {known.cls.__module__} and again in {code.cls.__module__}: give"
                " one of them another name"
            )
        self.entities[code.name] = code

    def bind(self, obj: object) -> None:
        """The object whose methods are steps in this process. Never serialised."""
        classes = {cls.__qualname__ for cls in type(obj).__mro__}
        found = [code for code in self._steps.values() if code.is_method and code.owner in classes]
        if not found:
            raise ConfigurationError(f"{type(obj).__name__} has no step methods: decorate one with @app.step")
        for code in found:
            code.bound = obj

    def check(self) -> None:
        """Every hint resolves. Raises MissingHint; engines call it before they start."""
        for step in self._steps.values():
            _ = step.signature
        for workflow in self.workflows():
            _ = workflow.signature
            if workflow.is_handler and workflow.entity is None:
                raise ConfigurationError(
                    f"{workflow.workflow_type} is a handler of a class without @app.entity: decorate the class"
                )
        for entity in self.entities.values():
            _ = entity.adapter

    @staticmethod
    def _check_same(kind: str, name: str, known: Any, code: Any) -> None:
        if known is not None and known.fn.__module__ != code.fn.__module__:
            raise ConfigurationError(
                f"{kind} {name!r} is defined in {known.fn.__module__} and again in {code.fn.__module__}: give one"
                f" of them"
                " another name="
            )
