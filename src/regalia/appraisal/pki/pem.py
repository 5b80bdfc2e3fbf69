"""Concatenated PEM certificates, in one spelling."""

from __future__ import annotations

import base64
import binascii

from regalia.core.errors import CoreCode, ParseError

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_LINE = 64  # characters of base64


def parse_pem_certificates(data: bytes, *, count_max: int, what: str) -> tuple[bytes, ...]:
    """The certificates, in DER and in order.

    Nobody signs the text around the certificates, so it may say nothing: lines of 64 characters
    that all end alike (LF or CRLF), empty lines behind a certificate, and at the end one NUL, as
    C programs leave it.

    Args:
        data: raw, untrusted.
        count_max: how many there may be.
        what: where it came from, for messages.

    Raises:
        ParseError: MALFORMED or TOO_LARGE.
    """
    text = data.removesuffix(b"\x00")
    newline = b"\r\n" if b"\r" in text else b"\n"
    found: list[bytes] = []
    while text:
        begin = _BEGIN + newline
        end = text.find(_END)
        if not text.startswith(begin) or end < 0:
            raise ParseError(CoreCode.MALFORMED, f"{what}: not a sequence of PEM certificates")
        if len(found) == count_max:
            raise ParseError(CoreCode.TOO_LARGE, f"{what}: more than {count_max} certificates")
        found.append(_der(text[len(begin) : end], newline, what))
        text = text[end + len(_END) :]
        if text and not text.startswith(newline):
            raise ParseError(CoreCode.MALFORMED, f"{what}: text behind a PEM certificate")
        while text.startswith(newline):
            text = text[len(newline) :]
    if not found:
        raise ParseError(CoreCode.MALFORMED, f"{what}: no PEM certificate")
    return tuple(found)


def _der(body: bytes, newline: bytes, what: str) -> bytes:
    try:
        der = base64.b64decode(body.replace(newline, b""), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ParseError(CoreCode.MALFORMED, f"{what}: not base64 in a PEM certificate") from exc
    text = base64.b64encode(der)
    lines = [text[at : at + _LINE] + newline for at in range(0, len(text), _LINE)]
    if b"".join(lines) != body:
        raise ParseError(CoreCode.MALFORMED, f"{what}: a PEM certificate in another spelling")
    return der
