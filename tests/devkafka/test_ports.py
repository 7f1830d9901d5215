"""Free ports."""

from __future__ import annotations

import socket
from itertools import islice

import pytest

from orchestrator.devkafka import DevKafkaError, ports


def test_free_ports_are_different_and_free() -> None:
    found = set()
    for port in islice(ports.free_ports(), 10):
        found.add(port)
        with socket.socket() as server:
            # As a broker does: what its connections left in TIME_WAIT does not keep a server away.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            server.listen(1)
    assert len(found) == 10


def test_what_ended_connections_left_behind_does_not_make_a_port_taken() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()
            assert client.recv(1) == b""
    with socket.socket() as careless, pytest.raises(OSError):
        careless.bind(("127.0.0.1", port))
    assert ports.is_free(port)


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


@pytest.mark.parametrize(("first", "nodes"), [(0, 9), (1, 9), (65_535, 1), (65_533, 3)])
def test_a_range_that_exists_passes(first: int, nodes: int) -> None:
    ports.check_range(first, nodes)


@pytest.mark.parametrize(("first", "nodes"), [(-1, 1), (65_536, 1), (65_534, 3)])
def test_a_range_that_does_not_exist_is_a_sentence(first: int, nodes: int) -> None:
    with pytest.raises(DevKafkaError, match=rf"port {first} for {nodes} node\(s\).*or 0"):
        ports.check_range(first, nodes)
