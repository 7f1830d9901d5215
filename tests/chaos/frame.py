"""Slices of a campaign: turns by class in processes of their own, a JSON report a slice, and all slices merged."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka

from tests.chaos.plugs import Plug
from tests.chaos.tally import MOST_ANOMALIES, Tally
from tests.faults.campaign import ROOT

MOST_MINUTES = 50.0
HANGS_AFTER = 6
"""A turn that takes so many times as long as its class does is ended, and that is an anomaly."""
LEAST_PATIENCE_S = 900.0
GOALS = {"kills": 1_000, "runs": 50_000, "steps": 500_000}


@dataclass
class Turn:
    """One turn of a class, and what it came to."""

    plug: str
    seed: int
    seconds: float
    tally: Tally

    def said(self) -> dict[str, Any]:
        """As JSON."""
        return {"class": self.plug, "seed": self.seed, "seconds": round(self.seconds, 1), **self.tally.said()}

    @classmethod
    def heard(cls, said: Mapping[str, Any]) -> Turn:
        """From JSON."""
        rest = {name: value for name, value in said.items() if name not in ("class", "seed", "seconds")}
        return cls(said["class"], said["seed"], said["seconds"], Tally.heard(rest))


@dataclass(frozen=True)
class Campaign:
    """A directory of slices. `plugs`: classes that take turns; each turn's seed comes from `seed` and its number."""

    directory: Path
    plugs: Mapping[str, Plug]
    seed: int
    scale: float = 1.0

    def reports(self) -> list[dict[str, Any]]:
        """Of every slice so far, in order."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.directory.glob("slice-*.json"))]

    def turns(self) -> list[Turn]:
        """Of every slice so far."""
        return turns_of(self.reports())

    def next(self, turns: list[Turn], left_s: float) -> Plug | None:
        """Whose turn it is: the class furthest behind its share of the time, of those that fit into what is left."""
        spent: Counter[str] = Counter()
        for turn in turns:
            spent[turn.plug] += turn.seconds
        fit = [plug for plug in self.plugs.values() if self.takes_s(plug, turns) <= left_s]
        return min(fit, key=lambda plug: spent[plug.name] / plug.share, default=None)

    def takes_s(self, plug: Plug, turns: list[Turn]) -> float:
        """How long a turn of a class takes: the longest so far, or what the class says."""
        measured = [turn.seconds for turn in turns if turn.plug == plug.name]
        return max(measured, default=plug.takes_s * min(1.0, self.scale))

    def slice(self, minutes: float, most: int = 0) -> list[Turn]:
        """Play turns until the time is over, `most` at most (0: any number).

        Each is kept as it ends: a slice that is killed loses its last turn.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + 60 * min(minutes, MOST_MINUTES)
        before = self.turns()
        one = Slice(self, 1 + len(self.reports()), before)
        try:
            while (plug := self.next(before + one.turns, until - time.monotonic())) is not None:
                one.play(plug)
                if len(one.turns) == most:
                    break
        finally:
            one.close()
        return one.turns


@dataclass
class Slice:
    """One sitting: its number, its broker, its turns."""

    campaign: Campaign
    number: int
    before: list[Turn]
    turns: list[Turn] = field(default_factory=list)
    began: float = field(default_factory=time.time)
    _broker: Any = None

    def play(self, plug: Plug) -> None:
        """One turn, in a process group of its own that ends with it."""
        count = len(self.before) + len(self.turns)
        seed = (self.campaign.seed * 1_000_003 + count) % 2**31
        directory = self.campaign.directory / f"turn-{count:05d}-{plug.name}"
        directory.mkdir(exist_ok=True)
        words = ["--turn", plug.name, "--seed", str(seed), "--scale", str(self.campaign.scale)]
        print(f"python -m tests.chaos {' '.join(words)}", flush=True)
        words += ["--directory", str(directory), "--bootstrap", self._bootstrap() if plug.needs_broker else ""]
        patience = max(LEAST_PATIENCE_S, HANGS_AFTER * self.campaign.takes_s(plug, self.before + self.turns))
        began = time.monotonic()
        with (directory / "said").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
            finally:
                _end(process)
        tally = tally_of(directory, process.returncode)
        turn = Turn(plug.name, seed, time.monotonic() - began, tally)
        self.turns.append(turn)
        print(f"  {turn.seconds:.0f} s: {_brief(tally)}", flush=True)
        self._write()

    def _bootstrap(self) -> str:
        """Of the slice's own broker of one node, which is started when first asked for."""
        if self._broker is None:
            from orchestrator.devkafka import DevKafka

            self._broker = DevKafka.start()
        return str(self._broker.bootstrap)

    def _write(self) -> None:
        report = {
            "slice": self.number,
            "seed": self.campaign.seed,
            "scale": self.campaign.scale,
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.began)),
            "seconds": round(time.time() - self.began),
            "load": round(os.getloadavg()[2], 1),
            "versions": versions(),
            "turns": [turn.said() for turn in self.turns],
        }
        path = self.campaign.directory / f"slice-{self.number:03d}.json"
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(report, indent=1), encoding="utf-8")
        aside.replace(path)

    def close(self) -> None:
        """End the broker."""
        if self._broker is not None:
            self._broker.stop()
            self._broker = None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of a turn outlives it: stopped engines of a turn that failed would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def tally_of(directory: Path, code: int) -> Tally:
    """What a turn wrote down, or that it could not."""
    report = directory / "tally.json"
    if report.exists():
        return Tally.heard(json.loads(report.read_text(encoding="utf-8")))
    said = (directory / "said").read_text("utf-8", "replace")[-3000:]
    what = "did not end in time" if code == -signal.SIGKILL else f"ended with code {code}"
    return Tally(anomalies=[f"{directory.name} {what}: {said}"])


