"""A cluster that wants a login and TLS: every client passes the options through; what is wrong is a sentence; no secret
is shown."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.cli.main import main
from orchestrator.client.blocking import BlockingClient
from orchestrator.config import Settings
from orchestrator.errors import ConfigurationError, KafkaUnavailable
from orchestrator.log.config import LogConfig
from orchestrator.log.topics import admin
from tests.worker.processes import Process, ended

from .secured import PASSWORD, Secured, variables
from .secured_app import app, both

CODE = f"{Path(__file__).with_name('secured_app.py')}:app"
WRONG = "hunter3-is-nobodys-business"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One such broker for this file."""
    broker = Secured(tmp_path_factory.mktemp("secured"))
    try:
        yield broker
    finally:
        broker.kafka.stop()


def use(monkeypatch: pytest.MonkeyPatch, bootstrap: str, options: Mapping[str, str]) -> dict[str, str]:
    """Set this process's environment, and return what was set, for others."""
    for name in [name for name in os.environ if name.startswith("ORCHESTRATOR_")]:
        monkeypatch.delenv(name)
    chosen = {"ORCHESTRATOR_APP_NAME": f"secured-{uuid.uuid4().hex[:8]}", "ORCHESTRATOR_BOOTSTRAP": bootstrap}
    chosen |= variables(dict(options))
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    return chosen


@pytest.mark.broker
def test_topics_engine_worker_and_client_work_by_login_and_tls(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options, bootstrap = secured.options("SASL_SSL"), secured.kafka.secured_bootstrap("SASL_SSL")
    environ = use(monkeypatch, bootstrap, options)
    assert main(["topics", "init", "--partitions", "2", "--queue", "far"]) == 0
    assert main(["topics", "check", "--queue", "far", "-o", "jsonl"]) == 0
    loud = {"ORCHESTRATOR_LOG_LEVEL": "DEBUG", "ORCHESTRATOR_KAFKA_DEBUG": "security,conf"}
    place = {"ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"), "ORCHESTRATOR_ISOLATION": "thread"}
    ours = {"ORCHESTRATOR_APP": CODE, **place, **environ, **loud}
    engine = Process("engine", tmp_path / "engine.log", ours)
    worker = Process("worker", tmp_path / "worker.log", {**ours, "ORCHESTRATOR_QUEUES": "far"})
    try:
        assert main(["workflow", "execute", "both", "word=pen", "--id", "one", "-o", "json", "--timeout", "60"]) == 0
        given = Settings(app_name=environ["ORCHESTRATOR_APP_NAME"], bootstrap=bootstrap, kafka=options)
        monkeypatch.setattr(app, "name", given.app_name)
        with BlockingClient.connect(app, given) as client:
            assert client.execute(both.options(id="two"), "ink") == "far near ink"
        assert main(["doctor", "-o", "json"]) == 0
    finally:
        codes = ended(worker, engine)
    shown = capfd.readouterr()
    assert '"far near pen"' in shown.out
    assert codes == [0, 0]
    logs = [(tmp_path / name).read_text(encoding="utf-8") for name in ("engine.log", "worker.log")]
    assert all("sasl" in log.lower() for log in logs), "librdkafka's own log of its options is there"
    for text in (*logs, shown.out, shown.err, repr(given), repr(LogConfig.of(given, given.app_name))):
        assert PASSWORD not in text


@pytest.mark.broker
def test_another_protocol_and_mechanism_are_settings_too(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, secured.kafka.secured_bootstrap("SASL_PLAINTEXT"), secured.options("SASL_PLAINTEXT"))
    assert main(["topics", "init", "--partitions", "1"]) == 0
    assert main(["topics", "check"]) == 0
    shown = capfd.readouterr()
    assert PASSWORD not in shown.out + shown.err


