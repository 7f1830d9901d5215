"""What decisions may know of the code that this engine has."""

from __future__ import annotations

from ..core.decide.decision import Known
from ..core.values import LimitNeed, Payload
from ..sdk.registry import Registry
from ..store.blobs import Blobs
from ..store.large import bytes_of


class KnownCode:
    """Versions of workflows, and limits, by what a release declares."""

    def __init__(self, registry: Registry, blobs: Blobs | None) -> None:
        self._registry = registry
        self._blobs = blobs

    def code_of(self, workflow_type: str, version: int) -> Known | None:
        """Which version a new run would be pinned to here."""
        code = self._registry.workflow(workflow_type, version)
        if code is None:
            return None

        def limits(arguments: Payload, priority: int) -> tuple[LimitNeed, ...]:
            return code.needs(self._read(arguments, workflow_type) if code.limits else arguments, priority)

        return Known(code.version, code.identity, limits)

    def limit_of(self, name: str) -> LimitNeed | None:
        """A limit as it is declared here."""
        limit = self._registry.limits.get(name)
        return None if limit is None else limit.need

    def _read(self, arguments: Payload, workflow_type: str) -> Payload:
        return bytes_of(arguments, self._blobs, f"the arguments of {workflow_type}")
