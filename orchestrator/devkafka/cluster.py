"""Starting and stopping the embedded Kafka."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from orchestrator.errors import KafkaUnavailable
from orchestrator.log.probe import wait_ready, warm_up_transactions

from . import ports as port_numbers
from .errors import DevKafkaError
from .node import Launch, Node
from .places import FileLock, need_space
from .runtime import Runtime
from .settings import HOST, Ports, server_properties
from .template import DATA_MB, copy_template, formatted_template, new_id
from .trainer import Trainer

READY_TIMEOUT_S = 60.0
ATTEMPTS = 5
"""Starts with other ports, when somebody took one between our choice and the broker's bind."""
MOST_NODES = 9
LOCK_WAIT_S = 15.0
"""A killed owner's guards hold the directory until their brokers are gone, five seconds at most."""
NONE: Mapping[str, str] = MappingProxyType({})


def _silent(_text: str) -> None:
    """No progress wanted."""


@dataclass(frozen=True)
class Plan:
    """What to start. See `DevKafka.start`; `flags` None: with the AOT cache if there is one, trained if not.

    `secured` adds a listener a security protocol (SASL_PLAINTEXT, SASL_SSL, SSL) to each node; `extra` configures it.
    """

    nodes: int = 1
    directory: Path | None = None
    port: int = 0
    extra: Mapping[str, str] = field(default_factory=lambda: NONE)
    proxy_port: int | None = None
    progress: Callable[[str], None] = _silent
    flags: tuple[str, ...] | None = None
    inherit: tuple[int, ...] = ()
    secured: tuple[str, ...] = ()


class _PortLost(Exception):
    """Somebody took a port that we had chosen."""


class _CacheRefused(Exception):
    """Java fell over, perhaps by the AOT cache."""


