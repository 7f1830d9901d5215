"""The schema registry: registered once, looked up at the start, kept; both wire formats are read."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request

import pytest

from orchestrator.codec import registry, schemas
from orchestrator.codec.records import Codec
from orchestrator.codec.registry import Registry, codec_of, missing_schemas, register_schemas
from orchestrator.config import Settings
from orchestrator.core import commands as c
from orchestrator.core.rows import OutboxRow
from orchestrator.core.tasks import Reply
from orchestrator.errors import ConfigurationError, RegistryUnavailable, UndecodableRecord
from tests.codec.registry_server import RegistryServer

pytestmark = pytest.mark.slow

COMMAND = c.Command("c-1", "w", c.CancelWorkflow(""))
TRAVEL = [schema for schema in schemas.all_schemas() if schema.kind != "rows"]


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    made = RegistryServer()
    yield made
    made.close()


def settings(server: RegistryServer, wire: str = "confluent", **more: str) -> Settings:
    return Settings(wire=wire, registry_url=more.pop("url", server.url), **more)  # type: ignore[arg-type]


def test_topics_init_registers_every_record_that_travels_under_its_name(server: RegistryServer) -> None:
    assert register_schemas(settings(server)) == len(TRAVEL)
    assert set(server.subjects) == {f"orchestrator.{schema.kind}.v1.{schema.name}" for schema in TRAVEL}
    for schema in TRAVEL:
        number = server.subjects[f"orchestrator.{schema.kind}.v1.{schema.name}"][schema.version - 1]
        assert json.loads(server.texts[number]) == json.loads(schema.path.read_text(encoding="utf-8"))
    before = dict(server.texts)
    register_schemas(settings(server))
    assert server.texts == before, "harmless to run again"
    assert missing_schemas(settings(server)) == []


def test_what_is_not_registered_is_named_with_the_remedy(server: RegistryServer) -> None:
    assert len(missing_schemas(settings(server))) == len(TRAVEL)
    with pytest.raises(ConfigurationError, match=r"topics init") as raised:
        codec_of(settings(server))
    assert f"{len(TRAVEL)} schemas are not registered at {server.url}" in str(raised.value)
    assert codec_of(settings(server, "single_object")).encode(COMMAND)[:2] == b"\xc3\x01"


def test_ids_are_kept_when_the_registry_goes_away(server: RegistryServer) -> None:
    register_schemas(settings(server))
    codec = codec_of(settings(server))
    asked = sum(server.asked.values())
    server.close()
    value = codec.encode(COMMAND)
    assert value[:1] == b"\x00"
    assert int.from_bytes(value[1:5], "big") == server.subjects["orchestrator.commands.v1.CancelWorkflow"][0]
    assert codec.decode(value) == COMMAND
    assert codec_of(settings(server)) is codec, "one a process"
    assert sum(server.asked.values()) == asked


def test_both_formats_are_read_whatever_is_written(server: RegistryServer) -> None:
    register_schemas(settings(server))
    confluent, single = codec_of(settings(server)), codec_of(settings(server, "single_object"))
    for writer in (confluent, single, Codec()):
        for reader in (confluent, single):
            assert reader.decode(writer.encode(COMMAND)) == COMMAND
    assert single.encode(COMMAND) == Codec().encode(COMMAND)


def test_state_does_not_depend_on_the_topics_framing(server: RegistryServer) -> None:
    register_schemas(settings(server))
    row = OutboxRow("replies", 0, "k", Reply("c", "w", "r", "accepted"))
    assert codec_of(settings(server)).encode(row) == Codec().encode(row)


def test_the_same_schema_in_other_words_is_found_by_its_id(server: RegistryServer) -> None:
    """Another producer registers what it has: without docs, under its topic's name."""
    register_schemas(settings(server))
    path = schemas.folder() / "commands" / "CancelWorkflow.v1.avsc"
    bare = json.loads(path.read_text(encoding="utf-8"))
    del bare["doc"]
    number = server.put("shop.commands-value", json.dumps(bare))
    codec = codec_of(settings(server))
    value = b"\x00" + number.to_bytes(4, "big") + codec.encode(COMMAND)[5:]
    assert codec.decode(value) == COMMAND
    asked = server.asked["GET schemas"]
    assert codec.decode(value) == COMMAND
    assert server.asked["GET schemas"] == asked == 1, "an id is asked for once"


