"""Engine processes of the benchmark: started, waited for, killed, ended; none is left when the benchmark has ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.devkafka import DevKafka

WAIT_S = 60.0
ROOT = Path(__file__).resolve().parent.parent


class EngineProcess:
    """`orchestrator engine run` with a state directory and a log file of its own.

    Its stdin is held by this process, with which it ends, however that ends; Ctrl-C is for this process alone.
    """

    begun: ClassVar[list[EngineProcess]] = []

    def __init__(
        self, environment: Mapping[str, str], directory: Path, port: int, app: str = "benchmarks.load_app:app"
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.log = directory / "engine.log"
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli.main", "engine", "run", "--owned"],
                env={
                    **os.environ,
                    **environment,
                    "PYTHONPATH": str(ROOT),
                    "ORCHESTRATOR_APP": app,
                    "ORCHESTRATOR_STATE_DIR": str(directory / "state"),
                    "ORCHESTRATOR_HEALTH_PORT": str(port),
                },
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.begun.append(self)

    def wait_ready(self, partitions: int = 1) -> None:
        """Until it owns at least `partitions`."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            health = self.health()
            if health is not None and health["ok"] and len(health["partitions"]) >= partitions:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"the engine is not ready; its log ends:\n{self.log.read_text()[-2000:]}")

    def health(self) -> dict[str, Any] | None:
        """What its probe says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            refused: dict[str, Any] = json.load(error)
            return refused
        except OSError:
            return None

    def peak_mb(self) -> float:
        """The most memory that it has had, in MB (elsewhere than on Linux: what it has now)."""
        status = Path(f"/proc/{self._process.pid}/status")
        if status.exists():
            (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            return int(line.split()[1]) / 1024
        words = ["ps", "-o", "rss=", "-p", str(self._process.pid)]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout) / 1024

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def terminate(self, wait: bool = True) -> None:
        """SIGTERM."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            if wait:
                self._process.wait(WAIT_S)


@contextlib.contextmanager
def site(say: Callable[[str], None]) -> Iterator[tuple[DevKafka, Path]]:
    """A broker and a directory for a benchmark. On SIGTERM and Ctrl-C its engines end first, then the broker."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with tempfile.TemporaryDirectory() as scratch, DevKafka.start(progress=say) as kafka:
        try:
            yield kafka, Path(scratch)
        finally:
            for engine in EngineProcess.begun:
                engine.kill()


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)
