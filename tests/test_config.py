"""Settings: every variable read, every mistake met with a sentence that names the variable and the remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.config import READERS, Settings, parse_assignment
from orchestrator.errors import ConfigurationError

VALUES = {
    "ORCHESTRATOR_APP": ("shop:app", "shop:app"),
    "ORCHESTRATOR_APP_NAME": ("shop", "shop"),
    "ORCHESTRATOR_BOOTSTRAP": ("a:1, [::1]:2,SSL://b", "a:1, [::1]:2,SSL://b"),
    "ORCHESTRATOR_STATE_DIR": ("/var/lib/x", Path("/var/lib/x")),
    "ORCHESTRATOR_BLOB_DIR": ("blobs", Path("blobs")),
    "ORCHESTRATOR_INLINE_BYTES": ("4096", 4_096),
    "ORCHESTRATOR_MEMBERSHIP": ("Static", "static"),
    "ORCHESTRATOR_GROUP_PROTOCOL": ("classic", "classic"),
    "ORCHESTRATOR_ASSIGNMENT": ("0-2, 7", (0, 1, 2, 7)),
    "ORCHESTRATOR_GENERATION": ("3", 3),
    "ORCHESTRATOR_STANDBY": ("0-1, 9", (0, 1, 9)),
    "ORCHESTRATOR_IMAGE_DIGEST": ("sha256:ab12", "sha256:ab12"),
    "ORCHESTRATOR_SESSION_TIMEOUT_S": ("10", 10.0),
    "ORCHESTRATOR_LANES": ("4", 4),
    "ORCHESTRATOR_ISOLATION": ("thread", "thread"),
    "ORCHESTRATOR_STEP_SLOTS": ("64", 64),
    "ORCHESTRATOR_QUEUES": ("gpu, mail", ("gpu", "mail")),
    "ORCHESTRATOR_GRACE_S": ("2.5", 2.5),
    "ORCHESTRATOR_LEASE_S": ("15", 15.0),
    "ORCHESTRATOR_REFUSE": ("old, legacy-*", ("old", "legacy-*")),
    "ORCHESTRATOR_MAX_OPEN_RUNS": ("500", 500),
    "ORCHESTRATOR_MAX_PENDING_STEPS": ("9000", 9000),
    "ORCHESTRATOR_CONTINUE_AS_NEW_AT": ("10000", 10_000),
    "ORCHESTRATOR_PARTITIONS": ("4", 4),
    "ORCHESTRATOR_REPLICATION_FACTOR": ("3", 3),
    "ORCHESTRATOR_WIRE": ("confluent", "confluent"),
    "ORCHESTRATOR_REGISTRY_URL": ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
    "ORCHESTRATOR_REGISTRY_AUTH": ("me:secret", "me:secret"),
    "ORCHESTRATOR_CHECKPOINT_URL": ("s3://backups/shop", "s3://backups/shop"),
    "ORCHESTRATOR_CHECKPOINT_EVERY_EVENTS": ("20000", 20_000),
    "ORCHESTRATOR_CHECKPOINT_EVERY_S": ("60", 60.0),
    "ORCHESTRATOR_CHECKPOINT_KEEP": ("5", 5),
    "ORCHESTRATOR_S3_ENDPOINT": ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
    "ORCHESTRATOR_SIGNING_KEY": ("/keys/shop.pem", Path("/keys/shop.pem")),
    "ORCHESTRATOR_KEY_RING": ("/ring", Path("/ring")),
    "ORCHESTRATOR_SIGNATURES": ("Required", "required"),
    "ORCHESTRATOR_ANCHOR_KEY": ("/keys/anchor.pem", Path("/keys/anchor.pem")),
    "ORCHESTRATOR_ANCHOR_DIR": ("/worm", Path("/worm")),
    "ORCHESTRATOR_ANCHOR_PUBLIC": ("/keys", Path("/keys")),
    "ORCHESTRATOR_REPLY_TIMEOUT_S": ("5", 5.0),
    "ORCHESTRATOR_HEALTH_HOST": ("0.0.0.0", "0.0.0.0"),
    "ORCHESTRATOR_HEALTH_PORT": ("8080", 8080),
    "ORCHESTRATOR_DEV": ("on", True),
    "ORCHESTRATOR_LOG_LEVEL": ("debug", "DEBUG"),
}


def test_every_variable_is_read() -> None:
    assert set(VALUES) == set(READERS)
    settings = Settings.from_env({name: text for name, (text, _) in VALUES.items()})
    for name, (_, expected) in VALUES.items():
        assert getattr(settings, READERS[name][0]) == expected, name


def test_every_field_has_its_variable() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - {"kafka"}
    assert fields == {field for field, _ in READERS.values()}


def test_defaults_are_for_a_desk() -> None:
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({"ORCHESTRATOR_LANES": " ", "ORCHESTRATOR_KAFKA_SASL_MECHANISM": ""}) == Settings()


def test_librdkafka_options_pass_through_and_stay_out_of_sight() -> None:
    settings = Settings.from_env(
        {
            "ORCHESTRATOR_KAFKA_SASL_PASSWORD": "hunter2",
            "ORCHESTRATOR_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "ORCHESTRATOR_KAFKA_SSL__KEY": "x",
        }
    )
    assert dict(settings.kafka) == {"sasl.password": "hunter2", "security.protocol": "SASL_SSL", "ssl_key": "x"}
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("ORCHESTRATOR_APP", "shop:", "module:attribute, as in shop:app"),
        ("ORCHESTRATOR_LANES", "two", "ORCHESTRATOR_LANES='two': must be a whole number from 1 to 16"),
        ("ORCHESTRATOR_LANES", "0", "ORCHESTRATOR_LANES=0: must be from 1 to 16"),
        ("ORCHESTRATOR_GRACE_S", "long", "must be seconds, as in 30 or 0.5"),
        ("ORCHESTRATOR_GRACE_S", "-1", "must be from 0 to 86400 seconds"),
        ("ORCHESTRATOR_DEV", "maybe", "must be 1 or 0"),
        ("ORCHESTRATOR_ISOLATION", "none", "must be process or thread"),
        ("ORCHESTRATOR_ASSIGNMENT", "3-1", "partition numbers and ranges, as in 0-3,8"),
        ("ORCHESTRATOR_ASSIGNMENT", "1", "means nothing without ORCHESTRATOR_MEMBERSHIP=static"),
        ("ORCHESTRATOR_MEMBERSHIP", "static", "needs ORCHESTRATOR_ASSIGNMENT"),
        ("ORCHESTRATOR_WIRE", "confluent", "needs ORCHESTRATOR_REGISTRY_URL"),
        ("ORCHESTRATOR_BOOTSTRAP", "a:1, b:0", "'b:0' is no HOST:PORT"),
        ("ORCHESTRATOR_BOOTSTRAP", "::1", "is no HOST:PORT"),
        ("ORCHESTRATOR_APP_NAME", "My Shop", "use lower-case letters"),
        ("ORCHESTRATOR_BOOSTRAP", "x:1", "did you mean ORCHESTRATOR_BOOTSTRAP?"),
        ("ORCHESTRATOR_KAFKA_BOOTSTRAP_SERVERS", "x:1", "set ORCHESTRATOR_BOOTSTRAP"),
        ("ORCHESTRATOR_KAFKA_ISOLATION_LEVEL", "x", "every reader is read_committed"),
        ("ORCHESTRATOR_KAFKA_", "x", "names no librdkafka option"),
    ],
)
def test_mistakes_are_explained(name: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({name: text})
    assert sentence in str(caught.value)


def test_names_of_others_are_left_alone() -> None:
    assert Settings.from_env({"ORCHESTRATOR_SERVICE_HOST": "10.0.0.1", "ORCHESTRATOR_CACHE": "/x"}) == Settings()


def test_options_win_over_the_environment() -> None:
    settings = Settings.from_env({"ORCHESTRATOR_BOOTSTRAP": "a:1"})
    assert settings.with_changes(bootstrap="b:2", app=None).bootstrap == "b:2"
    with pytest.raises(ConfigurationError, match="give --app"):
        settings.required_app()


def test_the_reference_lists_every_variable() -> None:
    page = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
    listed = page.replace(
        "`ORCHESTRATOR_HEALTH_HOST`, `_PORT`", "`ORCHESTRATOR_HEALTH_HOST` `ORCHESTRATOR_HEALTH_PORT`"
    )
    assert [name for name in READERS if f"`{name}`" not in listed] == []


def test_one_map_serves_every_host(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "engine-0=0-2; engine-1=3,4;"
    for host, mine in (("engine-0", (0, 1, 2)), ("engine-1", (3, 4))):
        monkeypatch.setattr("orchestrator.config.socket.gethostname", lambda host=host: host)
        assert parse_assignment("A", text) == mine
    monkeypatch.setattr("orchestrator.config.socket.gethostname", lambda: "engine-2")
    with pytest.raises(ConfigurationError, match="no partitions for this host, engine-2: it names engine-0, engine-1"):
        parse_assignment("A", text)
    with pytest.raises(ConfigurationError, match="partition 2 is both engine-0's and engine-1's"):
        parse_assignment("A", "engine-0=0-2; engine-1=2-4")
    with pytest.raises(ConfigurationError, match="must be partition numbers"):
        parse_assignment("A", "engine-0=x")
