"""Ed25519 keys and signatures of anchors, bundles and commands; alone uses `cryptography` (the extra `audit`).

Private keys are PEM files (PKCS 8, unencrypted) that nobody else on the machine may read; public keys are PEM files
ending in `.pub`. No key is ever printed: messages name files and key ids.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..core.tasks import Anchor
from ..core.witness import signed_bytes
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NAMESPACE = b"orchestrator-audit"
"""What OpenSSH's signatures of files are for: one for another purpose is none of ours."""
SIGNER = "exporter"
"""The name under which `allowed_signers` lists a key."""
_SSH_KEY = b"ssh-ed25519"
_SSH_HASH = b"sha512"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
OTHERS = 0o007
"""Rights that a private key's file must not give."""


class Signer:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = _key_id(key.public_key())

    @classmethod
    def load(cls, path: Path, what: str = "anchor key", maker: str = "orchestrator audit keygen") -> Signer:
        """Read a key file; `what` it is and its `maker` are for messages.

        Raises ConfigurationError: missing, readable by everybody, not an Ed25519 key.
        """
        serialization, ed25519 = _library()
        try:
            if path.stat().st_mode & OTHERS:
                raise ConfigurationError(f"{what} {path}: others may read or write it; chmod 600 it")
            data = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"{what} {path} cannot be read ({error.strerror}): make one with `{maker}`"
            ) from error
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise ConfigurationError(f"{what} {path} is not an unencrypted Ed25519 private key in PEM form")
        return cls(key)

    def sign(self, anchor: Anchor) -> Anchor:
        """The anchor with our key id and signature."""
        return anchor._replace(key_id=self.key_id, signature=self.sign_bytes(signed_bytes(anchor)))

    def sign_bytes(self, data: bytes) -> bytes:
        """The signature of bytes that say for themselves what they are."""
        return self._key.sign(data)

    def sign_file(self, data: bytes) -> str:
        """A detached signature as `ssh-keygen -Y sign` makes it (OpenSSH's PROTOCOL.sshsig)."""
        public = _sized(_SSH_KEY, self._key.public_key().public_bytes_raw())
        signature = _sized(_SSH_KEY, self.sign_bytes(_signed_file(data)))
        blob = b"SSHSIG" + (1).to_bytes(4, "big") + _sized(public, NAMESPACE, b"", _SSH_HASH, signature)
        text = base64.b64encode(blob).decode()
        return "\n".join([_BEGIN, *(text[at : at + 70] for at in range(0, len(text), 70)), _END, ""])


