"""Says of a file of the wrong kind which file it is, what was wanted, and what it seems to be.

A guess from the first bytes is good enough: it is for a person, and nothing is decided by it. No
content is shown but names of JSON members, because the file may hold a secret.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.inspect.no_evidence import packed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EIF = "an AWS Nitro enclave image (EIF)"
FIRMWARE = "a firmware image (OVMF)"
PE = "an executable image (PE), as unified kernel images are"
POLICY = "a policy"
CLIENT_POLICY = "a client policy"
PRIVATE_KEY = "a private key"

_STARTS = {
    b".eif": EIF,
    b"MZ": PE,
    b"\x7fELF": "a program (ELF)",
}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PEM_KINDS = {
    "PUBLIC KEY": "a public key",
    "CERTIFICATE": "a certificate",
    "X509 CRL": "a revocation list",
}
# By the name between "regalia/" and the version.
_FORMATS = {
    "release-policy": POLICY,
    "client-policy": CLIENT_POLICY,
    "evidence": "evidence of a TEE",
    "serving-evidence": "a runtime's answer to a challenge",
    "runtime-config": "a runtime's measured configuration",
    "development-key-store": "a key store",
    "collateral-bundle": "a bundle of collateral",
    "sealed-model": "a sealed model's manifest",
}
_FORMAT = re.compile(r"\Aregalia/([a-z-]+)/v\d+")
_OVMF_FOOTER = bytes.fromhex(
    "de82b596b21ff745baeaa366c55a082d"
)  # its GUID, 48 bytes before the end
_OVMF_TAIL = 48
_POLICY_MEMBERS = {"format", "platform", "hardware", "model"}
_MEMBERS_SHOWN = 6


@contextmanager
def wanting(kind: str, path: Path, data: bytes) -> Iterator[None]:
    """A refusal of this file's content names the file; of another kind of file, both kinds.

    Args:
        kind: one of the constants of this module.
        path: of the file.
        data: its content, raw and untrusted.

    Raises:
        ParseError: WRONG_FILE, or the refusal's own code if the file may be of that kind.
    """
    try:
        yield
    except ParseError as exc:
        seems = seems_to_be(data)
        if seems is None or seems == kind or (kind == POLICY and seems == CLIENT_POLICY):
            raise ParseError(exc.code, f"{path}: {exc.what}") from exc
        raise ParseError(
            CoreCode.WRONG_FILE, f"{path}: want {kind}, and it seems to be {seems}"
        ) from exc


def seems_to_be(data: bytes) -> str | None:
    """What a file seems to be, for people; None for what may be a policy with a mistake in it.

    An empty file was perhaps cut off, so it may be of any kind.
    """
    if not data:
        return None
    for start, kind in _STARTS.items():
        if data.startswith(start):
            return kind
    packing = packed(data)
    if packing:
        return f"an archive or a packed file ({packing})"
    if data[-_OVMF_TAIL:].startswith(_OVMF_FOOTER):
        return FIRMWARE
    armored = _PEM.search(data[:4096])
    if armored is not None:
        label = armored[1].decode()
        return PRIVATE_KEY if "PRIVATE KEY" in label else _PEM_KINDS.get(label, f"PEM of a {label}")
    return _of_text(data)


def _of_text(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return "bytes that are no text, of a kind that is not known here"
    if not text.startswith("{"):
        return "text, and no document known here"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _of_members(found)


def _of_members(found: dict[str, object]) -> str | None:
    """By the format that a JSON document states, or by its members."""
    stated = _FORMAT.fullmatch(str(found.get("format")))
    if stated is not None:
        return _FORMATS.get(stated[1], f"a document of the format {stated[0][:80]}")
    if "payload" in found:
        return None  # signed: the signature's reader says what is wrong
    if found.keys() & _POLICY_MEMBERS:
        return None
    names = [name if name.isprintable() else ascii(name) for name in list(found)[:_MEMBERS_SHOWN]]
    shown = ", ".join(name[:40] for name in names) or "none"
    return f"a JSON document of another kind; its members: {shown}"
