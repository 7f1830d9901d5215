"""Which Python files changed, for `orchestrator dev --reload`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

IGNORED = frozenset({"__pycache__", "node_modules", "site-packages"})


class SourceWatch:
    """The Python files below a directory; environments, hidden directories and caches are left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = self._stamps()

    def changed(self) -> list[Path]:
        """Files that came, went or changed since the last call, sorted."""
        now = self._stamps()
        before, self._seen = self._seen, now
        return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))

    def _stamps(self) -> Mapping[Path, tuple[int, int]]:
        return dict(_stamps(self._root))


def _stamps(root: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for folder, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name not in IGNORED and not Path(folder, name, "pyvenv.cfg").exists()
        ]
        for name in files:
            if name.endswith(".py"):
                path = Path(folder, name)
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    # An editor replaces files by renaming: the next look finds the new one.
                    continue
                yield path, (stat.st_mtime_ns, stat.st_size)


def complaint(paths: list[Path]) -> str:
    """What is wrong with the first of `paths` that Python cannot parse, or nothing."""
    for path in paths:
        try:
            compile(path.read_bytes(), str(path), "exec")
        except FileNotFoundError:
            continue
        except (SyntaxError, ValueError) as error:
            return f"{path}:{getattr(error, 'lineno', '?')}: {getattr(error, 'msg', error)}"
    return ""
