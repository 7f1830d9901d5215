"""Testing workflows: an environment in this process that skips time, and the log in memory it runs on."""

from __future__ import annotations

from .environment import Environment, environment
from .replayer import Replayer

__all__ = ["Environment", "Replayer", "environment"]
