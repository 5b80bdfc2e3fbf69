"""Files that people give by mistake: each is named for what it is, with what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regalia.appraisal.pki import parse_certificate, parse_crl
from regalia.core.errors import ParseError
from regalia.inspect.json_text import JSON_STARTS, why_no_json
from regalia.wire.spelling import from_text, is_pem, plain_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_TAR_MARK, _TAR_AT = b"ustar", 257
# Lines as xxd, hexdump -C and od write them: an address, and then two bytes or more.
_DUMP_LINE = re.compile(
    rb"\A[0-9a-fA-F]{7,16}:?[ \t]+[0-9a-fA-F]{2,8}(?:[ \t]+[0-9a-fA-F]{2,8})*[ \t]*(?:[ |].*)?"
    rb"(?:\r?\n[0-9a-fA-F]{7,16}:?(?:[ \t]|\r?$)|\Z)"
)
_TEXTS = (
    (
        re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,40})PRIVATE KEY( BLOCK)?-----"),
        "a private key: it is a secret, and is not shown here; no command takes it for evidence",
    ),
    (
        re.compile(rb"\A-----BEGIN ([A-Z0-9 ]{0,20})PUBLIC KEY-----"),
        "a public key, which says nothing of any machine",
    ),
    (
        re.compile(rb"\A(?i:<!doctype html|<html)"),
        "a web page (HTML): it may be a server's error or a page to log in; look at it",
    ),
    (
        re.compile(rb"\Aversion https://git-lfs"),
        "a pointer of Git LFS, and not the file itself: run git lfs pull",
    ),
    (
        _DUMP_LINE,
        "a hex dump with addresses: give the file itself, or hex alone as xxd -p prints it",
    ),
)
_BLOCK = re.compile(rb"-----BEGIN ([^-]*)-----[^-]*-----END \1-----")
_LAYERS_MAX = 3  # spellings around each other
_REFUSAL = frozenset({"code", "what", "why", "fix"})
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,60}")


def named(data: bytes) -> str:
    """What a file is that is no evidence, and what to do; empty if it is not known here.

    Args:
        data: raw, untrusted. Nothing of it is shown, since it may be a secret.
    """
    text = plain_text(data)
    if not text:
        return "an empty file" if not data else "a file of white space alone, which is empty"
    packing = packed(data)
    if packing:
        return f"an archive or a packed file ({packing}): unpack it, and give what is in it"
    found = next((what for pattern, what in _TEXTS if pattern.search(text)), "")
    if found or not text.startswith(JSON_STARTS) or not _is_text(text):
        return found
    why = why_no_json(text)
    return f"it begins like JSON, and cannot be read as JSON: {why}" if why else ""


def packed(data: bytes) -> str:
    """The name of an archive's or a packed file's format; empty for any other file.

    Args:
        data: raw, untrusted.
    """
    found = next((name for start, name in _PACKED if data.startswith(start)), "")
    return "tar" if data[_TAR_AT:].startswith(_TAR_MARK) else found


def refusal_in(body: Mapping[str, object]) -> str:
    """The code of a saved answer by which a service refused; empty if it is none.

    Args:
        body: decoded, untrusted.
    """
    for each in (body, *body.values()):
        if isinstance(each, dict) and each.keys() >= _REFUSAL:
            code = each["code"]
            return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
    return ""


def as_text(data: bytes) -> bytes:
    """A file in base64 or hex as what it spells, so that all of it can be looked at.

    Args:
        data: raw, untrusted.
    """
    text = plain_text(data)
    for _ in range(_LAYERS_MAX):
        inner = None if is_pem(text) else from_text(text)
        if inner is None:
            break
        text = plain_text(inner)
    return text


def beside_certificates(data: bytes) -> bool:
    """Whether a file has PEM blocks, and more than readable remarks around them.

    Args:
        data: raw, untrusted.
    """
    text = as_text(data)
    rest = _BLOCK.sub(b"", text)
    if not is_pem(text):
        return False
    return not _is_text(rest)


def _is_text(data: bytes) -> bool:
    try:
        words = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c.isspace() for c in words)


def is_endorsement(der: bytes) -> bool:
    """Whether these bytes can be read as a certificate or as a revocation list.

    Args:
        der: raw, untrusted.
    """
    try:
        parse_certificate(der, what="certificate")
    except ParseError:
        try:
            parse_crl(der)
        except ParseError:
            return False
    return True