class PublicKeys:
    """The keys that an auditor accepts, by key id."""

    def __init__(self, keys: Iterable[Ed25519PublicKey] = ()) -> None:
        self._keys = {_key_id(key): key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def load(cls, places: Iterable[Path]) -> PublicKeys:
        """Read files, and the `*.pub` of directories. Raises ConfigurationError naming what is no public key."""
        return cls([_public(path) for path in _files(places)])

    def renew(self, files: Iterable[Path]) -> list[str]:
        """Be the keys of these files from now on, for every thread at once; what is wrong with those that hold none."""
        found, problems = [], []
        for path in files:
            try:
                found.append(_public(path))
            except ConfigurationError as error:
                problems.append(str(error))
        self._keys = {_key_id(key): key for key in found}
        return problems

    def ids(self) -> set[str]:
        """Of the keys that are there now."""
        return set(self._keys)

    def has(self, key_id: str) -> bool:
        """Whether the key is one of those given."""
        return key_id in self._keys

    def verdict(self, anchor: Anchor) -> str:
        """ "" if one of the keys signed it, else what is wrong with it."""
        return self.problem(anchor.key_id, anchor.signature, signed_bytes(anchor))

    def problem(self, key_id: str, signature: bytes, data: bytes) -> str:
        """ "" if key `key_id`, one of those given, signed these bytes, else what is wrong."""
        key = self._keys.get(key_id)
        if key is None:
            known = ", ".join(sorted(self._keys)) or "none"
            return f"signed with key {key_id or '(none)'}, which is not one of those given ({known})"
        from cryptography.exceptions import InvalidSignature

        try:
            key.verify(signature, data)
        except InvalidSignature:
            return f"its signature is not key {key_id}'s: it is forged or was changed"
        return ""

    def file_problem(self, armour: bytes, data: bytes) -> tuple[str, str]:
        """Key id and "" if one of the keys made this detached signature of `data`, else what is wrong."""
        try:
            text = armour.decode()
            if not text.startswith(_BEGIN) or not text.rstrip().endswith(_END):
                raise ValueError("it is not in OpenSSH's form")
            blob = base64.b64decode(text[len(_BEGIN) : text.index(_END)])
            public, namespace, _, algorithm, signature = _parts(blob[10:])
            raw, given = _parts(public)[1], _parts(signature)[1]
        except (ValueError, IndexError) as error:
            return "", f"its signature cannot be read ({error})"
        if blob[:10] != b"SSHSIG" + (1).to_bytes(4, "big") or (namespace, algorithm) != (NAMESPACE, _SSH_HASH):
            return "", f"its signature is for {namespace.decode(errors='replace')!r}, not for a bundle"
        key_id = hashlib.sha256(raw).hexdigest()[:16]
        return key_id, self.problem(key_id, given, _signed_file(data))


def _signed_file(data: bytes) -> bytes:
    return b"SSHSIG" + _sized(NAMESPACE, b"", _SSH_HASH, hashlib.sha512(data).digest())


def _sized(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _parts(data: bytes) -> list[bytes]:
    """The inverse of `_sized`. Raises ValueError."""
    found, at = list[bytes](), 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            raise ValueError("it was cut")
        found.append(data[at + 4 : end])
        at = end
    return found


def generate(path: Path, signers: bool = True) -> str:
    """Make a key: the private one at `path` (mode 0600), the public one beside it (`.pub`), and that again as OpenSSH
    lists who may sign (`.signers`), if wanted. Returns the key id.

    Raises ConfigurationError when one of the files exists or cannot be written.
    """
    serialization, ed25519 = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = base64.b64encode(_sized(_SSH_KEY, key.public_key().public_bytes_raw())).decode()
    listed = f'{SIGNER} namespaces="{NAMESPACE.decode()}" {_SSH_KEY.decode()} {raw}\n'.encode()
    files = ((path, private, 0o600), (public_path(path), public, 0o644), (signers_path(path), listed, 0o644))
    for place, data, mode in files if signers else files[:2]:
        try:
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise ConfigurationError(
                f"{place} cannot be made ({error.strerror}); no key file is ever replaced"
            ) from error
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    return _key_id(key.public_key())


def public_path(path: Path) -> Path:
    """Where `generate` puts the public key of the private one at `path`."""
    return path.with_name(path.name + ".pub")


def signers_path(path: Path) -> Path:
    """Where `generate` puts the public key for `ssh-keygen -Y verify`."""
    return path.with_name(path.name + ".signers")


def listed(places: Iterable[Path]) -> list[tuple[str, Path]]:
    """Ids and files of the public keys that `PublicKeys.load` reads. Raises as it does."""
    return [(_key_id(_public(path)), path) for path in _files(places)]


def _files(places: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for place in places:
        found = sorted(place.glob("*.pub")) if place.is_dir() else [place]
        if not found:
            raise ConfigurationError(f"{place} holds no public key (*.pub)")
        files += found
    return files


def _public(path: Path) -> Ed25519PublicKey:
    serialization, ed25519 = _library()
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"public key {path} cannot be read ({error.strerror})") from error
    except ValueError:
        key = None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigurationError(f"{path} is not an Ed25519 public key in PEM form")
    return cast("Ed25519PublicKey", key)


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _library() -> tuple[Any, Any]:
    """The parts of `cryptography` that are used here. Raises ConfigurationError when it is not installed."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ConfigurationError(
            "signing and verifying needs the extra `audit`: pip install 'durable-orchestrator[audit]'"
        ) from error
    return serialization, ed25519