def _brief(tally: Tally) -> str:
    wrong = f"; {len(tally.anomalies)} ANOMALIES: {tally.anomalies[0][:300]}" if tally.anomalies else ""
    return f"{tally.kills} kills, {tally.runs} runs, {tally.steps} steps, {dict(tally.faults)}{wrong}"


def versions() -> dict[str, str]:
    """Of everything that a figure depends on."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = ""
    with contextlib.suppress(FileNotFoundError):
        commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    lock = (ROOT / "orchestrator/devkafka/kafka.lock").read_text(encoding="ascii")
    kafka = re.search(r"org\.apache\.kafka:kafka_\S*:(\S+)", lock)
    return {
        "commit": commit,
        "python": platform.python_version(),
        "kafka": kafka[1] if kafka else "",
        "confluent-kafka": version("confluent-kafka"),
        "librdkafka": confluent_kafka.libversion()[0],
        "rocksdict": version("rocksdict"),
        "processors": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
    }


def turns_of(reports: Iterable[Mapping[str, Any]]) -> list[Turn]:
    """All that slices played."""
    return [Turn.heard(turn) for report in reports for turn in report["turns"]]


def merge(plugs: Mapping[str, Plug], reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The whole campaign so far: sums, faults by class, what never fired, and of what state of the code it all is."""
    turns = turns_of(reports)
    total = Tally()
    faults: dict[str, Counter[str]] = {name: Counter() for name in plugs}
    for turn in turns:
        total.add(turn.tally)
        faults.setdefault(turn.plug, Counter()).update(turn.tally.faults)
    return {
        "slices": len(reports),
        "turns": len(turns),
        "minutes": round(sum(turn.seconds for turn in turns) / 60, 1),
        "seeds": sorted({report["seed"] for report in reports}),
        "versions": {name: sorted({report["versions"][name] for report in reports})
                     for name in (reports[0]["versions"] if reports else ())},
        "kills": total.kills,
        "runs": total.runs,
        "steps": total.steps,
        "faults": {name: dict(sorted(found.items())) for name, found in sorted(faults.items())},
        "lost": total.lost,
        "duplicated": total.duplicated,
        "anomalies": len(total.anomalies),
        "first_anomalies": total.anomalies[:MOST_ANOMALIES],
        "failed_turns": [f"--turn {turn.plug} --seed {turn.seed}" for turn in turns if turn.tally.anomalies],
        "classes_never_fired": [name for name in plugs if not faults[name]],
        "faults_never_fired": [f"{name}: {fault}" for name, plug in plugs.items() for fault in plug.faults
                               if not faults[name][fault]],
        "short_of_goals": {name: f"{getattr(total, name)} of {goal}" for name, goal in GOALS.items()
                           if getattr(total, name) < goal},
    }  # fmt: skip


def sound(merged: Mapping[str, Any]) -> bool:
    """Nothing is wrong, and no fault that was announced stayed away."""
    wrong = ("lost", "duplicated", "anomalies", "classes_never_fired", "faults_never_fired")
    return not any(merged[name] for name in wrong)
