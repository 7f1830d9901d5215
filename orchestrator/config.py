"""Settings of a process, read once from the `ORCHESTRATOR_*` variables. Every consumer and command takes one."""

from __future__ import annotations

import difflib
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import ConfigurationError

PREFIX = "ORCHESTRATOR_"
KAFKA_PREFIX = "ORCHESTRATOR_KAFKA_"
OUTSIDE = ("ORCHESTRATOR_CACHE", "ORCHESTRATOR_SEED")
"""Variables of this prefix that other parts read by themselves."""

OURS: Mapping[str, str] = MappingProxyType(
    {
        "bootstrap.servers": "set ORCHESTRATOR_BOOTSTRAP",
        "group.id": "the group is <app>.engine, so that one prefixed right covers the application",
        "group.protocol": "set ORCHESTRATOR_GROUP_PROTOCOL",
        "transactional.id": "lanes name their own, and claims depend on the names",
        "enable.idempotence": "every producer is idempotent",
        "isolation.level": "every reader is read_committed",
        "enable.auto.commit": "the input position is in the footers of the events log",
        "enable.auto.offset.store": "the input position is in the footers of the events log",
        "auto.offset.reset": "a position below the log's start is a loss and must be seen",
        "partitioner": "partitions are murmur2 of the workflow id, given explicitly",
    }
)
"""librdkafka options that cannot be passed through, and why."""


@dataclass(frozen=True)
class Settings:
    """What a process is told from outside. Times in seconds; `kafka` goes to librdkafka as it is.

    `app` names the code (`module:attribute`); `app_name` names the application alone, for tools that need no code.
    """

    app: str = ""
    app_name: str = ""
    bootstrap: str = "127.0.0.1:9092"
    kafka: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    state_dir: Path = Path(".orchestrator")
    blob_dir: Path | None = None
    inline_bytes: int = 65_536
    membership: str = "group"
    group_protocol: str = "consumer"
    assignment: tuple[int, ...] = ()
    generation: int = 0
    standby: tuple[int, ...] | None = None
    session_timeout_s: float = 6.0
    lanes: int = 2
    isolation: str = "process"
    step_slots: int = 0
    queues: tuple[str, ...] = ()
    image_digest: str = ""
    grace_s: float = 30.0
    lease_s: float = 60.0
    partitions: int = 16
    refuse: tuple[str, ...] = ()
    max_open_runs: int = 0
    max_pending_steps: int = 0
    continue_as_new_at: int = 4_096
    replication_factor: int = 0
    wire: str = "single_object"
    registry_url: str = field(default="", repr=False)
    registry_auth: str = field(default="", repr=False)
    checkpoint_url: str = ""
    checkpoint_every_events: int = 500_000
    checkpoint_every_s: float = 600.0
    checkpoint_keep: int = 3
    s3_endpoint: str = ""
    signing_key: Path | None = None
    key_ring: Path | None = None
    signatures: str = "optional"
    anchor_key: Path | None = None
    anchor_dir: Path | None = None
    anchor_public: Path | None = None
    reply_timeout_s: float = 30.0
    health_host: str = "127.0.0.1"
    health_port: int = 0
    dev: bool = False
    log_level: str = "INFO"

    @property
    def blobs(self) -> Path:
        """The directory of blobs: `blob_dir`, else `blobs` in the state directory."""
        return self.blob_dir or self.state_dir / "blobs"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables. Raises ConfigurationError naming the variable, its value and what it may be."""
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        kafka: dict[str, str] = {}
        for name, text in source.items():
            if not text.strip():
                # An empty variable is an unset one: compose files and manifests cannot leave one out.
                continue
            if name.startswith(KAFKA_PREFIX):
                kafka[_option(name)] = text
            elif name in READERS:
                field_name, read = READERS[name]
                values[field_name] = read(name, text.strip())
            elif name.startswith(PREFIX) and name not in OUTSIDE:
                _refuse_typing_error(name)
        return cls(kafka=MappingProxyType(kafka), **values).checked()

    def checked(self) -> Settings:
        """This, if its parts agree with each other. Raises ConfigurationError otherwise."""
        if self.app:
            _application("--app", self.app)
        if self.app_name:
            application_name(self.app_name)
        for server in self.bootstrap.split(","):
            _check_server(server.strip())
        if self.membership == "static" and not self.assignment:
            raise ConfigurationError(
                "ORCHESTRATOR_MEMBERSHIP=static needs ORCHESTRATOR_ASSIGNMENT, this process's partitions, as in 0-3,8"
            )
        if self.assignment and self.membership != "static":
            raise ConfigurationError(
                "ORCHESTRATOR_ASSIGNMENT means nothing without ORCHESTRATOR_MEMBERSHIP=static: set both or neither"
            )
        if self.wire == "confluent" and not self.registry_url:
            raise ConfigurationError(
                "ORCHESTRATOR_WIRE=confluent needs ORCHESTRATOR_REGISTRY_URL, the schema registry's address"
            )
        if self.signatures == "required" and self.key_ring is None:
            raise ConfigurationError(
                "ORCHESTRATOR_SIGNATURES=required needs ORCHESTRATOR_KEY_RING, the directory of public keys (*.pub)"
                " whose commands are taken"
            )
        return self

    def with_changes(self, **changes: Any) -> Settings:
        """A copy with `changes`; the command line's options win over the environment this way. None leaves a value."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given).checked()

    def required_app(self) -> str:
        """The reference to the application's code. Raises ConfigurationError when there is none."""
        if not self.app:
            raise ConfigurationError(
                "no application named: give --app module:attribute, or set ORCHESTRATOR_APP, as in shop:app"
            )
        return self.app


