"""Keys and signatures of anchors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from orchestrator.codec import signing
from orchestrator.codec.signing import PublicKeys, Signer, generate, public_path
from orchestrator.core.tasks import Anchor
from orchestrator.core.witness import signed_bytes
from orchestrator.errors import ConfigurationError

HEAD = Anchor("cluster", "topic-é", 3, 1234, 5, 6, b"\x07" * 32, 1_700_000_000_000)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key's file."""
    generate(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def test_what_was_signed_verifies_with_the_public_key_alone(key: Path) -> None:
    signed = Signer.load(key).sign(HEAD)
    raw = load_pem_public_key(public_path(key).read_bytes()).public_bytes_raw()  # type: ignore[union-attr]
    assert signed.key_id == hashlib.sha256(raw).hexdigest()[:16]
    assert PublicKeys.load([key.parent]).verdict(signed) == ""
    assert PublicKeys.load([public_path(key)]).verdict(signed) == ""


def test_the_signed_bytes_are_the_published_ones() -> None:
    parts = [b"cluster", "topic-é".encode(), b"3", b"1234", b"5", b"6", b"\x07" * 32, b"1700000000000"]
    expected = b"orchestrator.anchor.v1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert signed_bytes(HEAD._replace(key_id="k", signature=b"s")) == expected


@pytest.mark.parametrize("field", [name for name in Anchor._fields if name not in ("key_id", "signature")])
def test_a_changed_field_is_forged(key: Path, field: str) -> None:
    signed = Signer.load(key).sign(HEAD)
    value = getattr(signed, field)
    changed = value + (b"x" if isinstance(value, bytes) else "x" if isinstance(value, str) else 1)
    assert "forged" in PublicKeys.load([key.parent]).verdict(signed._replace(**{field: changed}))


def test_another_key_s_anchor_is_named_by_its_key(key: Path, tmp_path: Path) -> None:
    generate(tmp_path / "other.pem")
    other = Signer.load(tmp_path / "other.pem").sign(HEAD)
    keys = PublicKeys.load([public_path(key)])
    assert other.key_id in keys.verdict(other)
    assert "not one of those given" in keys.verdict(other)
    assert "forged" in keys.verdict(other._replace(key_id=Signer.load(key).key_id))
    assert "(none)" in PublicKeys().verdict(HEAD)


def test_a_private_key_is_nobody_else_s_and_is_never_replaced(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    with pytest.raises(ConfigurationError, match="no key file is ever replaced"):
        generate(key)
    assert key.read_bytes() == before
    key.chmod(0o604)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Signer.load(key)


def test_what_is_no_key_is_named(key: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pub"
    bad.write_text("hello")
    bad.chmod(0o600)
    for place in (bad, public_path(key), tmp_path / "none.pem"):
        place.chmod(0o600) if place.exists() else None
        with pytest.raises(ConfigurationError, match=place.name):
            Signer.load(place)
    with pytest.raises(ConfigurationError, match=r"bad\.pub"):
        PublicKeys.load([tmp_path])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        PublicKeys.load([tmp_path / "none.pub"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="holds no public key"):
        PublicKeys.load([tmp_path / "empty"])


def test_without_the_extra_the_remedy_is_named(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives", None)
    for act in (lambda: Signer.load(key), lambda: signing.generate(key.with_name("k2"))):
        with pytest.raises(ConfigurationError, match=r"durable-orchestrator\[audit\]"):
            act()
