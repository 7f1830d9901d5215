"""Whose commands count as verified: the application's key ring (docs/adr/0032-signed-commands.md)."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from ..core.signatures import SIGNATURE_HEADER, command_bytes, in_time, parse_signature
from ..core.tasks import Reply
from ..log.ports import Wire
from .options import EngineOptions, SignatureOptions

log = logging.getLogger(__name__)

NOT_VERIFIED = "not_verified"
LOOK_S = 2.0
"""How long a key that was put into the ring, or taken out, may not be noticed."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""Names, times, sizes and inodes of the ring's files."""


def signed_of(wire: Wire) -> str:
    """The text of a record's signature header; "" when it has none."""
    return next((value.decode("ascii", "replace") for name, value in wire.headers if name == SIGNATURE_HEADER), "")


class KeyRing:
    """Judges the records of one application. `required`: only verified ones are taken."""

    def __init__(self, app: str, options: EngineOptions) -> None:
        self._app = app
        self._keys = options.signatures.keys
        self._horizon_ms = options.dedup_horizon_ms
        self.required = options.signatures.required

    def doubt(self, wire: Wire) -> str:
        """Why nobody knows who sent a command; "" when a key of the ring signed it."""
        if self._keys is None:
            return "this application has no key ring"
        text = signed_of(wire)
        if not text:
            return "it is not signed"
        doubt = self._doubt(wire, text)
        if doubt:
            log.warning("%s/%d offset %d is not verified: %s", wire.topic, wire.partition, wire.offset, doubt)
        return doubt

    def _doubt(self, wire: Wire, text: str) -> str:
        signed = parse_signature(text)
        if signed is None:
            return f"its header {SIGNATURE_HEADER} is not one of ours"
        if not in_time(signed.signed_at_ms, wire.timestamp_ms, self._horizon_ms):
            return f"it was signed at {signed.signed_at_ms}, and sent at {wire.timestamp_ms}: too far apart"
        assert self._keys is not None
        data = command_bytes(self._app, signed.signed_at_ms, wire.value)
        return self._keys.problem(signed.key_id, signed.signature, data)


class RingWatch:
    """Looks every two seconds whether the ring's files are what they were, on a thread of its own.

    A key counts while its file is there. A ring that cannot be looked at, for its directory is away, stays as it was.
    Verdicts are recorded: nothing is judged again.
    """

    def __init__(self, options: SignatureOptions) -> None:
        self._options = options
        self._stamp: Stamp | None = None
        self._told = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="key-ring", daemon=True)

    def start(self) -> None:
        """Begin, if there is a ring to look at."""
        if self._options.keys is not None and self._options.place is not None:
            self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Once. What changed, and what is wrong, is said once."""
        keys, place = self._options.keys, self._options.place
        assert keys is not None
        assert place is not None
        try:
            files, stamp = _looked_at(place)
        except OSError as error:
            self._tell(f"key ring {place} cannot be looked at ({error.strerror}): it stays as it was")
            return
        if stamp == self._stamp:
            return
        before = keys.ids()
        problems = keys.renew(files)
        # What could not be read is read again at the next look.
        self._stamp = None if problems else stamp
        for what, ids in (("added", keys.ids() - before), ("taken out", before - keys.ids())):
            if ids:
                log.info("key ring %s: %s %s", place, ", ".join(sorted(ids)), what)
        own = self._options.signer
        if self._options.required and own is not None and not keys.has(own.key_id):
            problems.append(f"this engine's own key {own.key_id} is not in it: what it sends to others is turned away")
        self._tell(f"key ring {place}: {'; '.join(problems)}" if problems else "")

    def _tell(self, problem: str) -> None:
        if problem and problem != self._told:
            log.error("%s", problem)
        self._told = problem


def _looked_at(place: Path) -> tuple[list[Path], Stamp]:
    """The ring's files now. Raises OSError when the ring is not there, or may not be read."""
    if not place.is_dir():
        return [place], (_stamped(place),)
    with os.scandir(place) as found:
        files = sorted(Path(one) for one in found if one.name.endswith(".pub"))
    stamps = []
    for path in files:
        try:
            stamps.append(_stamped(path))
        except OSError:
            # It went away just now, or is a link to nothing: there is no key in it.
            stamps.append((path.name, 0, 0, 0))
    return files, tuple(stamps)


def _stamped(path: Path) -> tuple[str, int, int, int]:
    stat = path.stat()
    return path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino


def turned_away(command_id: str, workflow_id: str, doubt: str) -> Reply:
    """The answer to a command that is not taken because nobody knows who sent it. Its id stays free."""
    message = (
        f"this application takes only commands that a key of its ring signed, and {doubt}: set ORCHESTRATOR_SIGNING_KEY"
        " to a key whose public half is in the engines' ring"
    )
    return Reply(command_id, workflow_id, "", "rejected", NOT_VERIFIED, message)
