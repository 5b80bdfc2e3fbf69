"""What the scripts that write test vectors share: published randomness, and writing or comparing.

Nothing here is used by the package. Everything that looks random in a vector comes from ``fixed``,
so a second run gives the same bytes, and no key in a vector protects anything.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from regalia.crypto.sign import SigningKey

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
_LONG = 8192  # characters; a shorter text stands in its file as it is
_RUN = re.compile(r"(.{1,4}?)\1{999,}", re.DOTALL)


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


def short(text: str) -> str | dict[str, Any]:
    """A text as a vector file holds it: a long one as what is repeated in it, and how often.

    Args:
        text: if it is long, one part of one to four characters is repeated in it.
    """
    if len(text) <= _LONG:
        return text
    run = _RUN.search(text)
    if run is None:
        raise ValueError(f"nothing is repeated in {text[:80]!r}")
    start, end = run.span()
    times = (end - start) // len(run[1])
    return {"before": text[:start], "repeat": run[1], "times": times, "behind": text[end:]}


def text_of(value: str | dict[str, Any]) -> str:
    """The text that a vector file holds. Inverse of ``short``."""
    if isinstance(value, str):
        return value
    before, part, times, behind = (value[n] for n in ("before", "repeat", "times", "behind"))
    return str(before + part * times + behind)


def written_out(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The same JSON, with every long text in it written out."""
    if isinstance(value, list):
        return [written_out(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"before", "repeat", "times", "behind"}:
        return text_of(value)
    return {name: written_out(each) for name, each in value.items()}


def differing(text: str, differs: dict[str, Any]) -> str:
    """A document that differs from another one.

    Args:
        text: canonical JSON of an object.
        differs: ``members`` in place of those of the document or besides them, names of those that
            are ``removed``, and what stands ``behind`` the document; each may be left out.
    """
    document = json.loads(text) | written_out(differs.get("members", {}))
    for name in differs.get("removed", ()):
        del document[name]
    made = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return made + str(differs.get("behind", ""))


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