class TestUnknownIds:
    """What ends as a dead letter, and never as an endless wait."""

    def test_an_id_that_the_registry_does_not_have_names_it(self, server: RegistryServer) -> None:
        codec = codec_of(settings(server, "single_object"))
        for _ in range(3):
            with pytest.raises(UndecodableRecord, match=f"schema id 7: the schema registry {server.url} has no"):
                codec.decode(b"\x00\x00\x00\x00\x07body")
        assert server.asked["GET schemas"] == 1, "not asked for again at once"

    def test_another_application_s_schema_is_no_record_of_ours(self, server: RegistryServer) -> None:
        number = server.put("other", '{"type": "record", "name": "Other", "fields": []}')
        codec = codec_of(settings(server, "single_object"))
        with pytest.raises(UndecodableRecord, match="not one of this application's records"):
            codec.decode(b"\x00" + number.to_bytes(4, "big"))

    @pytest.mark.parametrize(("text", "kind"), [('{"$schema": 1}', "JSON"), ("no schema", ""), ('"nonsense"', "")])
    def test_what_is_no_avro_is_named(self, server: RegistryServer, text: str, kind: str) -> None:
        number = server.put("other", text)
        if kind:
            server.types[number] = kind
        with pytest.raises(UndecodableRecord, match=f"schema id {number}: .*{server.url}"):
            codec_of(settings(server, "single_object")).decode(b"\x00" + number.to_bytes(4, "big"))

    def test_a_registry_that_is_away_is_not_waited_for_twice(
        self, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        register_schemas(settings(server))
        codec = codec_of(settings(server))
        server.close()
        with pytest.raises(UndecodableRecord, match="cannot be reached"):
            codec.decode(b"\x00\x00\x00\x00\x07body")
        monkeypatch.setattr(registry, "urlopen", lambda *_, **__: pytest.fail("asked again"))
        with pytest.raises(UndecodableRecord, match=f"{server.url} cannot be reached.*send the record again"):
            codec.decode(b"\x00\x00\x00\x00\x08body")

    def test_without_a_registry_the_setting_is_named(self) -> None:
        with pytest.raises(UndecodableRecord, match="ORCHESTRATOR_REGISTRY_URL"):
            Codec().decode(b"\x00\x00\x00\x00\x07body")


class TestTheRegistryItself:
    """Addresses, credentials, refusals."""

    def test_down_at_the_start_is_a_sentence(self, server: RegistryServer) -> None:
        server.close()
        for act in (codec_of, register_schemas, missing_schemas):
            with pytest.raises(RegistryUnavailable, match=f"{server.url} cannot be reached.*ORCHESTRATOR_REGISTRY_URL"):
                act(settings(server))

    @pytest.mark.parametrize("url", ["registry:8081", "ftp://registry", "http://", "nonsense"])
    def test_a_wrong_address_is_named(self, server: RegistryServer, url: str) -> None:
        with pytest.raises(ConfigurationError, match="ORCHESTRATOR_REGISTRY_URL must be an address"):
            codec_of(settings(server, url=url))

    def test_something_else_at_the_address(self, server: RegistryServer) -> None:
        with pytest.raises(RegistryUnavailable, match="no schema registry"):
            register_schemas(settings(server, url=f"{server.url}/elsewhere"))
        server.failing = 503
        with pytest.raises(RegistryUnavailable, match=r"fails .503"):
            codec_of(settings(server))
        server.failing = 409
        with pytest.raises(ConfigurationError, match=r"refuses .*409"):
            register_schemas(settings(server))

    def test_what_does_not_speak_http_is_no_registry(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"

            def answer() -> None:
                peer, _ = listening.accept()
                with peer:
                    peer.recv(10_000)
                    peer.sendall(b"SSH-2.0-nonsense\r\n\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(RegistryUnavailable, match=f"{url} cannot be reached"):
                Registry(url).schema(1)
            thread.join()

    def test_credentials_are_used_and_never_shown(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        server = RegistryServer(auth="me:se@cret")
        caplog.set_level(logging.DEBUG)
        try:
            in_url = settings(server, url=server.url.replace("://", "://me:se%40cret@"))
            apart = settings(server, registry_auth="me:se@cret")
            assert register_schemas(in_url) == len(TRAVEL)
            assert codec_of(in_url).decode(codec_of(apart).encode(COMMAND)) == COMMAND
            with pytest.raises(ConfigurationError, match="refuses these credentials") as raised:
                codec_of(settings(server, registry_auth="me:wrong-se@cret"))
            told = f"{raised.value} {in_url!r} {apart!r} {caplog.text} {Registry(in_url.registry_url).where}"
            assert "cret" not in told
        finally:
            server.close()


def test_a_connection_that_is_cut_is_made_anew() -> None:
    """As a balancer, or a registry that restarts, does."""
    texts = {"schema": '"string"'}
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            cut, _ = listening.accept()
            cut.recv(100)
            cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            cut.close()
            kept, _ = listening.accept()
            with kept:
                kept.recv(10_000)
                body = json.dumps(texts).encode()
                kept.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        thread = threading.Thread(target=serve)
        thread.start()
        found = registry._answer(Request(f"http://127.0.0.1:{listening.getsockname()[1]}/"), 10.0)
        thread.join()
    assert found == texts