@pytest.mark.broker
@pytest.mark.parametrize(
    ("listener", "changes", "says"),
    [
        ("SASL_SSL", {"sasl.password": WRONG}, "does not let us in.*invalid credentials.*check .*_SASL_PASSWORD"),
        ("SASL_PLAINTEXT", {"sasl.password": WRONG}, "does not let us in.*Invalid username or password"),
        ("SASL_PLAINTEXT", {"sasl.mechanism": "SCRAM-SHA-256"}, "does not let us in.*supported mechanisms: .*PLAIN"),
        ("SASL_SSL", {"ssl.ca.location": ""}, "no TLS with Kafka.*certificate.*_SSL_CA_LOCATION"),
        ("PLAINTEXT", {}, "no TLS with Kafka.*PLAINTEXT broker listener.*_SECURITY_PROTOCOL"),
        (
            "SASL_SSL",
            None,
            "no Kafka answers at .*if it wants TLS or a login, set ORCHESTRATOR_KAFKA_SECURITY_PROTOCOL",
        ),
    ],
    ids=["password", "plain-password", "mechanism", "authority", "open-listener", "no-options"],
)
def test_what_keeps_us_out_is_a_sentence(
    secured: Secured,
    listener: str,
    changes: dict[str, str] | None,
    says: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if changes is None:
        # A client that speaks another protocol is hung up on again and again: nobody can tell that from a start.
        monkeypatch.setattr("orchestrator.log.topics.ATTEMPTS_S", (0.7,))
    opened = listener == "PLAINTEXT"
    bootstrap = secured.kafka.bootstrap if opened else secured.kafka.secured_bootstrap(listener)
    options = {} if changes is None else {**secured.options("SASL_SSL" if opened else listener), **changes}
    config = LogConfig("shop", bootstrap, {name: value for name, value in options.items() if value})
    with caplog.at_level(logging.DEBUG), pytest.raises(KafkaUnavailable, match=says) as caught:
        admin(config)
    for text in (str(caught.value), repr(caught.value), caplog.text):
        assert PASSWORD not in text
        assert WRONG not in text


@pytest.mark.broker
def test_a_wrong_password_ends_every_command_with_6_and_is_not_shown(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = secured.options("SASL_SSL", WRONG)
    environ = use(monkeypatch, secured.kafka.secured_bootstrap("SASL_SSL"), options)
    ours = {"ORCHESTRATOR_APP": CODE, "ORCHESTRATOR_STATE_DIR": str(tmp_path / "state"), **environ}
    processes = {
        name: Process(name, tmp_path / f"{name}.log", {**ours, "ORCHESTRATOR_QUEUES": "far"})
        for name in ("engine", "worker")
    }
    try:
        assert main(["--debug", "topics", "check", "-o", "json"]) == 6
        assert main(["workflow", "list", "-o", "json"]) == 6
        assert main(["doctor", "-o", "json"]) == 1
        codes = [process.wait() for process in processes.values()]
    finally:
        for process in processes.values():
            process.kill()
    assert codes == [6, 6]
    shown = capfd.readouterr()
    found = {row["what"]: row["says"] for row in json.loads(shown.out)}
    assert "does not let us in" in found["kafka"]
    assert shown.err.count("error: Kafka at") == 2
    for name in processes:
        said = (tmp_path / f"{name}.log").read_text(encoding="utf-8")
        assert "error: Kafka at" in said
        assert WRONG not in said
    assert WRONG not in shown.out + shown.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sasl.passwrd": PASSWORD}, 'No such configuration property: "sasl.passwrd"'),
        ({"security.protocol": PASSWORD}, 'Invalid value for configuration property "security.protocol"'),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, "sasl.username and sasl.password must be set"),
        ({"security.protocol": "SSL", "ssl.key.pem": PASSWORD}, "ssl.key.pem failed"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/missing/ca.pem"}, "ssl.ca.location failed"),
    ],
)
def test_options_that_librdkafka_does_not_take_are_errors_of_settings(
    options: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, "127.0.0.1:1", options)
    with pytest.raises(ConfigurationError, match=says):
        admin(LogConfig.of(Settings.from_env(), "shop"))
    assert main(["--debug", "topics", "check"]) == 2
    queue = ["--app", CODE, "worker", "run", "--queue", "far"]
    assert main(queue) == 2
    shown = capfd.readouterr()
    assert shown.err.count("error: librdkafka does not take its options") == 2
    assert PASSWORD not in shown.out + shown.err
