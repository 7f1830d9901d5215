"""`python -m examples.environment_audit`: the demo."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130


def run() -> int:
    """The demo's exit code, 130 after Ctrl-C (already while modules are being loaded)."""
    try:
        from .demo import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    code = run()
    if code == INTERRUPTED:
        # Everything has been stopped; a thread that still asks a stopped Kafka something must not hold us up.
        print("interrupted; nothing was left running", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)
