"""Changes of workflow code under runs that are open: `patched` chooses the side by what the run's history says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.commands import RecordPatch
from ..errors import ConfigurationError
from .loop import call_site, running_loop

if TYPE_CHECKING:
    from .turn import LiveRun


def patched(patch: str) -> bool:
    """Whether this run takes the new side of a change: True (recorded) where no history says otherwise.

    A run that was past this line before the change came takes the old side, here and wherever it asks again. Raises
    ConfigurationError outside of workflow code.
    """
    return _side(patch, deprecated=False)


def deprecate_patch(patch: str) -> None:
    """In the place of `patched(patch)` once no open run takes the old side.

    What it records may be read by code that does not know the patch any more, so that the next release can remove it.
    """
    _side(patch, deprecated=True)


def _side(patch: str, *, deprecated: bool) -> bool:
    loop = running_loop()
    if loop is None:
        raise ConfigurationError(f"patch {patch!r} belongs in workflow code")
    if not patch:
        raise ConfigurationError("a patch needs a name")
    run: LiveRun = loop.run  # type: ignore[assignment]
    side = run.patches.get(patch)
    if side is not None:
        return side
    if loop.evicting:
        # In a query, which may not record anything: the run has not asked yet.
        return False
    side = run.patches[patch] = not run.replaying or patch in run.recorded_patches
    if side:
        loop.issue(RecordPatch(patch, deprecated, call_site()))
    return side
