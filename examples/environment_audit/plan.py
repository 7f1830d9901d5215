"""What a run of the demo is to do: read from the environment, checked before anything starts."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies

from orchestrator.errors import ConfigurationError
from orchestrator.testing.model_faults import Fault

from .app import is_model_step, step_count

KILL_STEP = 18
RATE_LIMIT_STEP = 42
RETRY_AFTER_S = 2.0
CONNECT_S = 10.0


@dataclass(frozen=True)
class Wishes:
    """The variables of the demo. A step of 0 leaves that fault out; a break step of None lets the seed choose.

    `limit`: how many distributions at most (0: all). `endpoint`: the caller's own, "" for the bundled model server.
    """

    kill: int = KILL_STEP
    rate_limit: int = RATE_LIMIT_STEP
    breaks: int | None = None
    seed: int = 0
    limit: int = 0
    endpoint: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Wishes:
        """Read KILL_STEP, RATE_LIMIT_STEP, BREAK_STEP, SEED, LIMIT, OPENAI_BASE_URL. Raises ConfigurationError."""
        breaks = environ.get("BREAK_STEP", "").strip()
        return cls(
            kill=_whole(environ, "KILL_STEP", KILL_STEP),
            rate_limit=_whole(environ, "RATE_LIMIT_STEP", RATE_LIMIT_STEP),
            breaks=_whole(environ, "BREAK_STEP", 0) if breaks else None,
            seed=_whole(environ, "SEED", 0),
            limit=_whole(environ, "LIMIT", 0),
            endpoint=environ.get("OPENAI_BASE_URL", "").strip(),
        )


@dataclass(frozen=True)
class Plan:
    """Where the faults strike, 0 for nowhere; `notes` say what was moved and why."""

    steps: int
    kill: int
    rate_limit: int
    breaks: int
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, wishes: Wishes, distributions: int) -> Plan:
        """The plan for a run over so many distributions. Raises ConfigurationError for a step that it does not have."""
        steps = step_count(distributions)
        if wishes.endpoint:
            return cls(steps, 0, 0, 0, ("your endpoint takes no scripted faults and keeps no receipts",))
        notes: list[str] = []

        def placed(name: str, wish: int) -> int:
            if wish == 0:
                return 0
            found = next((n for n in range(wish, steps) if is_model_step(n, distributions)), 0)
            if not found:
                raise ConfigurationError(
                    f"{name}={wish}: the last of this run's {steps} steps that asks the model is"
                    f" {3 * distributions + 1}; name one up to there, or 0 for no such fault"
                    + (" (LIMIT cuts the run short)" if wishes.limit else "")
                )
            if found != wish:
                notes.append(f"{name}={wish}: step {wish} asks no model, so the fault strikes at step {found}")
            return found

        kill, rate_limit = placed("KILL_STEP", wishes.kill), placed("RATE_LIMIT_STEP", wishes.rate_limit)
        breaks = wishes.breaks
        if breaks is None:
            middle = range(steps // 4, max(steps // 4 + 3, 3 * steps // 4))
            breaks = random.Random(wishes.seed).choice([n for n in middle if n not in (kill, rate_limit)])
            breaks = next((n for n in range(breaks, steps) if is_model_step(n, distributions)), 0)
        return cls(steps, kill, rate_limit, placed("BREAK_STEP", breaks), tuple(notes))

    def words(self) -> str:
        """The faults in a line."""
        wanted = (
            ("SIGKILL", self.kill),
            ("broken stream", self.breaks),
            (f"429 with Retry-After {RETRY_AFTER_S:g} s", self.rate_limit),
        )
        return ", ".join(f"{what} at step {step}" for what, step in wanted if step) or "none"

    def faults(self) -> list[Fault]:
        """The model server's script."""
        wanted = (("hold", self.kill), ("rate_limit", self.rate_limit), ("break", self.breaks))
        return [Fault(kind, label(step), retry_after_s=RETRY_AFTER_S) for kind, step in wanted if step]


def label(step: int) -> str:
    """How a step's calls are labelled."""
    return f"step-{step}"


def check_endpoint(url: str) -> None:
    """See whether anybody listens at an endpoint of the caller's. Raises ConfigurationError, before anything starts.

    Nothing is asked of it. Behind a proxy only the first model call can tell.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80)
    except ValueError:
        scheme, host, port = "", None, 0
    if not host or scheme not in ("http", "https"):
        raise ConfigurationError("OPENAI_BASE_URL is no address: write it as in https://models.example.net/v1")
    if getproxies():
        return
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        raise ConfigurationError(
            f"OPENAI_BASE_URL: nobody answers at {host}:{port} ({error.strerror or error}); correct it, or unset it for"
            " the bundled model server"
        ) from error


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdigit():
        raise ConfigurationError(f"{name}={text!r}: must be a whole number from 0 on")
    return int(text)


def from_environment() -> Wishes:
    """The wishes of this process's environment."""
    return Wishes.of(os.environ)
