"""Who sent a command: known by a key of the application's ring, else only said; and applications that take no other."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.signatures import CommandSigner
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core import commands as c, events as e
from orchestrator.core.signatures import SIGNATURE_HEADER, in_time, parse_signature
from orchestrator.core.values import Actor, Payload
from orchestrator.core.waits import PREFIX as TOPIC
from orchestrator.engine.options import EngineOptions, SignatureOptions
from orchestrator.log.partitioner import partition_of
from orchestrator.log.ports import Headers
from tests.engine.rig import KafkaSite, MemorySite, Rig

PARTITIONS = 2
DAY_MS = 86_400_000
ADA = Actor("person", "ada", via="web", authn="verified")


def application() -> Orchestrator:
    """Waits for signals, starts children, tells others, listens to events: every way that engines send commands."""
    app = Orchestrator(f"signed-{uuid.uuid4().hex[:8]}")
    told = app.event("told", str)

    @app.workflow
    async def child(word: str) -> str:
        return f"child {word}"

    @app.workflow
    async def parent(words: list[str]) -> list[str]:
        return [await child.options(id=f"child-{word}")(word) for word in words]

    @app.workflow
    async def hears() -> str:
        return await told.wait()

    @app.workflow
    async def waits() -> str:
        return await app_signal.wait()

    app_signal = app.signal("go", str)
    return app


class Keys:
    """Two keys, of a sender and of the engines, and one that is in no ring."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("sender", "engine", "stranger"):
            generate(folder / f"{name}.pem", signers=False)

    def signer(self, name: str) -> Signer:
        """A private key."""
        return Signer.load(self._folder / f"{name}.pem")

    def options(self, *names: str, required: bool = False) -> EngineOptions:
        """An engine's, whose ring has these keys."""
        ring = PublicKeys.load([public_path(self._folder / f"{name}.pem") for name in names])
        return EngineOptions(signatures=SignatureOptions(ring, self.signer("engine"), required))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def one(request: pytest.FixtureRequest) -> Iterator[Rig]:
    app = application()
    if request.param == "memory":
        made = Rig(app, MemorySite(app.name, PARTITIONS))
    else:
        made = Rig(app, KafkaSite(app.name, request.getfixturevalue("kafka").bootstrap, PARTITIONS))
    yield made
    made.close()


@pytest.fixture
def quick(rig: Callable[[Orchestrator], Rig]) -> Rig:
    return rig(application())


def told(one: Rig, workflow: str, body: c.TopicCommand, headers: Headers | None = None, command_id: str = "") -> str:
    """Send as ada, who says of herself that she is verified; the command's id."""
    command = c.Command(command_id or uuid.uuid4().hex, workflow, body, ADA, reply_to=one.site.reply_to)
    one.send_raw(workflow.encode(), one.codec.encode_command(command), headers=headers)
    return command.id


def start(kind: str, arguments: bytes = b"{}") -> c.StartWorkflow:
    return c.StartWorkflow(kind, Payload(data=arguments))


def actors(one: Rig, workflow: str) -> list[str]:
    """What the history says of those who asked."""
    return [event.body.actor.authn for event in one.events(workflow) if hasattr(event.body, "actor")]


def test_a_signed_command_is_verified_and_any_other_is_claimed_whatever_it_says(one: Rig, keys: Keys) -> None:
    one.engine(keys.options("sender"))
    one.sign = CommandSigner(one.app.name, keys.signer("sender"))
    assert one.answers(told(one, "signed", start("waits")))[0].outcome == "accepted"
    assert one.answers(told(one, "unsigned", start("waits"), headers=()))[0].outcome == "accepted"
    assert one.answers(told(one, "signed", c.SignalWorkflow("go", Payload(data=b'"x"')), headers=()))
    assert one.answers(told(one, "unsigned", c.SignalWorkflow("go", Payload(data=b'"x"'))))
    assert actors(one, "signed") == ["verified", "claimed"]
    assert actors(one, "unsigned") == ["claimed", "verified"]
    (started,) = one.bodies(e.RunStarted, "signed")
    assert started.actor == ADA


