"""What the demo starts besides Kafka and the model server: engines, and commands that end by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import OrchestratorError

ROOT = Path(__file__).resolve().parents[2]
GRACE_S = 5.0
KEPT = ("ORCHESTRATOR_KAFKA_", "ORCHESTRATOR_CACHE")
"""Settings of the caller's that hold for the demo too; all others would change what it shows."""
COMMAND_TIMEOUT_S = 120.0


class DemoFailed(OrchestratorError):
    """Something that the demo needs did not work; the message says what and where to look."""


def environment(**ours: str) -> dict[str, str]:
    """This process's environment with our settings in place of the caller's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ORCHESTRATOR_") or name.startswith(KEPT)
    }
    return {**kept, **ours}


class EngineProcess:
    """An engine in a process of its own, which ends with this one however this one ends. Its log goes to a file."""

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli.main", "engine", "run", "--owned"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(settings),
                cwd=ROOT,
                # Ctrl-C is for the demo alone, which then ends things in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def check(self) -> None:
        """Raise DemoFailed if it ended by itself."""
        code = self._process.poll()
        if code is not None:
            last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise DemoFailed("\n  ".join([f"the engine ended by itself (code {code}); from {self._log}:", *last]))

    def kill(self) -> None:
        """SIGKILL, without any warning."""
        self._process.kill()
        self._close()

    def stop(self) -> None:
        """Let it release its partitions; kill it if that takes too long. A second call does nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._close()

    def _close(self) -> None:
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def command(arguments: list[str], settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end; its output is captured. Raises DemoFailed when it takes too long."""
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            env=dict(settings),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"{' '.join(arguments[:3])} did not end within {COMMAND_TIMEOUT_S:.0f} s") from error
