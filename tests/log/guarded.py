"""A real broker that enforces rights: a user a row of the manual's table, with the rights that stand there, no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from orchestrator.devkafka.cluster import DevKafka, Plan
from tests.architecture.source import ROOT
from tests.worker.rig import until

MANUAL = ROOT / "docs" / "security.md"
KINDS = {
    "topics": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional ids": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,
}
PASSWORD = "hunter2-is-nobodys-business"
WAIT_S = 30.0
ANY = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)
_ALSO = re.compile(r"the (.+)'s")


class Right(NamedTuple):
    """What one row allows on one name. `kind` is the table's column, `name` as it is written there."""

    kind: str
    operation: str
    name: str


def rights(own: bool = False) -> dict[str, list[Right]]:
    """The manual's table: the rights of each row, by its first column; `own`: without those of rows that it names."""
    section = MANUAL.read_text(encoding="utf-8").split("## Rights on Kafka")[1].split("\n## ")[0]
    heads, _, *rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    found: dict[str, list[Right]] = {}
    for who, *cells in rows:
        known = {row: list[Right]() for row in found} if own else found
        found[who] = [right for kind, cell in zip(heads[1:], cells, strict=True) for right in _read(kind, cell, known)]
    return found


def _read(kind: str, cell: str, found: dict[str, list[Right]]) -> Iterator[Right]:
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        if also := _ALSO.fullmatch(part):
            yield from (right for right in found[also[1]] if right.kind == kind)
            continue
        operations, names = part.split(":")
        for operation in operations.split(","):
            yield from (Right(kind, operation.strip(), name.strip()) for name in names.split(","))


def binding(user: str, right: Right, app: str) -> AclBinding:
    """The broker's rule for a right of a user."""
    name, pattern = right.name, ResourcePatternType.LITERAL
    if right.kind == "topics":
        name = f"<app>.{name}"
    if right.kind == "cluster":
        name = "kafka-cluster"
    else:
        assert name.startswith("<app>."), f"{right}: every name begins with the application's"
        name = name.replace("<app>", app)
        # `tasks.*`, `<app>.<p>.<lane>`: whatever begins so.
        if (cut := re.search(r"[*<]", name)) is not None:
            name, pattern = name[: cut.start()], ResourcePatternType.PREFIXED
    operation = AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", right.operation).upper()]
    return AclBinding(KINDS[right.kind], name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)


def user_of(who: str) -> str:
    """The login of a row: one word of it."""
    return re.sub(r"[^a-z]+", "-", who)


class Guarded:
    """The broker. Its open listener is for itself and the test's admin; everybody else logs in by SASL/PLAIN."""

    def __init__(self) -> None:
        self.table = rights()
        users = " ".join(f'user_{user_of(who)}="{PASSWORD}"' for who in (*self.table, "nobody"))
        extra = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:ANONYMOUS",
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
            ),
        }
        self.kafka = DevKafka.run(Plan(extra=extra, secured=("SASL_PLAINTEXT",)))
        self.admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})

    @property
    def bootstrap(self) -> str:
        """Where users log in."""
        return self.kafka.secured_bootstrap("SASL_PLAINTEXT")

    def options(self, who: str) -> dict[str, str]:
        """librdkafka's options for the user of a row."""
        login = {"sasl.mechanism": "PLAIN", "sasl.username": user_of(who), "sasl.password": PASSWORD}
        return {"security.protocol": "SASL_PLAINTEXT", **login}

    def allow(self, app: str, without: tuple[str, Right] | None = None) -> None:
        """Give every user of the table its rights on an application, `without` one of them."""
        bindings = {
            binding(user_of(who), right, app)
            for who, found in self.table.items()
            for right in found
            if (who, right) != without
        }
        self._create(bindings)

    def take(self, app: str, who: str, right: Right) -> None:
        """Take a right away again."""
        one = binding(user_of(who), right, app)
        wanted = AclBindingFilter(
            one.restype,
            one.name,
            one.resource_pattern_type,
            one.principal,
            one.host,
            one.operation,
            one.permission_type,
        )
        for future in self.admin.delete_acls([wanted]).values():
            assert future.result(WAIT_S)
        until(lambda: one not in self._rules(), "the broker's forgetting of the rule")

    def give(self, app: str, who: str, right: Right) -> None:
        """Give one right."""
        self._create({binding(user_of(who), right, app)})

    def _create(self, bindings: set[AclBinding]) -> None:
        for future in self.admin.create_acls(list(bindings)).values():
            future.result(WAIT_S)
        until(lambda: bindings <= self._rules(), "the broker's knowing of the rules")

    def _rules(self) -> set[AclBinding]:
        """What the broker goes by: the controller knows of a change a moment before."""
        return set(self.admin.describe_acls(ANY).result(WAIT_S))
