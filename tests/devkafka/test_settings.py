"""server.properties: what must be in it, for one node and for three."""

from __future__ import annotations

from pathlib import Path

from orchestrator.devkafka.settings import Ports, server_properties


def parsed(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_one_node_keeps_one_copy() -> None:
    found = parsed(server_properties(1, {1: Ports(9092, 9093)}, Path("/d")))
    assert found["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert found["transaction.state.log.replication.factor"] == "1"
    assert found["transaction.state.log.min.isr"] == "1"
    assert found["transaction.partition.verification.enable"] == "true"
    assert found["group.consumer.min.session.timeout.ms"] == "6000"
    assert found["group.consumer.min.heartbeat.interval.ms"] == "500"
    assert found["broker.session.timeout.ms"] == "3000"


def test_three_nodes_keep_three_copies_and_two_in_sync() -> None:
    ports = {key: Ports(100 + key, 200 + key) for key in (1, 2, 3)}
    found = parsed(server_properties(2, ports, Path("/d")))
    assert found["node.id"] == "2"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:201,2@127.0.0.1:202,3@127.0.0.1:203"
    assert found["offsets.topic.replication.factor"] == "3"
    assert found["min.insync.replicas"] == "2"


def test_a_proxied_listener_advertises_the_proxy() -> None:
    found = parsed(server_properties(1, {1: Ports(1, 2, proxied=3, advertised=4)}, Path("/d")))
    assert "PROXIED://127.0.0.1:3" in found["listeners"]
    assert "PROXIED://127.0.0.1:4" in found["advertised.listeners"]


def test_a_secured_listener_speaks_the_protocol_that_it_is_named_for() -> None:
    found = parsed(server_properties(1, {1: Ports(1, 2, secured={"SASL_SSL": 3})}, Path("/d")))
    assert found["advertised.listeners"] == "PLAINTEXT://127.0.0.1:1,SASL_SSL://127.0.0.1:3"
    assert "SASL_SSL:SASL_SSL" in found["listener.security.protocol.map"].split(",")


def test_extra_settings_win_and_odd_directories_survive() -> None:
    text = server_properties(1, {1: Ports(1, 2)}, Path("/tmp/ü \\x"), {"num.io.threads": "9"})
    assert "num.io.threads=9\n" in text
    assert "log.dirs=/tmp/\\u00fc \\\\x/data\n" in text
    assert text.isascii()


def test_nothing_listens_beyond_this_machine() -> None:
    text = server_properties(1, {1: Ports(1, 2, 3, 4)}, Path("/d"))
    assert "0.0.0.0" not in text
    assert "://:" not in text
