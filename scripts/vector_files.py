"""What the scripts that write test vectors share: published randomness, and writing or comparing.

Nothing here is used by the package. Everything that looks random in a vector comes from ``fixed``,
so a second run gives the same bytes, and no key in a vector protects anything.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from regalia.crypto.sign import SigningKey

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"


def fixed(label: str, size: int = 32) -> bytes:
    """Bytes that look random and are published.

    Args:
        label: what they stand for; another label gives other bytes.
        size: how many.
    """
    return hashlib.shake_256(f"regalia test vector: {label}".encode()).digest(size)


def signing_key(label: str) -> SigningKey:
    """An Ed25519 key whose RFC 8032 seed is ``fixed(label)``."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(fixed(label)))


def as_json(value: object) -> bytes:
    """A vector file: JSON with one space of indentation, and a newline at the end."""
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def write_or_compare(folder: Path, files: dict[str, bytes]) -> int:
    """Write the files, or compare them if the script was called with ``--check``.

    Args:
        folder: where they lie.
        files: contents by name.

    Returns:
        The exit status: 1 if a file differs.
    """
    check = sys.argv[1:] == ["--check"]
    status = 0
    for name, data in files.items():
        path = folder / name
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        elif not path.exists() or path.read_bytes() != data:
            print(f"{path} is not what this script writes")
            status = 1
    return status
