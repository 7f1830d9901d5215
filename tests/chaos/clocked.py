"""The command line with a wall clock that jumps: `CHAOS_CLOCK` is its kind, seed and the file that counts its jumps.

Every process of the engine reads the time through one class; it is replaced here before anybody has used it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from orchestrator.cli.main import main
from orchestrator.engine import partition, run
from tests.faults.clocks import JumpingClock

LOOKED_AT_S = 0.2


def _count(clock: JumpingClock, path: Path) -> None:
    """Write the jumps down beside the engine, now and then: it may be killed at any time."""
    while True:
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text("\n".join(f"{name}={count}" for name, count in clock.jumps.items()), encoding="utf-8")
        aside.replace(path)
        threading.Event().wait(LOOKED_AT_S)


if __name__ == "__main__":
    kind, seed, counts = os.environ["CHAOS_CLOCK"].split(":", 2)
    the_clock = JumpingClock(kind, int(seed))
    run.SystemClock = lambda: the_clock  # type: ignore[assignment, misc]
    # A partition that was released for its clock is looked at again soon: the campaign has no half minute for it.
    partition.SKEW_RETRY_S = 1.0
    threading.Thread(target=_count, args=(the_clock, Path(counts)), daemon=True).start()
    main()