def application_name(text: str) -> str:
    """The same, if it can begin the names of topics. Raises ConfigurationError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,99}", text):
        raise ConfigurationError(f"application name {text!r}: use lower-case letters, digits and hyphens")
    return text


def _check_server(text: str) -> None:
    """librdkafka takes a port for its remainder, and an empty host for this one."""
    found = re.fullmatch(r"(?:\w+://)?(?:\[[^]]+]|[^]:/[]+)(?::(\d{1,5}))?", text)
    if found is None or not 0 < int(found[1] or 1) < 65_536:
        raise ConfigurationError(
            f"ORCHESTRATOR_BOOTSTRAP (--bootstrap): {text!r} is no HOST:PORT; several stand with commas between them,"
            f" as in kafka-0:9092,kafka-1:9092"
        )


def _option(name: str) -> str:
    """`ORCHESTRATOR_KAFKA_SASL_MECHANISM` → `sasl.mechanism`; a double underscore stands for an underscore."""
    option = name.removeprefix(KAFKA_PREFIX).lower().replace("__", "\0").replace("_", ".").replace("\0", "_")
    if not option:
        raise ConfigurationError(f"{name} names no librdkafka option: as in ORCHESTRATOR_KAFKA_SECURITY_PROTOCOL")
    if option in OURS:
        raise ConfigurationError(f"{name}: {option} is not yours to set; {OURS[option]}")
    return option


def _refuse_typing_error(name: str) -> None:
    """Refuse a name that is nearly one of ours; leave others alone (Kubernetes injects names after services)."""
    near = difflib.get_close_matches(name, READERS, n=1, cutoff=0.88)
    if near:
        raise ConfigurationError(f"unknown setting {name}: did you mean {near[0]}?")


def _text(_name: str, text: str) -> str:
    return text


def _path(_name: str, text: str) -> Path:
    return Path(text).expanduser()


def _one_of(*words: str) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text.lower() in words:
            return text.lower()
        raise ConfigurationError(f"{name}={text!r}: must be {' or '.join(words)}")

    return read


def _whole(least: int, most: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ConfigurationError(f"{name}={text!r}: must be a whole number from {least} to {most}") from None
        if not least <= value <= most:
            raise ConfigurationError(f"{name}={value}: must be from {least} to {most}")
        return value

    return read


def _seconds(least: float, most: float) -> Callable[[str, str], float]:
    def read(name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ConfigurationError(f"{name}={text!r}: must be seconds, as in 30 or 0.5") from None
        if not least <= value <= most:
            raise ConfigurationError(f"{name}={text}: must be from {least:g} to {most:g} seconds")
        return value

    return read


def _yes(name: str, text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{name}={text!r}: must be 1 or 0")


def _words(_name: str, text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _application(name: str, text: str) -> str:
    module, colon, attribute = text.partition(":")
    if not module or (colon and not attribute):
        raise ConfigurationError(f"{name}={text!r}: must be module:attribute, as in shop:app")
    return text


def parse_partitions(name: str, text: str) -> tuple[int, ...]:
    """`0-3,8` → (0, 1, 2, 3, 8). Raises ConfigurationError."""
    found: set[int] = set()
    for part in _words(name, text):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise ConfigurationError(f"{name}={text!r}: must be partition numbers and ranges, as in 0-3,8")
        found.update(range(int(first), int(last or first) + 1))
    if not found:
        raise ConfigurationError(f"{name}={text!r}: names no partition")
    return tuple(sorted(found))


def parse_assignment(name: str, text: str) -> tuple[int, ...]:
    """This process's partitions: `0-3,8`, or out of one map for all hosts, `engine-0=0-3; engine-1=4-7`.

    Raises ConfigurationError, also when a partition stands in the map twice, or this host not at all.
    """
    if "=" not in text:
        return parse_partitions(name, text)
    owners: dict[int, str] = {}
    shares: dict[str, tuple[int, ...]] = {}
    for entry in filter(str.strip, text.split(";")):
        host, _, numbers = (part.strip() for part in entry.partition("="))
        shares[host] = parse_partitions(name, numbers)
        for number in shares[host]:
            if number in owners:
                raise ConfigurationError(f"{name}: partition {number} is both {owners[number]}'s and {host}'s")
            owners[number] = host
    here = socket.gethostname()
    if here not in shares:
        raise ConfigurationError(f"{name} has no partitions for this host, {here}: it names {', '.join(shares)}")
    return shares[here]


def parse_standby(name: str, text: str) -> tuple[int, ...]:
    """The partitions that this process follows while others own them: as an assignment; none named (`all`) is all."""
    return () if text.lower() == "all" else parse_assignment(name, text)


READERS: Mapping[str, tuple[str, Callable[[str, str], Any]]] = MappingProxyType(
    {
        "ORCHESTRATOR_APP": ("app", _application),
        "ORCHESTRATOR_APP_NAME": ("app_name", _text),
        "ORCHESTRATOR_BOOTSTRAP": ("bootstrap", _text),
        "ORCHESTRATOR_STATE_DIR": ("state_dir", _path),
        "ORCHESTRATOR_BLOB_DIR": ("blob_dir", _path),
        "ORCHESTRATOR_INLINE_BYTES": ("inline_bytes", _whole(1_024, 1_000_000)),
        "ORCHESTRATOR_MEMBERSHIP": ("membership", _one_of("group", "static")),
        "ORCHESTRATOR_GROUP_PROTOCOL": ("group_protocol", _one_of("consumer", "classic")),
        "ORCHESTRATOR_ASSIGNMENT": ("assignment", parse_assignment),
        "ORCHESTRATOR_STANDBY": ("standby", parse_standby),
        "ORCHESTRATOR_GENERATION": ("generation", _whole(0, 2**31 - 1)),
        "ORCHESTRATOR_SESSION_TIMEOUT_S": ("session_timeout_s", _seconds(1, 1800)),
        "ORCHESTRATOR_LANES": ("lanes", _whole(1, 16)),
        "ORCHESTRATOR_ISOLATION": ("isolation", _one_of("process", "thread")),
        "ORCHESTRATOR_STEP_SLOTS": ("step_slots", _whole(0, 4096)),
        "ORCHESTRATOR_QUEUES": ("queues", _words),
        "ORCHESTRATOR_IMAGE_DIGEST": ("image_digest", _text),
        "ORCHESTRATOR_GRACE_S": ("grace_s", _seconds(0, 86_400)),
        "ORCHESTRATOR_LEASE_S": ("lease_s", _seconds(1, 86_400)),
        "ORCHESTRATOR_REFUSE": ("refuse", _words),
        "ORCHESTRATOR_MAX_OPEN_RUNS": ("max_open_runs", _whole(0, 2**31 - 1)),
        "ORCHESTRATOR_MAX_PENDING_STEPS": ("max_pending_steps", _whole(0, 2**31 - 1)),
        "ORCHESTRATOR_CONTINUE_AS_NEW_AT": ("continue_as_new_at", _whole(0, 2**31 - 1)),
        "ORCHESTRATOR_PARTITIONS": ("partitions", _whole(1, 4096)),
        "ORCHESTRATOR_REPLICATION_FACTOR": ("replication_factor", _whole(0, 32)),
        "ORCHESTRATOR_WIRE": ("wire", _one_of("single_object", "confluent")),
        "ORCHESTRATOR_REGISTRY_URL": ("registry_url", _text),
        "ORCHESTRATOR_REGISTRY_AUTH": ("registry_auth", _text),
        "ORCHESTRATOR_CHECKPOINT_URL": ("checkpoint_url", _text),
        "ORCHESTRATOR_CHECKPOINT_EVERY_EVENTS": ("checkpoint_every_events", _whole(1, 2**31 - 1)),
        "ORCHESTRATOR_CHECKPOINT_EVERY_S": ("checkpoint_every_s", _seconds(1, 30 * 86_400)),
        "ORCHESTRATOR_CHECKPOINT_KEEP": ("checkpoint_keep", _whole(1, 1_000)),
        "ORCHESTRATOR_S3_ENDPOINT": ("s3_endpoint", _text),
        "ORCHESTRATOR_SIGNING_KEY": ("signing_key", _path),
        "ORCHESTRATOR_KEY_RING": ("key_ring", _path),
        "ORCHESTRATOR_SIGNATURES": ("signatures", _one_of("optional", "required")),
        "ORCHESTRATOR_ANCHOR_KEY": ("anchor_key", _path),
        "ORCHESTRATOR_ANCHOR_DIR": ("anchor_dir", _path),
        "ORCHESTRATOR_ANCHOR_PUBLIC": ("anchor_public", _path),
        "ORCHESTRATOR_REPLY_TIMEOUT_S": ("reply_timeout_s", _seconds(0.1, 86_400)),
        "ORCHESTRATOR_HEALTH_HOST": ("health_host", _text),
        "ORCHESTRATOR_HEALTH_PORT": ("health_port", _whole(0, 65_535)),
        "ORCHESTRATOR_DEV": ("dev", _yes),
        "ORCHESTRATOR_LOG_LEVEL": (
            "log_level",
            lambda name, text: _one_of("debug", "info", "warning", "error")(name, text).upper(),
        ),
    }
)
"""Every variable, the field it sets, and how its text is read."""
