"""A storm of members: engines join a group and leave it, in order, in the middle of their leaving, and by SIGKILL.

One engine stays through it all, under load; then the oracle judges. `python -m tests.faults.storm --rounds 30`, whose
last line is one JSON object; the exit code is 1 if anything was lost, happened twice, or no partition ever moved.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from orchestrator.devkafka import DevKafka
from tests.faults.campaign import Campaign, Found, Site

WAYS = ("in order", "killed while it leaves", "killed")
PROTOCOLS = ("consumer", "classic")
OWNS_WITHIN_S = 60.0
LEAVES_WITHIN_S = 60.0


class Weather(NamedTuple):
    """What a storm was: how members left, and how many claims those made that came and went."""

    found: Found
    left: Counter[str]
    claims: int


class Storm(Campaign):
    """The engine that stays is number 0; the others have states of their own."""

    def play(self, rounds: int) -> Weather:
        """Let so many members come and go, let everything finish, judge."""
        left: Counter[str] = Counter()
        living = [self._engine(0, "", "thread")]
        try:
            self.wait(lambda: ": claim " in self._said(0), living[0], "the first engine owns a partition")
            for number in range(1, rounds + 1):
                living.append(self._engine(number, "", "thread", f"state-{number}"))
                way = WAYS[number % len(WAYS)]
                self.come_and_go(living, number, way)
                left[way] += 1
            self._until_ended(living[0], 0)
            living[0].terminate()
            assert living[0].wait(LEAVES_WITHIN_S) == 0, self._said(0)
        finally:
            for engine in living:
                engine.kill()
                engine.wait(30)
            self._transport.close()
        claims = sum(self._log_of(number).read_text("utf-8", "replace").count(": claim ") for number in left_by(rounds))
        return Weather(self._judge(), left, claims)

    def come_and_go(self, living: list[subprocess.Popen[bytes]], number: int, way: str) -> None:
        """A member comes; every third one goes before anything is its own."""
        newest = living[-1]
        if number % 3 or number <= len(WAYS):
            self.wait(lambda: ": claim " in self._said(number), living[0], f"engine {number} owns a partition")
        else:
            self.feed(1)
            time.sleep(self.rng.uniform(0.5, 2.5))
        if way != "killed":
            newest.terminate()
        if way == "killed while it leaves":
            time.sleep(self.rng.uniform(0.0, 0.5))
        if way != "in order":
            newest.kill()
        code = newest.wait(LEAVES_WITHIN_S)
        # One that was asked to end before it had set up its handlers ends by the signal.
        assert way != "in order" or code in (0, -15), (code, self._said(number))

    def wait(self, holds: Callable[[], bool], stays: subprocess.Popen[bytes], what: str) -> None:
        """Wait for something, while callers go on."""
        deadline = time.monotonic() + OWNS_WITHIN_S
        while not holds():
            assert stays.poll() is None, self._said(0)
            assert time.monotonic() < deadline, (what, self._said(0))
            self.feed(1)
            time.sleep(0.3)


def left_by(rounds: int) -> range:
    """Numbers of the engines that came and went."""
    return range(1, rounds + 1)


def play(bootstrap: str, directory: Path, seed: int, protocol: str, rounds: int) -> Weather:
    """A storm over an application of its own."""
    app = f"storm-{uuid.uuid4().hex[:6]}"
    site = Site(bootstrap, app, directory / app, "group", protocol)
    return Storm(site, random.Random(f"{seed}/{protocol}")).play(rounds)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="members that come and go, for each protocol")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    said: dict[str, object] = {"seed": options.seed, "rounds": options.rounds}
    wrong = False
    with tempfile.TemporaryDirectory() as directory, DevKafka.start(nodes=1) as kafka:
        for protocol in PROTOCOLS:
            found, left, claims = play(kafka.bootstrap, Path(directory), options.seed, protocol, options.rounds)
            wrong = wrong or bool(found.verdict.anomalies or found.open_transactions) or not claims
            print(found.verdict.text(), flush=True)
            said[protocol] = {
                "left": dict(left),
                "claims": claims,
                "runs": found.expected,
                "lost": found.verdict.lost,
                "duplicated": found.verdict.duplicated,
                "anomalies": len(found.verdict.anomalies),
            }
    print(json.dumps(said))
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
