"""An engine that was frozen past every time-out wakes up: what it holds is void, and it stops or claims anew."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core import events as e
from orchestrator.devkafka import DevKafka
from orchestrator.log.lanes import TRANSACTION_S
from tests.faults.campaign import PARTITIONS, Campaign, Found, Site
from tests.oracle.raw import READ_COMMITTED, RawRecord, open_transactions

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE_S = 90.0
SESSION_S = 6.0
HELD_S = 20.0


class Frozen(Campaign):
    """Two engines of one application; the first waits before a commit, and is stopped with that transaction open."""

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for something, while callers go on."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, (what, self._said(0), self._said(1))
            time.sleep(0.3)
            self.feed(1)

    def play(self) -> Found:
        """Freeze, take over, thaw, finish, judge."""
        self.feed(3)
        engines = [self._engine(0, f"gate:20:sleep={HELD_S}", "thread", "frozen")]
        try:
            self.until(lambda: self._fire_log.exists() and self._fire_log.stat().st_size, "the first engine waits")
            held = time.monotonic()
            self.until_held()
            os.kill(engines[0].pid, signal.SIGSTOP)
            frozen = time.monotonic()
            engines.append(self._engine(1, "", "thread"))
            self.until(lambda: self._said(1).count(": claim ") == 2, "the second engine owns both partitions")
            # Its wait, too: it comes back within the commit, and not to a drain that waits for it in vain.
            over = max(held + HELD_S, frozen + max(TRANSACTION_S, SESSION_S)) + 1
            self.until(lambda: time.monotonic() > over, "every time-out is over")
            before = self.claims()
            os.kill(engines[0].pid, signal.SIGCONT)
            self.until(lambda: self.woke(before), "the first engine noticed")
            self.drain(engines[0])
            self.until_done(engines[1])
            self.drain(engines[1])
        finally:
            for engine in engines:
                engine.kill()
                engine.wait(30)
            self._transport.close()
        return self._judge()

    def until_held(self) -> None:
        """Wait until the broker holds records of the transaction that is not committed: produced is not yet sent.

        A transaction that is found open three times, with no new load, is the one that waits.
        """
        deadline = time.monotonic() + HELD_S
        seen: list[set[int]] = []
        while len(seen) < 3 or not set.intersection(*seen[-3:]):
            assert time.monotonic() < deadline, (seen, self._said(0))
            seen.append(set(open_transactions(self.site.bootstrap, f"{self.site.app}.events")))
            time.sleep(0.3)

    def claims(self) -> Counter[int]:
        """Claims on the log, by the process that made them."""
        found = (self.codec.decode_event(raw.key, raw.value).event.body for raw in self._all(self._events()))
        return Counter(body.pid for body in found if isinstance(body, e.PartitionClaimed))

    def _events(self) -> dict[int, list[RawRecord]]:
        return self._read("events", READ_COMMITTED)

    def woke(self, before: Counter[int]) -> bool:
        """Whether the thawed engine claimed anew, or said of each partition that it stops."""
        said = self._log_of(0).read_text(encoding="utf-8")
        return said.count("this engine stops working on it") == PARTITIONS or self.claims() != before

    def until_done(self, engine: subprocess.Popen[bytes]) -> None:
        """Wait until every run has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while left := self._unfinished():
            assert engine.poll() is None, self._said(1)
            assert time.monotonic() < deadline, (left[:5], self._said(0), self._said(1))
            time.sleep(0.5)

    def drain(self, engine: subprocess.Popen[bytes]) -> None:
        """Ask an engine to end, and wait until it has."""
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(60) == 0, (self._said(0), self._said(1))


@pytest.mark.parametrize(("membership", "protocol"), [("group", "consumer"), ("group", "classic"), ("static", "")])
def test_a_thawed_zombie_commits_nothing_of_what_it_held(
    kafka: DevKafka, tmp_path: Path, seed: int, membership: str, protocol: str
) -> None:
    """In a group, and with a static map that tells two processes to own the same partitions."""
    app = f"zombie-{uuid.uuid4().hex[:6]}"
    played = Frozen(Site(kafka.bootstrap, app, tmp_path, membership, protocol or "consumer"), random.Random(seed))
    found = played.play()
    assert not found.verdict.anomalies, found.verdict.text()
    assert (found.verdict.lost, found.verdict.duplicated) == (0, 0)
    assert found.verdict.totals["completed"] == found.expected
    assert found.verdict.totals["aborted_records"] >= 1, "the zombie held no transaction open"
    assert not found.open_transactions
    if membership == "static":
        # Nobody but a group can say that a partition is the zombie's again: it leaves both to the newer claims.
        assert "this engine stops working on it" in played._log_of(0).read_text(encoding="utf-8")