def test_without_a_ring_everybody_is_claimed(quick: Rig, keys: Keys) -> None:
    quick.engine()
    quick.sign = CommandSigner(quick.app.name, keys.signer("sender"))
    assert quick.answers(told(quick, "w", start("waits")))
    assert actors(quick, "w") == ["claimed"]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("stranger", "not one of those given"),
        ("other app", "forged or was changed"),
        ("other bytes", "forged or was changed"),
        ("short", "is not one of ours"),
        ("too old", "too far apart"),
        ("too new", "too far apart"),
        ("garbage", "is not one of ours"),
    ],
)
def test_a_signature_that_proves_nothing_leaves_the_command_claimed(
    quick: Rig, keys: Keys, case: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    app, now_ms = quick.app.name, time.time_ns() // 1_000_000
    quick.engine(keys.options("sender"))
    value = quick.codec.encode_command(c.Command(case, "w", start("waits"), ADA, reply_to=quick.site.reply_to))
    sender = keys.signer("sender")
    headers: Headers = {
        "stranger": lambda: CommandSigner(app, keys.signer("stranger")).headers(value),
        "other app": lambda: CommandSigner("other", sender).headers(value),
        "other bytes": lambda: CommandSigner(app, sender).headers(value + b"x"),
        "short": lambda: cut(CommandSigner(app, sender).headers(value)),
        "too old": lambda: CommandSigner(app, sender, lambda: now_ms - 14 * DAY_MS).headers(value),
        "too new": lambda: CommandSigner(app, sender, lambda: now_ms + DAY_MS).headers(value),
        "garbage": lambda: ((SIGNATURE_HEADER, b"\xff\x00 1"),),
    }[case]()
    with caplog.at_level(logging.WARNING):
        quick.send_raw(b"w", value, headers=headers)
        assert quick.answers(case)[0].outcome == "accepted"
    assert actors(quick, "w") == ["claimed"]
    assert says in caplog.text


def cut(headers: Headers) -> Headers:
    """The same without the signature's last byte."""
    return tuple((name, value[:-2]) for name, value in headers)


@pytest.mark.parametrize(
    "text",
    ["", "a b c", f"{'g' * 16} 1 {'0' * 128}", f"{'0' * 16} -1 {'0' * 128}", "0" * 500_000],
    ids=["nothing", "words", "letters", "sign", "long"],
)
def test_a_header_of_another_form_is_no_signature(text: str) -> None:
    assert parse_signature(text) is None
    assert parse_signature(f"{'0' * 16} 1 {'0' * 128}") == (16 * "0", 1, bytes(64))


def test_an_application_that_takes_only_signed_commands(one: Rig, keys: Keys) -> None:
    one.engine(keys.options("sender", "engine", required=True))
    (refused,) = one.answers(told(one, "w", start("waits"), command_id="mine"))
    assert (refused.outcome, refused.code) == ("rejected", "not_verified")
    assert "it is not signed: set ORCHESTRATOR_SIGNING_KEY" in refused.message
    (letter,) = one.wait_for(e.DeadLettered)
    assert one.codec.decode_command(letter.value.data).id == "mine"
    assert one.kinds("w") == []
    # The id was not used up by whoever sent it without a key.
    one.sign = CommandSigner(one.app.name, keys.signer("sender"))
    (taken,) = one.answers(told(one, "w", start("waits"), command_id="mine"), 2)[1:]
    assert (taken.outcome, actors(one, "w")) == ("accepted", ["verified"])
    # Questions are asked by those who have a key, too, and leave no record.
    query = c.QueryWorkflow("describe")
    assert one.answers(told(one, "w", query, headers=()))[0].code == "not_verified"
    assert one.answers(told(one, "w", query))[0].outcome == "answered"
    assert len(one.bodies(e.DeadLettered)) == 1
    # Sent again without its signature it hears nothing of what became of it.
    assert one.answers(told(one, "w", start("waits"), headers=(), command_id="mine"), 3)[2].code == "not_verified"
    assert len(one.bodies(e.RunStarted)) == 1


def test_engines_sign_what_they_send_to_other_workflows(one: Rig, keys: Keys) -> None:
    one.engine(keys.options("sender", "engine", required=True))
    one.sign = CommandSigner(one.app.name, keys.signer("sender"))
    assert one.answers(told(one, "p", start("parent", b'{"words": ["a", "b", "c"]}')))
    assert one.result("p") == b'["child a","child b","child c"]'
    assert actors(one, "child-a") == ["verified"]
    assert one.answers(told(one, "h", start("hears")))
    assert one.answers(told(one, f"{TOPIC}told", c.SendEvent(Payload(data=b'"x"'))))
    assert one.result("h") == b'"x"'
    assert one.bodies(e.EventDelivered, "h")[0].sender == ADA
    assert one.bodies(e.DeadLettered) == []


@pytest.mark.parametrize("required", [False, True])
def test_a_command_that_goes_another_way_keeps_its_signature(quick: Rig, keys: Keys, required: bool) -> None:
    quick.engine(keys.options("sender", "engine", required=required))
    quick.sign = CommandSigner(quick.app.name, keys.signer("sender"))
    elsewhere = 1 - partition_of(b"w", PARTITIONS)
    command = c.Command("one", "w", start("waits"), ADA, reply_to=quick.site.reply_to)
    quick.send_raw(b"w", quick.codec.encode_command(command), elsewhere)
    assert quick.answers("one")[0].outcome == "accepted"
    assert actors(quick, "w") == ["verified"]
    (forwarded,) = quick.bodies(e.CommandForwarded)
    signed = parse_signature(forwarded.signed)
    assert signed is not None
    assert signed.key_id == keys.signer("sender").key_id
    query = c.Command("two", "w", c.QueryWorkflow("describe"), ADA, reply_to=quick.site.reply_to)
    quick.send_raw(b"w", quick.codec.encode_command(query), elsewhere)
    assert quick.answers("two")[0].outcome == "answered"


def test_two_keys_at_once_and_one_that_was_taken_away(quick: Rig, keys: Keys) -> None:
    app, options = quick.app.name, keys.options("sender", "engine", "stranger", required=True)
    first = quick.engine(options)
    for name in ("sender", "stranger"):
        quick.sign = CommandSigner(app, keys.signer(name))
        assert quick.answers(told(quick, name, start("waits")))[0].outcome == "accepted"
    first.stop(1.0)
    quick.engine(keys.options("sender", "engine", required=True))
    (refused,) = quick.answers(told(quick, "late", start("waits")))
    assert f"key {keys.signer('stranger').key_id}, which is not one of those given" in refused.message
    # What was signed before stays what it was: histories are not judged again.
    assert actors(quick, "stranger") == ["verified"]


def test_a_copied_record_changes_nothing(quick: Rig, keys: Keys) -> None:
    quick.engine(keys.options("sender", "engine", required=True))
    command = c.Command("once", "w", start("waits"), ADA, reply_to=quick.site.reply_to)
    value = quick.codec.encode_command(command)
    headers = CommandSigner(quick.app.name, keys.signer("sender")).headers(value)
    for _ in range(3):
        quick.send_raw(b"w", value, headers=headers)
    answers = quick.answers("once", 3)
    assert len(set(answers)) == 1
    assert len(quick.bodies(e.RunStarted)) == 1


def test_a_copy_that_dedup_has_forgotten_was_signed_too_long_ago() -> None:
    horizon, now = 14 * DAY_MS, 1_764_000_000_000
    assert in_time(now, now, horizon)
    assert in_time(now + 3_600_000, now, horizon)
    assert not in_time(now + 3_600_001, now, horizon)
    assert in_time(now, now + horizon - 3_600_000, horizon)
    # The first copy was decided at the earliest an hour before it was signed, and is remembered for the horizon.
    assert not in_time(now, now + horizon - 3_600_000 + 1, horizon)


def test_whom_an_engine_vouches_for_counts_as_long_as_the_engine_is_known(quick: Rig, keys: Keys) -> None:
    quick.engine(keys.options("sender"))
    quick.sign = CommandSigner(quick.app.name, keys.signer("sender"))
    assert quick.answers(told(quick, "h", start("hears")))
    (waits,) = quick.wait_for(e.EventAwaited, "h")
    (run,) = quick.events("h")[:1]
    forged = c.DeliverEvent(run.run_id, f"{waits.path}:{waits.n}", "e-1", 1, 1, Payload(data=b'"x"'), ADA)
    told(quick, "h", forged, headers=())
    (delivered,) = quick.wait_for(e.EventDelivered, "h")
    assert delivered.sender == ADA._replace(authn="claimed")
