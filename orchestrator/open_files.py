"""How many files and connections this process may have open: 64 partitions on one broker need over a thousand."""

from __future__ import annotations

import contextlib
import resource

OPEN_FILES = 65_536


def raise_open_files(limit: int = OPEN_FILES) -> None:
    """Allow this process, and those it starts from now on, many open files, as far as the hard limit lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    # macOS refuses more than its own maximum: then the old limit stays.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
