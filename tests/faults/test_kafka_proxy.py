"""The proxy's actions, each on the wire of a real broker: what a client sees, what the broker has done."""

from __future__ import annotations

import ast
import socket
import struct
import subprocess
import sys

import pytest
from confluent_kafka import KafkaException, Producer

from tests.faults import kafka_proxy as proxies
from tests.faults.kafka_proxy import ACTIONS, APIS, END_TXN, VERSIONS, Chaos, Rule, error_answer, parse_fault
from tests.faults.proxied import Proxied

WAIT_S = 30


def producer(stage: Proxied, **options: object) -> Producer:
    """A transactional producer behind the proxy."""
    settings = {"bootstrap.servers": stage.proxied, "transactional.id": stage.name("t"), "linger.ms": 0}
    made = Producer({**settings, "transaction.timeout.ms": 20_000, **options})
    made.init_transactions(WAIT_S)
    return made


OF_COMMITS = [one for one in ACTIONS if one not in ("black_hole", "drop", "hold", "reorder")]


@pytest.mark.broker
@pytest.mark.parametrize("action", OF_COMMITS)
def test_a_commit_survives_what_happens_to_one_request(stage: Proxied, action: str) -> None:
    """librdkafka asks again inside `commit_transaction`; where it waits for a time-out first, that is made short."""
    topic = stage.topic()
    short = {"socket.timeout.ms": 3_000, "transaction.timeout.ms": 3_000} if action == "drop_answer" else {}
    client = producer(stage, **short)
    rule = stage.proxy.add(Rule(END_TXN, action, delay_s=0.2))
    client.begin_transaction()
    client.produce(topic, "1")
    client.commit_transaction(WAIT_S)
    assert rule.applied.wait(WAIT_S), f"{action} did not fire"
    assert rule.fired == 1
    assert stage.visible(topic) == ["1"]


@pytest.mark.broker
def test_of_two_requests_the_second_overtakes(stage: Proxied) -> None:
    """The broker carries out and answers what comes first; ApiVersions v0 needs nothing but a header."""
    rule = stage.proxy.add(Rule(18, "reorder", delay_s=WAIT_S))
    with socket.create_connection(("127.0.0.1", stage.proxy.port), WAIT_S) as client:
        for number in (1, 2):
            request = struct.pack(">hhih", 18, 0, number, -1)
            client.sendall(struct.pack(">i", len(request)) + request)
        answers = client.makefile("rb")
        order = []
        for _ in range(2):
            body = answers.read(struct.unpack(">i", answers.read(4))[0])
            order.append(struct.unpack_from(">i", body)[0])
    assert order == [2, 1]
    assert rule.applied.wait(WAIT_S)


@pytest.mark.broker
@pytest.mark.parametrize("action", ["black_hole", "drop"])
def test_a_request_that_nobody_answers_ends_by_the_clients_time_out(stage: Proxied, action: str) -> None:
    topic = stage.topic()
    client = producer(stage)
    rule = stage.proxy.add(Rule(END_TXN, action))
    client.begin_transaction()
    client.produce(topic, "1")
    with pytest.raises(KafkaException) as raised:
        client.commit_transaction(1.0)
    assert raised.value.args[0].retriable()
    assert rule.applied.wait(WAIT_S)
    # Another producer of that id ends what is open; the broker never saw the commit.
    assert stage.visible(topic) == []


@pytest.mark.broker
def test_an_error_is_what_the_client_hears(stage: Proxied) -> None:
    """TOPIC_AUTHORIZATION_FAILED is an answer to AddPartitionsToTxn that no client asks again after."""
    client = producer(stage)
    rule = stage.proxy.add(Rule(proxies.ADD_PARTITIONS, "error", code=29))
    client.begin_transaction()
    client.produce(stage.topic(), "1")
    with pytest.raises(KafkaException) as raised:
        client.commit_transaction(WAIT_S)
    assert rule.applied.wait(WAIT_S)
    assert raised.value.args[0].name() == "TOPIC_AUTHORIZATION_FAILED"


def frame(api: int, version: int, body: bytes = b"") -> bytes:
    """A request as it comes, without its length."""
    tags = b"\x00" if version >= VERSIONS[api][2] else b""
    head = api.to_bytes(2, "big") + version.to_bytes(2, "big") + (7).to_bytes(4, "big")
    return head + b"\x00\x01c" + tags + body


@pytest.mark.parametrize("name", APIS)
def test_every_api_has_an_error_answer_for_each_of_its_versions(name: str) -> None:
    api = APIS[name]
    least, most, flexible = VERSIONS[api]
    for version in range(least, most + 1):
        answer = error_answer(frame(api, version, bytes(64)), 16)
        assert answer.startswith((7).to_bytes(4, "big") + b"\x00" * (version >= flexible))
    with pytest.raises(ValueError, match="no error answer is known"):
        error_answer(frame(api, most + 1), 16)


def test_an_error_names_the_partitions_that_were_asked_for() -> None:
    """AddPartitionsToTxn v0: id, producer, epoch, one topic with partitions 3 and 4."""
    body = b"\x00\x01i" + bytes(10) + b"\x00\x00\x00\x01" + b"\x00\x01t" + b"\x00\x00\x00\x02"
    body += (3).to_bytes(4, "big") + (4).to_bytes(4, "big")
    expected = (
        bytes(4) + b"\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x02" + b"\x00\x00\x00\x03\x00\x10\x00\x00\x00\x04\x00\x10"
    )
    assert error_answer(frame(proxies.ADD_PARTITIONS, 0, body), 16)[4:] == expected


def test_a_rule_counts_from_its_nth_request() -> None:
    rule = Rule(END_TXN, "delay", nth=2, times=2)
    taken = []
    for _ in range(5):
        taken.append(rule.takes(END_TXN))
        if taken[-1]:
            rule.done()
    assert taken == [False, True, True, False, False]
    assert rule.applied.is_set()
    assert not Rule(END_TXN, "delay").takes(proxies.FETCH)


def test_chance_is_the_same_for_the_same_seed() -> None:
    def course(seed: int) -> list[tuple[str, float] | None]:
        chaos = Chaos(seed, [END_TXN], 0.3)
        found = [chaos.rule(api) for api in (END_TXN, proxies.FETCH) * 50]
        return [rule and (rule.action, rule.delay_s) for rule in found]

    assert course(1) == course(1) != course(2)
    assert 5 < sum(rule is not None for rule in course(1)) < 30
    assert all(rule is None for rule in course(1)[1::2])


@pytest.mark.parametrize("text", ["EndTxn", "EndTx:late", "EndTxn:vanish", "EndTxn:hold", "EndTxn:late:when=3"])
def test_a_fault_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_fault(text)


def test_a_fault_is_read_from_the_command_line() -> None:
    rule = parse_fault("Produce:error:nth=2,times=3,code=6,delay=1.5")
    assert (rule.api, rule.action, rule.nth, rule.times, rule.code, rule.delay_s) == (0, "error", 2, 3, 6, 1.5)


def test_the_proxy_is_one_file_of_the_standard_library() -> None:
    with open(proxies.__file__, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    done = subprocess.run(
        [sys.executable, "-I", proxies.__file__, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(action in done.stdout for action in ACTIONS)


def test_a_proxy_without_a_broker_turns_clients_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = probe.getsockname()[1]
    with proxies.KafkaProxy(nobody) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        assert client.recv(1) == b""
