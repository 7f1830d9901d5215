"""Faults of brokers."""

from tests.chaos.plugs import Plug

PLUGS: tuple[Plug, ...] = ()
