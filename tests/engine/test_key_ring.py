"""The key ring while engines run: what is put in counts, what is taken out does not, and nothing is judged again."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.codec.signatures import CommandSigner
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core import commands as c
from orchestrator.core.tasks import Reply
from orchestrator.core.values import Actor
from orchestrator.engine import keyring
from orchestrator.engine.keyring import RingWatch
from orchestrator.engine.options import EngineOptions, SignatureOptions
from tests.engine.rig import Rig, until

ADA = Actor("person", "ada", via="web")


class Ring:
    """A directory of public keys, and private ones beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = folder / "ring"
        self.place.mkdir()
        for name in ("engine", "web", "other"):
            generate(folder / name, signers=False)
        self.put("engine")

    def put(self, name: str) -> str:
        """Put a key in, whole at once; its id."""
        part = self._folder / "part"
        shutil.copy(public_path(self._folder / name), part)
        part.rename(self.place / f"{name}.pub")
        return self.signer(name).key_id

    def take(self, name: str) -> None:
        """Take a key out."""
        (self.place / f"{name}.pub").unlink()

    def signer(self, name: str) -> Signer:
        """A private key."""
        return Signer.load(self._folder / name)

    def options(self, required: bool = False) -> SignatureOptions:
        """As a process reads them when it starts."""
        return SignatureOptions(PublicKeys.load([self.place]), self.signer("engine"), required, self.place)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


def application() -> Orchestrator:
    """One workflow that waits."""
    app = Orchestrator("ring")
    go = app.signal("go", int)

    @app.workflow(name="waits")
    async def waits() -> int:
        return await go.wait()

    return app


def start(one: Rig, run: str) -> Reply:
    """Ask for a run as ada, signed with the rig's key."""
    command = c.Command(uuid.uuid4().hex, run, c.StartWorkflow("waits"), ADA, reply_to=one.site.reply_to)
    one.send_raw(run.encode(), one.codec.encode_command(command))
    (found,) = one.answers(command.id)
    return found


def verdict(one: Rig, run: str) -> str:
    """What the history says of who asked for a run."""
    return str(one.events(run)[0].body.actor.authn)  # type: ignore[attr-defined]


@pytest.mark.parametrize("required", [False, True])
def test_a_key_counts_from_when_its_file_is_there_until_it_is_not(
    rig: Callable[[Orchestrator], Rig], ring: Ring, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "LOOK_S", 0.01)
    one = rig(application())
    options = EngineOptions(signatures=ring.options(required))
    assert options.signatures.keys is not None
    engine = one.engine(options)
    one.sign = CommandSigner(one.app.name, ring.signer("web"))
    before = start(one, "before")
    assert before.code == "not_verified" if required else verdict(one, "before") == "claimed"
    web = ring.put("web")
    until(lambda: options.signatures.keys.has(web))  # type: ignore[union-attr]
    assert start(one, "known").outcome == "accepted"
    ring.take("web")
    until(lambda: not options.signatures.keys.has(web))  # type: ignore[union-attr]
    after = start(one, "after")
    assert after.code == "not_verified" if required else verdict(one, "after") == "claimed"
    engine.stop(1.0)
    # The verdict was recorded with the event: a state that is folded anew is as the log says, whatever the ring is now.
    one.engine(options, stores={})
    assert verdict(one, "known") == "verified"
    assert one.ask("known", c.QueryWorkflow("describe")).outcome == ("rejected" if required else "answered")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since this was asked last."""
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_a_ring_is_read_when_its_files_changed_and_what_is_wrong_is_said_once(
    ring: Ring, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = ring.options(required=True)
    keys = options.keys
    assert keys is not None
    watch = RingWatch(options)
    engine, at = ring.signer("engine").key_id, f"key ring {ring.place}"
    watch.look()
    assert (keys.ids(), said(caplog)) == ({engine}, [])

    web = ring.put("web")
    watch.look()
    watch.look()
    assert (keys.ids(), said(caplog)) == ({engine, web}, [f"{at}: {web} added"])

    # Another key under the same name, of the same size.
    shutil.copy(public_path(ring.place.parent / "other"), ring.place / "web.pub")
    os.utime(ring.place / "web.pub", ns=(0, time.time_ns() + 10**9))
    other = ring.signer("other").key_id
    watch.look()
    assert (keys.ids(), said(caplog)) == ({engine, other}, [f"{at}: {other} added", f"{at}: {web} taken out"])

    (ring.place / "web.pub").write_text("half a k", encoding="utf-8")
    (ring.place / "nothing.pub").symlink_to("nowhere")
    watch.look()
    watch.look()
    out, wrong = said(caplog)
    assert (keys.ids(), out) == ({engine}, f"{at}: {other} taken out")
    assert "web.pub is not an Ed25519 public key" in wrong
    assert "nothing.pub cannot be read" in wrong

    ring.take("web"), ring.take("nothing"), ring.take("engine")
    watch.look()
    _, wrong = said(caplog)
    assert (keys.ids(), f"this engine's own key {engine} is not in it" in wrong) == (set(), True)


def test_a_ring_that_is_away_stays_as_it_was(ring: Ring, caplog: pytest.LogCaptureFixture) -> None:
    options, away = ring.options(), ring.place.with_name("away")
    keys = options.keys
    assert keys is not None
    watch = RingWatch(options)
    before = keys.ids()
    ring.place.rename(away)
    watch.look()
    watch.look()
    assert keys.ids() == before
    assert said(caplog) == [
        f"key ring {ring.place} cannot be looked at (No such file or directory): it stays as it was"
    ]
    away.rename(ring.place)
    web = ring.put("web")
    watch.look()
    assert keys.ids() == before | {web}


def test_a_ring_of_one_file(ring: Ring) -> None:
    place = ring.place / "engine.pub"
    options = SignatureOptions(PublicKeys.load([place]), None, False, place)
    assert options.keys is not None
    watch = RingWatch(options)
    web = ring.put("web")
    (ring.place / "web.pub").rename(place)
    watch.look()
    assert options.keys.ids() == {web}
