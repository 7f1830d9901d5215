"""A process of an audit: `python -m orchestrator.projections.audit_process`, which audits the partitions it is told of.

Started by `audit_jobs`, never by hand. A line on standard input is a partition to audit; standard output has what
`audit_lines` says. It ends when its standard input does: whoever asked is gone, or has no more.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from .audit_job import audit_partition
from .audit_lines import audit_line, error_line, job_of, progress_line

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until standard input ends, or an audit does with an error."""
    answers = os.dup(1)
    # Whatever else is printed in this process is no answer.
    os.dup2(2, 1)
    asked: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), name="asked", daemon=True).start()

    def tell(line: bytes) -> None:
        while line:
            line = line[os.write(answers, line) :]

    # Otherwise nobody listens any more.
    with suppress(BrokenPipeError):
        while _serve(asked.get(), tell):
            pass


def _listen(asked: SimpleQueue[bytes]) -> None:
    """Hand over the lines. An audit whose reader is gone ends at once, in the middle of a partition too."""
    for line in sys.stdin.buffer:
        asked.put(line)
    os._exit(0)


def _serve(line: bytes, tell: Callable[[bytes], None]) -> bool:
    """Audit one partition; whether another may come."""
    try:
        job, scratch = job_of(line)
        logging.basicConfig(level=job.settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        tell(audit_line(audit_partition(job, scratch, lambda done: tell(progress_line(done)))))
    except BrokenPipeError:
        raise
    except Exception as error:
        log.debug("the audit of a partition failed", exc_info=True)
        tell(error_line(error))
        return False
    return True


if __name__ == "__main__":
    main()
