"""server.properties of a node: the settings that were measured for a quick and faithful development broker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

HOST = "127.0.0.1"

COMMON: Mapping[str, str] = MappingProxyType(
    {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,"
        "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        # Few partitions of the internal topics: they are created while the first client waits.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "1",
        # What production has, and what the engine relies on.
        "transaction.partition.verification.enable": "true",
        # The default of 9 s would make every test of a killed broker wait.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # Consumer groups may notice a death in 6 s; the defaults are 45 s and 5 s.
        "group.initial.rebalance.delay.ms": "0",
        "group.consumer.min.session.timeout.ms": "6000",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.heartbeat.interval.ms": "500",
        "group.consumer.heartbeat.interval.ms": "500",
        # Small in memory, on disk and in threads.
        "log.index.size.max.bytes": "1048576",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "offsets.load.buffer.size": "1048576",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
    }
)


class Ports(NamedTuple):
    """The ports of one node on 127.0.0.1. `proxied` 0: no second listener. `secured`: others, by their protocol."""

    broker: int
    controller: int
    proxied: int = 0
    advertised: int = 0
    secured: Mapping[str, int] = MappingProxyType({})


def server_properties(
    node_id: int, ports: Mapping[int, Ports], directory: Path, extra: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The file's text for node `node_id` of the cluster whose nodes have `ports`; `extra` wins over everything."""
    mine = ports[node_id]
    listeners = {"PLAINTEXT": mine.broker, **mine.secured}
    advertised = dict(listeners)
    if mine.proxied:
        listeners["PROXIED"] = mine.proxied
        advertised["PROXIED"] = mine.advertised
    copies = str(min(3, len(ports)))
    in_sync = str(max(1, min(3, len(ports)) - 1))
    values = {
        **COMMON,
        "node.id": str(node_id),
        "controller.quorum.voters": ",".join(f"{key}@{HOST}:{port.controller}" for key, port in sorted(ports.items())),
        "listeners": _listeners({**listeners, "CONTROLLER": mine.controller}),
        "advertised.listeners": _listeners(advertised),
        "log.dirs": str(directory / "data"),
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        **extra,
    }
    return "".join(f"{name}={_escaped(value)}\n" for name, value in sorted(values.items()))


def _listeners(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())


def _escaped(value: str) -> str:
    """As Java's Properties reads it: a backslash escapes, anything beyond Latin-1 is written as \\uXXXX."""
    text = value.replace("\\", "\\\\").replace("\n", "\\n")
    return "".join(letter if ord(letter) < 127 else _unicode(letter) for letter in text)


def _unicode(letter: str) -> str:
    raw = letter.encode("utf-16-be")
    return "".join(f"\\u{raw[at]:02x}{raw[at + 1]:02x}" for at in range(0, len(raw), 2))