class DevKafka:
    """A running cluster on 127.0.0.1, which ends with this object's process however that ends."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stopping = threading.Lock()
        self._lock: FileLock | None = None
        self._trainer: Trainer | None = None
        self._aot_cache = Path()
        self.nodes: tuple[Node, ...] = ()
        self.directory = Path()

    @classmethod
    def start(
        cls,
        nodes: int = 1,
        directory: Path | None = None,
        port: int = 0,
        extra: Mapping[str, str] = NONE,
        progress: Callable[[str], None] | None = None,
        proxy_port: int | None = None,
    ) -> Self:
        """Start `nodes` brokers and return when they are ready: registered, and a transaction was committed.

        `directory` keeps the data (None: temporary, removed at the end). `port` is the first node's, the others
        follow (0: any free ones). `extra` are broker settings that win over ours. `progress` gets lines for people.
        `proxy_port` adds to each node a second listener that advertises itself as 127.0.0.1:`proxy_port` (plus 1 for
        each further node), where a TCP proxy of yours listens and forwards to `node.proxied_port`.

        Raises DevKafkaError: port taken or beyond 65535, full disk, no network at the first start, unsupported
        platform, missing extra, a directory in use or of another shape.
        """
        return cls.run(Plan(nodes, directory, port, extra, proxy_port, progress or _silent))

    @classmethod
    def run(cls, plan: Plan) -> Self:
        """Start what `plan` says; see `start`."""
        kafka = cls(plan)
        try:
            kafka._start()
        except BaseException:
            kafka.stop()
            raise
        return kafka

    @property
    def bootstrap(self) -> str:
        """`host:port` of every node, separated by commas: the value of `bootstrap.servers`."""
        return ",".join(node.bootstrap for node in self.nodes)

    @property
    def proxied_bootstrap(self) -> str:
        """The bootstrap servers for clients that go through the proxy; empty without `proxy_port`."""
        return ",".join(f"{HOST}:{node.ports.advertised}" for node in self.nodes if node.ports.advertised)

    def secured_bootstrap(self, protocol: str) -> str:
        """The bootstrap servers for clients that speak one of the plan's `secured` protocols."""
        return ",".join(f"{HOST}:{node.ports.secured[protocol]}" for node in self.nodes)

    def stop(self) -> None:
        """End all brokers, wait until they are gone, remove temporary data. May be called twice."""
        with self._stopping:
            if self._trainer is not None:
                self._trainer.stop()
                self._trainer = None
            for node in self.nodes:
                node.begin_stop()
            for node in self.nodes:
                node.stop()
            if self._lock is not None:
                self._lock.release()
                self._lock = None
            if self._plan.directory is None and self.directory != Path():
                shutil.rmtree(self.directory, ignore_errors=True)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every node has registered, as after `restart`. Raises DevKafkaError with what a node said."""
        try:
            wait_ready(self.bootstrap, timeout_s, len(self.nodes), self._check_nodes)
        except KafkaUnavailable as error:
            raise DevKafkaError(f"{error}; the log is {self.nodes[0].log}") from error

    def wait_trained(self, timeout_s: float) -> bool:
        """Wait for the training in the background, if there is one; whether the AOT cache is there now."""
        if self._trainer is not None:
            self._trainer.wait(timeout_s)
        return self._aot_cache.exists()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        plan = self._plan
        if not 1 <= plan.nodes <= MOST_NODES:
            raise DevKafkaError(f"{plan.nodes} nodes: the embedded Kafka has 1 to {MOST_NODES}")
        for first in (plan.port, plan.proxy_port or 0):
            port_numbers.check_range(first, plan.nodes)
        runtime = Runtime.prepare(plan.progress)
        template = formatted_template(runtime, plan.progress)
        self._open_directory()
        cluster_id = self._cluster_id()
        for number in range(1, plan.nodes + 1):
            home = self.directory / f"node-{number}"
            home.mkdir(mode=0o700, exist_ok=True)
            if not (home / "data" / "meta.properties").exists():
                copy_template(template, home / "data", number, cluster_id)
        self._aot_cache = runtime.aot_cache
        trained = runtime.aot_cache.exists()
        flags = plan.flags
        if flags is None:
            flags = (f"-XX:AOTCache={runtime.aot_cache}",) if trained else ()
        plan.progress("starting Kafka" if plan.nodes == 1 else f"starting Kafka with {plan.nodes} nodes")
        self._start_nodes(runtime, flags)
        try:
            warm_up_transactions(self.bootstrap, READY_TIMEOUT_S)
        except KafkaUnavailable as error:
            self._check_nodes()
            raise DevKafkaError(str(error)) from error
        if plan.flags is None and not trained:
            self._trainer = Trainer.start(runtime)

    def _open_directory(self) -> None:
        """Make the directory ours, and refuse one that another cluster uses or that is something else."""
        if self._plan.directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix="orchestrator-kafka-"))
        else:
            self.directory = self._plan.directory.expanduser().absolute()
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise DevKafkaError(
                    f"{self.directory} cannot be created ({error}): choose another directory"
                ) from error
            if any(self.directory.iterdir()) and not (self.directory / "lock").exists():
                raise DevKafkaError(f"{self.directory} holds other files: give an empty directory, or one of ours")
        need_space(self.directory, DATA_MB * self._plan.nodes, "Kafka's data")
        lock = FileLock(self.directory / "lock")
        if not lock.take(LOCK_WAIT_S):
            raise DevKafkaError(
                f"{self.directory} is in use by another Kafka: stop that one, or choose another directory"
            )
        self._lock = lock

    def _cluster_id(self) -> str:
        """The id of the cluster in our directory, new if it is empty."""
        path = self.directory / "cluster.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["nodes"] != self._plan.nodes:
                raise DevKafkaError(
                    f"{self.directory} holds a Kafka of {found['nodes']} node(s), not {self._plan.nodes}: start it "
                    f"with that number, or choose another directory"
                )
            return str(found["cluster_id"])
        facts = {"nodes": self._plan.nodes, "cluster_id": new_id()}
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(facts), encoding="utf-8")
        os.replace(aside, path)
        return str(facts["cluster_id"])

    def _start_nodes(self, runtime: Runtime, flags: tuple[str, ...]) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._start_once(runtime, flags)
                return
            except _PortLost:
                self._end_nodes()
            except _CacheRefused:
                # Never let a cache that cannot be used stand in the way of a start.
                self._end_nodes()
                runtime.aot_cache.unlink(missing_ok=True)
                flags = ()
        raise DevKafkaError(f"Kafka lost its ports to other programs {ATTEMPTS} times: start it again")

    def _start_once(self, runtime: Runtime, flags: tuple[str, ...]) -> None:
        plan = self._plan
        ports = self._choose_ports()
        inherit = (*plan.inherit, *((self._lock.descriptor,) if self._lock else ()))
        launch = Launch(runtime, flags, inherit, temporary=plan.directory is None)
        self.nodes = tuple(Node(key, self.directory / f"node-{key}", port, launch) for key, port in ports.items())
        for node in self.nodes:
            text = server_properties(node.node_id, ports, node.directory, plan.extra)
            (node.directory / "server.properties").write_text(text, encoding="ascii")
            node.log.unlink(missing_ok=True)
        for node in self.nodes:
            node.start()
        self.wait_ready()

    def _choose_ports(self) -> dict[int, Ports]:
        plan = self._plan
        keys = range(1, plan.nodes + 1)
        wanted = {key: plan.port + key - 1 for key in keys} if plan.port else {}
        for port in wanted.values():
            if not port_numbers.is_free(port):
                raise port_numbers.taken(port)
        proxies = {key: plan.proxy_port + key - 1 for key in keys} if plan.proxy_port else {}
        reserved = {*wanted.values(), *proxies.values()}
        free = (port for port in port_numbers.free_ports() if port not in reserved)
        return {
            key: Ports(
                broker=wanted.get(key) or next(free),
                controller=next(free),
                proxied=next(free) if proxies else 0,
                advertised=proxies.get(key, 0),
                secured={protocol: next(free) for protocol in plan.secured},
            )
            for key in keys
        }

    def _end_nodes(self) -> None:
        for node in self.nodes:
            node.begin_stop()
        for node in self.nodes:
            node.stop()

    def _check_nodes(self) -> None:
        """Raise what explains best why a node has ended."""
        for node in self.nodes:
            ended = node.ended()
            if ended is None:
                continue
            if "Address already in use" in ended.error or "BindException" in ended.error:
                if self._plan.port and not port_numbers.is_free(node.port):
                    raise port_numbers.taken(node.port)
                raise _PortLost
            if ended.crashed and self._plan.flags is None:
                raise _CacheRefused
            if "No space left on device" in ended.error:
                raise DevKafkaError(
                    f"the disk under {self.directory} is full: make room there, or choose another place "
                    f"(temporary data: TMPDIR, kept data: --directory)"
                )
            raise DevKafkaError(
                f"Kafka (node {node.node_id}) ended with code {ended.code}: {ended.error or 'its log says nothing'}"
                + ("" if self._plan.directory is None else f"; the whole log is {node.log}")
            )
