"""Ports on 127.0.0.1 that are free now and that nobody gets by accident."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from .errors import DevKafkaError
from .settings import HOST

LOWEST = 20_000
EPHEMERAL_OF_LINUX = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_OF_MACOS = 49_152
HIGHEST = 65_535
ATTEMPTS = 500


def _highest() -> int:
    """Above this the system gives ports to outgoing connections.

    One of those must not be a broker's: a client that reconnects to a dead broker in that range can meet itself, and
    then holds the port when the broker comes back.
    """
    first = EPHEMERAL_OF_MACOS
    with contextlib.suppress(OSError, ValueError, IndexError):
        first = int(EPHEMERAL_OF_LINUX.read_text().split()[0])
    return first - 1 if first > LOWEST + 1000 else HIGHEST


def check_range(first: int, nodes: int) -> None:
    """Raise DevKafkaError unless `first` and the ports after it, one for each node, exist; 0 (any free ones) does."""
    highest = HIGHEST - nodes + 1
    if not 0 <= first <= highest:
        raise DevKafkaError(
            f"port {first} for {nodes} node(s): each takes one, from the first upwards; give 1 to {highest}, or 0 (any "
            f"free one)"
        )


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports() -> Iterator[int]:
    """Different free ports, at random. They may be taken before they are used: then start again with others."""
    generator = random.SystemRandom()
    seen: set[int] = set()
    highest = _highest()
    for _ in range(ATTEMPTS):
        port = generator.randint(LOWEST, highest)
        if port not in seen and is_free(port):
            seen.add(port)
            yield port
    raise DevKafkaError(f"no free port found between {LOWEST} and {highest} on {HOST}: end what occupies them")


def taken(port: int) -> DevKafkaError:
    """The error for a port that somebody asked for and somebody else has."""
    return DevKafkaError(
        f"port {port} on {HOST} is taken: end the program that uses it (perhaps another Kafka; "
        f"`orchestrator kafka stop` ends ours), or choose another one with --port (0: any free one)"
    )
