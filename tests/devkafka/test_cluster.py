"""The embedded Kafka itself: ready means usable, its end is an end, and trouble is a sentence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.devkafka import DevKafka, DevKafkaError, cluster, ports, trainer
from orchestrator.devkafka.cluster import Plan
from orchestrator.devkafka.node import stands_still
from orchestrator.devkafka.places import FileLock
from orchestrator.devkafka.runtime import Runtime
from orchestrator.log import probe
from tests.devkafka.processes import runs, wait_gone

pytestmark = pytest.mark.broker
PLAIN = Plan(flags=())
OWNER = """
import json, sys
from orchestrator.devkafka import DevKafka
kafka = DevKafka.start()
node = kafka.nodes[0]
print(json.dumps([node.pid, node.guard_pid, str(kafka.directory), kafka.bootstrap]), flush=True)
sys.stdin.read()
"""


class Proxy:
    """Forwards TCP connections to `target` and counts them."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.target = 0
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.connections += 1
                broker = socket.create_connection(("127.0.0.1", self.target))
                for pair in ((client, broker), (broker, client)):
                    self._threads.append(threading.Thread(target=_pump, args=pair))
                    self._threads[-1].start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError), source:
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def other_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own with the jars and the template, but no AOT cache."""
    found = Runtime.prepare()
    DevKafka.start().stop()
    made = tmp_path / "cache"
    made.mkdir()
    for path in [*found.cache.glob("jars-*"), *found.cache.glob("template-*")]:
        if path.is_dir():
            shutil.copytree(path, made / path.name)
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(made))
    return made


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without java and mvn (and without anything else)."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return empty


def test_it_starts_without_java_or_maven_and_leaves_nothing(bare_path: Path) -> None:
    assert shutil.which("java") is None
    assert shutil.which("mvn") is None
    with DevKafka.start() as kafka:
        probe.exercise(kafka.bootstrap)
        node = kafka.nodes[0]
        pids = (node.pid, node.guard_pid)
        directory = kafka.directory
        assert kafka.bootstrap == f"127.0.0.1:{node.port}"
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not directory.exists()


def test_a_killed_owner_leaves_no_broker_and_no_data() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid, guard_pid, directory, _ = json.loads(owner.stdout.readline())
        assert runs(pid)
        owner.kill()
    wait_gone(pid, guard_pid)
    assert not Path(directory).exists()


def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        with pytest.raises(DevKafkaError, match=rf"port {port} on 127\.0\.0\.1 is taken.*--port"):
            DevKafka.start(port=port)


def test_ports_beyond_the_last_are_a_sentence() -> None:
    for plan in (Plan(3, port=65_534), Plan(3, proxy_port=65_534), Plan(3, port=-1)):
        with pytest.raises(DevKafkaError, match=r"for 3 node\(s\).* give 1 to 65533"):
            DevKafka.run(plan)


def test_a_port_that_is_lost_at_the_last_moment_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        real = ports.free_ports
        lost = [other.getsockname()[1]]

        def first_a_taken_one() -> Iterator[int]:
            if lost:
                yield lost.pop()
            yield from real()

        monkeypatch.setattr(ports, "free_ports", first_a_taken_one)
        with DevKafka.run(PLAIN) as kafka:
            assert not lost
            assert kafka.nodes[0].port != other.getsockname()[1]


def test_a_broker_that_refuses_its_settings_says_why() -> None:
    with pytest.raises(DevKafkaError, match=r"Kafka \(node 1\) ended with code 1: .*num\.io\.threads"):
        DevKafka.start(extra={"num.io.threads": "none"})


def test_a_full_disk_is_a_sentence_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "DATA_MB", 10**9)
    with pytest.raises(DevKafkaError, match=r"Kafka's data needs .*TMPDIR.*--directory"):
        DevKafka.start()


def test_kept_data_survive_and_keep_their_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOCK_WAIT_S", 0.1)
    home = tmp_path / "kafka"
    with DevKafka.start(directory=home) as kafka:
        cluster_id = json.loads((home / "cluster.json").read_text())["cluster_id"]
        assert f"cluster.id={cluster_id}" in (home / "node-1" / "data" / "meta.properties").read_text()
        with pytest.raises(DevKafkaError, match="is in use by another Kafka"):
            DevKafka.start(directory=home)
        first = kafka.bootstrap
    with DevKafka.start(directory=home) as kafka:
        assert kafka.bootstrap != first
        assert json.loads((home / "cluster.json").read_text())["cluster_id"] == cluster_id
        probe.exercise(kafka.bootstrap)
    with pytest.raises(DevKafkaError, match=r"holds a Kafka of 1 node\(s\), not 3"):
        DevKafka.start(nodes=3, directory=home)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DevKafkaError, match="holds other files"):
        DevKafka.start(directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_two_clusters_have_different_ids() -> None:
    with DevKafka.start() as one, DevKafka.start() as two:
        ids = [(kafka.directory / "node-1" / "data" / "meta.properties").read_text() for kafka in (one, two)]
        for name in ("cluster.id", "directory.id"):
            values = [next(line for line in text.splitlines() if line.startswith(name)) for text in ids]
            assert values[0] != values[1]


def test_a_node_can_be_killed_paused_and_restarted() -> None:
    with DevKafka.start() as kafka:
        node = kafka.nodes[0]
        first = node.pid
        node.kill()
        assert not runs(first)
        ended = node.ended()
        assert ended is not None
        assert ended.code == -signal.SIGKILL
        with pytest.raises(DevKafkaError, match="node 1 is not running"):
            node.pause()
        node.restart()
        kafka.wait_ready()
        assert node.pid != first
        assert kafka.bootstrap == f"127.0.0.1:{node.port}"
        assert not stands_still(node.pid)
        node.pause()
        assert stands_still(node.pid)
        assert node.ended() is None
        node.resume()
        node.terminate()
        assert not runs(node.pid)


def test_a_proxied_listener_sends_clients_through_the_proxy() -> None:
    with Proxy() as proxy, DevKafka.start(proxy_port=proxy.port) as kafka:
        assert kafka.proxied_bootstrap == f"127.0.0.1:{proxy.port}"
        proxy.target = kafka.nodes[0].proxied_port
        probe.exercise(kafka.bootstrap)
        assert proxy.connections == 0
        # Asked directly on the second listener, the broker names the proxy: everything after that goes through it.
        probe.exercise(f"127.0.0.1:{proxy.target}")
        assert proxy.connections > 0


def test_a_damaged_aot_cache_does_not_stand_in_the_way(other_cache: Path) -> None:
    runtime = Runtime.prepare()
    runtime.aot_cache.write_bytes(b"\0" * 100_000)
    with DevKafka.start() as kafka:
        probe.exercise(kafka.bootstrap)


def test_without_room_for_training_it_runs_all_the_same(other_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "NEEDED_MB", 10**9)
    with DevKafka.start() as kafka:
        assert kafka.wait_trained(0) is False
        probe.exercise(kafka.bootstrap)


def test_training_ends_with_its_owner(other_cache: Path) -> None:
    with DevKafka.start() as kafka:
        training = kafka._trainer
        assert training is not None
        assert runs(training.pid)
    assert not runs(training.pid)
    assert not list(other_cache.glob("*.aot"))


@pytest.mark.slow
def test_training_makes_a_cache_that_java_takes(other_cache: Path) -> None:
    with DevKafka.start() as kafka:
        assert kafka.wait_trained(120), (other_cache / "training.log").read_text()
    runtime = Runtime.prepare()
    strict = (f"-XX:AOTCache={runtime.aot_cache}", "-XX:AOTMode=on")
    with DevKafka.run(Plan(flags=strict)) as kafka:
        probe.exercise(kafka.bootstrap)
    with DevKafka.start() as kafka:
        assert kafka._trainer is None


@pytest.mark.slow
def test_two_trainers_do_not_collide(other_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime.prepare()
    lock = FileLock(other_cache / "training.lock")
    assert lock.take(0)

    def never(module: ModuleType) -> None:
        raise AssertionError("the second trainer must not run a broker")

    monkeypatch.setattr(cluster.DevKafka, "run", never)
    trainer.train(runtime)
    lock.release()
    assert not runtime.aot_cache.exists()


@pytest.mark.slow
def test_three_nodes_survive_the_death_of_one() -> None:
    with DevKafka.start(nodes=3) as kafka:
        assert len({node.pid for node in kafka.nodes}) == 3
        assert kafka.bootstrap.count(",") == 2
        probe.exercise(kafka.bootstrap)
        kafka.nodes[0].kill()
        survivors = ",".join(node.bootstrap for node in kafka.nodes[1:])
        probe.exercise(survivors)
        kafka.nodes[0].restart()
        kafka.wait_ready()
        pids = [node.pid for node in kafka.nodes]
    assert not any(runs(pid) for pid in pids)
