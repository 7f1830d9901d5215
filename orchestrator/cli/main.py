"""The `orchestrator` command's first lines. Until Ctrl-C is heard in order they import next to nothing."""

from __future__ import annotations

import sys

from . import starting


def main(argv: list[str] | None = None, *, whole_process: bool = False) -> int:
    """Run one command line and return its exit code (docs/cli.md). Never raises, never prints a traceback unasked.

    Without `argv`, and with `whole_process`, the process is the command's own and ends when it returns.
    """
    ours = argv is None or whole_process
    if ours:
        starting.begin()
    from orchestrator.ending import Leaving

    from .root import run

    leaving = Leaving() if ours else None
    code = run(sys.argv[1:] if argv is None else argv)
    if leaving is not None:
        leaving.with_code(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
