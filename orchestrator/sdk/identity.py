"""Which code runs here: for messages and audits. Nothing is ever refused because it differs (design.md §7)."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from ..core.values import CodeIdentity

DISTRIBUTION = "durable-orchestrator"
NOT_INSTALLED = "not installed"


@functools.cache
def release() -> str:
    """The release of this distribution; `NOT_INSTALLED` when it is imported from somewhere without metadata."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def identity_of(fn: Callable[..., Any], image: str) -> CodeIdentity:
    """The code of a workflow. `image` is what the deployment said of itself; without it the wheel counts."""
    try:
        source = inspect.getsource(fn)
    except (OSError, TypeError):
        source = ""
    python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    digest = hashlib.sha256(source.encode()).hexdigest() if source else ""
    return CodeIdentity(digest, image or wheel_of(fn.__module__), release(), python)


@functools.cache
def wheel_of(module: str) -> str:
    """What the distribution that holds a module was installed from.

    `wheel:sha256:...` when the installer noted the archive's hash; else `record:sha256:...`, the hash of its RECORD,
    which has the hash of every file. "" for a checkout, an editable install, or a module that nobody installed.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    found = _holder(module, Path(file).resolve()) if file else None
    if found is None:
        return ""
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        origin = {}
    archive = origin.get("archive_info", {})
    digest = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
    if digest:
        return f"wheel:sha256:{digest}"
    record = found.read_text("RECORD")
    return f"record:sha256:{hashlib.sha256(record.encode()).hexdigest()}" if record else ""


def _holder(module: str, file: Path) -> metadata.Distribution | None:
    """The distribution whose RECORD names the file: a name alone could be that of a checkout beside an old install."""
    # Nothing is installed beside a checkout's code: then no distribution's list of files need be read.
    roots = [entry for entry in sys.path if file.is_relative_to(Path(entry).resolve())]
    if next(iter(metadata.distributions(path=roots)), None) is None:
        return None
    top = module.partition(".")[0]
    for name in metadata.packages_distributions().get(top, ()):
        found = metadata.distribution(name)
        root = Path(str(found.locate_file(""))).resolve()
        if file.is_relative_to(root) and file.relative_to(root) in (found.files or ()):
            return found
    return None
