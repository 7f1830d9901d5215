"""The Confluent schema registry, as far as its wire format needs it, and the codec that a process's settings ask for.

`orchestrator topics init` registers the schemas; everybody else looks their ids up once, at the start, and keeps them:
a registry that goes away later stops nobody. A subject is a record's full name (`orchestrator.events.v1.RunStarted`),
for several record types share a topic. An id that was not looked up is asked for when it is first met.
"""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from ..config import Settings
from ..errors import ConfigurationError, RegistryUnavailable, UndecodableRecord
from . import schemas
from .framing import Confluent, SingleObjectToo
from .records import Codec

START_S = 15.0
MEET_S = 0.5
"""How long a reader waits for the meaning of an id that it meets: a partition's thread may be waiting."""
AGAIN_S = 30.0
"""After how long an id that could not be found is asked for again."""
AT_ONCE = 8
CUT_WAITS_S = (0.1, 0.5)
CONTENT = "application/vnd.schemaregistry.v1+json"


def _answer(request: Request, timeout_s: float) -> Any:
    """What is answered. A connection that was cut is made anew: every request may be repeated."""
    for wait_s in CUT_WAITS_S:
        try:
            return _once(request, timeout_s)
        except (URLError, ConnectionResetError) as error:
            if not isinstance(getattr(error, "reason", error), ConnectionResetError):
                raise
            time.sleep(wait_s)
    return _once(request, timeout_s)


def _once(request: Request, timeout_s: float) -> Any:
    with urlopen(request, timeout=timeout_s) as response:
        return json.load(response)


