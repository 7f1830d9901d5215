"""Free ports."""

from __future__ import annotations

import socket
from itertools import islice

from orchestrator.devkafka import ports


def test_free_ports_are_different_and_free() -> None:
    found = list(islice(ports.free_ports(), 10))
    assert len(set(found)) == 10
    for port in found:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_a_taken_port_is_seen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        assert not ports.is_free(server.getsockname()[1])


def test_clients_own_ports_are_left_alone() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        given_by_the_system = server.getsockname()[1]
    assert ports._highest() < given_by_the_system
