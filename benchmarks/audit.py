"""How fast `orchestrator audit verify` reads, and in how much memory; the last line is one JSON object.

The topic is made on the embedded Kafka and audited by the command itself, in a process of its own, from its start to
its exit. Memory is that of all its processes together, as the system counts it (shared pages in each of them); the
processor time of an event is theirs too, without the broker's.

    python -m benchmarks.audit --events 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.audit_log import PartitionLog, write
from orchestrator.devkafka import DevKafka
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import init_topics, topic_ids

APP = "bench-audit"
SAMPLE_S = 0.1


def say(text: str) -> None:
    """Progress, away from the figures."""
    print(text, file=sys.stderr, flush=True)


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _descendants(int(child))


def resident_mb(pid: int) -> float:
    """Memory of a process and all below it now, in MB; 0 where there is no /proc."""
    pages = 0
    for one in _descendants(pid):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Peak:
    """The most memory that a process and those below it had, sampled until it ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.mb = 0.0
        self._process = process
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while self._process.poll() is None:
            try:
                self.mb = max(self.mb, resident_mb(self._process.pid))
            except OSError:
                continue
            time.sleep(SAMPLE_S)

    def end(self) -> float:
        """The figure."""
        self._thread.join()
        return self.mb


def _children_s() -> float:
    """Processor time of the processes below this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def audit(bootstrap: str, level: str, jobs: int) -> dict[str, Any]:
    """One audit by the command; its figures."""
    command = [sys.executable, "-m", "orchestrator.cli.main", "--app-name", APP, "--bootstrap", bootstrap]
    command += ["audit", "verify", "--level", level, "--jobs", str(jobs), "--no-blobs", "--max-skew", "0", "-o", "json"]
    began, worked = time.perf_counter(), _children_s()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = Peak(process)
    out, _ = process.communicate()
    took = time.perf_counter() - began
    said = json.loads(out)
    if not said["ok"]:
        raise SystemExit(f"the log that was made is not whole: {said['findings'][:3]}")
    cpu = _children_s() - worked
    events = sum(part["events"] for part in said["partitions"])
    batches = sum(part["batches"] for part in said["partitions"])
    return {
        "events": events,
        f"{level}_events_per_s": round(events / took),
        f"{level}_records_per_s": round((events + batches) / took),
        f"{level}_s": round(took, 1),
        f"{level}_cpu_us_per_event": round(cpu / events * 1e6, 1),
        f"{level}_peak_mb": round(peak.end()),
    }


def make(bootstrap: str, given: argparse.Namespace) -> None:
    """The topic."""
    config = LogConfig(APP, bootstrap)
    init_topics(config, given.partitions)
    ids = topic_ids(config)
    share = given.events // given.partitions
    began = time.perf_counter()
    with ProcessPoolExecutor(given.jobs) as pool:
        work = [pool.submit(_write, bootstrap, number, ids, share, given.batch) for number in range(given.partitions)]
        made = sum(one.result() for one in work)
    say(f"{made:,} events were made in {time.perf_counter() - began:.0f} s")


def _write(bootstrap: str, number: int, ids: Any, events: int, batch: int) -> int:
    log = PartitionLog(number, ids.cluster_id, ids.commands, ids.events)
    return write(bootstrap, f"{APP}.events", log, events, batch)


def main() -> int:
    """Make the topic, audit it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16, help="events in a batch, at least")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of the audit")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts: other work is on the machine")
    given = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, DevKafka.start(directory=Path(scratch), progress=say) as kafka:
        make(kafka.bootstrap, given)
        for level in ("chain", "full"):
            rounds = [audit(kafka.bootstrap, level, given.jobs) for _ in range(given.rounds)]
            say(f"{level}: {[one[f'{level}_events_per_s'] for one in rounds]} events/s")
            figures |= min(rounds, key=lambda one: float(one[f"{level}_s"]))
    figures |= {
        **{name: getattr(given, name) for name in ("partitions", "batch", "jobs", "rounds")},
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