class Registry:
    """One registry's REST API. `where` is its address without credentials, for messages."""

    def __init__(self, url: str, auth: str = "") -> None:
        """`auth` is `user:password` for basic authentication; `url` may carry it instead.

        Raises ConfigurationError when `url` is no HTTP address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("ORCHESTRATOR_REGISTRY_URL must be an address, as in http://registry:8081")
        userinfo, _, host = parts.netloc.rpartition("@")
        self.where = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Content-Type": CONTENT, "Accept": CONTENT}
        given = auth or unquote(userinfo)
        if given:
            self._headers["Authorization"] = f"Basic {base64.b64encode(given.encode()).decode()}"

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema, registered now unless it was. Raises RegistryUnavailable, ConfigurationError."""
        answer = self._ask(f"/subjects/{quote(subject, safe='')}/versions", {"schema": schema})
        if answer is None:
            raise RegistryUnavailable(f"{self.where} is no schema registry: it knows no subjects")
        return self._number(answer)

    def look_up(self, subject: str, schema: str) -> int | None:
        """The id of a schema; None if it is not registered. Raises RegistryUnavailable, ConfigurationError."""
        answer = self._ask(f"/subjects/{quote(subject, safe='')}", {"schema": schema})
        return None if answer is None else self._number(answer)

    def schema(self, number: int, timeout_s: float = START_S) -> str | None:
        """The Avro schema of an id; None if there is none. Raises RegistryUnavailable, ConfigurationError."""
        answer = self._ask(f"/schemas/ids/{number}", timeout_s=timeout_s)
        if answer is None or answer.get("schemaType", "AVRO") != "AVRO":
            return None
        return str(answer.get("schema", ""))

    def _number(self, answer: dict[str, Any]) -> int:
        number = answer.get("id")
        if not isinstance(number, int):
            raise RegistryUnavailable(f"{self.where} is no schema registry: it gave no id")
        return number

    def _ask(self, path: str, body: dict[str, str] | None = None, timeout_s: float = START_S) -> dict[str, Any] | None:
        """The answer; None for 404."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.where + path, data, self._headers)
        try:
            answer = _answer(request, timeout_s)
        except HTTPError as error:
            with error:
                self._refused(path, error)
            return None
        except (OSError, ValueError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise RegistryUnavailable(
                f"the schema registry {self.where} cannot be reached ({reason}): start it, or correct"
                " ORCHESTRATOR_REGISTRY_URL"
            ) from error
        if not isinstance(answer, dict):
            raise RegistryUnavailable(f"{self.where} is no schema registry: {path} answers no object")
        return answer

    def _refused(self, path: str, error: HTTPError) -> None:
        if error.code == 404:
            return
        if error.code in (401, 403):
            raise ConfigurationError(
                f"the schema registry {self.where} refuses these credentials ({error.code}): check"
                " ORCHESTRATOR_REGISTRY_AUTH, and their rights"
            ) from error
        said = error.read(1_000).decode(errors="replace")
        if error.code < 500:
            raise ConfigurationError(
                f"the schema registry {self.where} refuses {path} ({error.code}): {said}"
            ) from error
        raise RegistryUnavailable(f"the schema registry {self.where} fails ({error.code}): {said}") from error


def subject_of(schema: schemas.Schema) -> str:
    """The subject of one of our schemas: its full name."""
    return str(schema.parsed["name"])


def on_topics() -> list[schemas.Schema]:
    """The schemas of records that travel; rows never leave an engine."""
    return [schema for schema in schemas.all_schemas() if schema.kind != "rows"]


def register_schemas(settings: Settings) -> int:
    """Register every schema, oldest versions first; how many. Without a registry none.

    Raises RegistryUnavailable, ConfigurationError.
    """
    registry = _registry(settings)
    if registry is None:
        return 0
    wanted = sorted(on_topics(), key=lambda schema: schema.version)
    for schema in wanted:
        registry.register(subject_of(schema), schema.path.read_text(encoding="utf-8"))
    return len(wanted)


def missing_schemas(settings: Settings) -> list[str]:
    """Subjects whose schema is not registered. Raises RegistryUnavailable, ConfigurationError."""
    registry = _registry(settings)
    return [] if registry is None else _look_up(registry)[1]


def codec_of(settings: Settings) -> Codec:
    """The codec of a process: it writes as `wire` says and reads both wire formats where a registry is named.

    Raises RegistryUnavailable, and ConfigurationError when the schemas are not registered.
    """
    return _codec(settings.wire, settings.registry_url, settings.registry_auth)


@cache
def _codec(wire: str, url: str, auth: str) -> Codec:
    if not url:
        return Codec()
    registry = Registry(url, auth)
    resolve = Resolver(registry).fingerprint
    if wire != "confluent":
        return Codec(SingleObjectToo(Confluent({}, resolve)))
    ids, missing = _look_up(registry)
    if missing:
        some = ", ".join(missing[:3])
        raise ConfigurationError(
            f"{len(missing)} schemas are not registered at {registry.where} ({some} ...): run"
            " `orchestrator topics init` with the same ORCHESTRATOR_REGISTRY_URL"
        )
    return Codec(Confluent(ids, resolve))


def _registry(settings: Settings) -> Registry | None:
    return Registry(settings.registry_url, settings.registry_auth) if settings.registry_url else None


def _look_up(registry: Registry) -> tuple[dict[bytes, int], list[str]]:
    """Ids by fingerprint, and the subjects that have none."""
    wanted = on_topics()

    def one(schema: schemas.Schema) -> int | None:
        return registry.look_up(subject_of(schema), schema.path.read_text(encoding="utf-8"))

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="registry") as pool:
        numbers = list(pool.map(one, wanted))
    found = list(zip(wanted, numbers, strict=True))
    ids = {schema.fingerprint: number for schema, number in found if number is not None}
    return ids, [subject_of(schema) for schema, number in found if number is None]


class Resolver:
    """Finds out what an id means that was not looked up at the start."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._failed: dict[int, tuple[float, str]] = {}
        self._down: tuple[float, str] = (0.0, "")

    def fingerprint(self, number: int) -> bytes:
        """The fingerprint of the schema of an id. Raises UndecodableRecord naming the registry.

        Waits for half a second at most, and not again for what just failed: poisoned input must delay nobody else.
        """
        now = time.monotonic()
        for until, why in (self._down, self._failed.get(number, (0.0, ""))):
            if now < until:
                raise UndecodableRecord(f"schema id {number}: {why}")
        try:
            text = self._registry.schema(number, MEET_S)
            found = schemas.fingerprint(text) if text is not None else None
        except (RegistryUnavailable, ConfigurationError) as error:
            why = f"{error}; once it answers, send the record again"
            self._down = (now + AGAIN_S, why)
            raise UndecodableRecord(f"schema id {number}: {why}") from error
        except Exception as error:
            # Whatever fastavro makes of a text that is no schema.
            why = f"the schema registry {self._registry.where} holds no usable Avro schema under it: {error}"
            raise self._remember(number, why) from error
        if found is None:
            raise self._remember(number, f"the schema registry {self._registry.where} has no Avro schema of this id")
        return found

    def _remember(self, number: int, why: str) -> UndecodableRecord:
        if len(self._failed) > 10_000:
            self._failed.clear()
        self._failed[number] = (time.monotonic() + AGAIN_S, why)
        return UndecodableRecord(f"schema id {number}: {why}")
