"""Sign a command with nothing but `cryptography`: what `signed` returns goes beside the record as its headers."""

import hashlib
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key


def signed(app: str, value: bytes, key_file: Path) -> dict[str, bytes]:
    """Headers for a record of application `app`, by a key of `orchestrator keys create`."""
    key = load_pem_private_key(key_file.read_bytes(), None)
    key_id = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16]
    now = str(time.time_ns() // 1_000_000)
    parts = [app.encode(), now.encode(), value]
    what = b"orchestrator.command.v1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return {"orchestrator-signature": f"{key_id} {now} {key.sign(what).hex()}".encode()}
