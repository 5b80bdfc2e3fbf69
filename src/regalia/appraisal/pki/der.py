"""Where things stand in the DER of a certificate or list that `cryptography` has parsed.

Signed bytes, names and keys are cut out as received: encoding them again takes longer, and what
was signed is what came. `cryptography` accepts DER only, so the lengths here are right.
"""

from __future__ import annotations

from typing import NamedTuple

_TAG_INTEGER = 0x02
_TAG_SEQUENCE = 0x30
_OID_COMMON_NAME = b"\x06\x03\x55\x04\x03"
_TEXT = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_LONG_LENGTH = 0x80


class Signed(NamedTuple):
    """The signed part of a certificate or list, and the signature over it."""

    tbs: bytes
    signature: bytes
    algorithm: tuple[int, int]  # where in ``tbs`` its identifier begins and ends


class Fields(NamedTuple):
    """Of a certificate; names and key with tag and length."""

    serial: int
    issuer: bytes
    subject: bytes
    spki: bytes  # SubjectPublicKeyInfo


def signed_part(der: bytes) -> Signed:
    """Split a certificate or CRL. One encoding for each: the unsigned rest repeats the signed part.

    Otherwise anybody could make twins of it: signatureAlgorithm repeats the signed one (RFC 5280
    4.1.1.2 and 5.1.1.2), and the signature's BIT STRING has no unused bits.

    Raises:
        ValueError: it is a twin, like the parser that saw the bytes before.
    """
    tbs_at = _element(der, 0)[0]
    tbs_start, tbs_end = _element(der, tbs_at)
    outer, outer_end = _element(der, tbs_end)
    start, end = _element(der, outer_end)
    at = tbs_start
    while der[at] != _TAG_SEQUENCE:  # past version and serial number
        at = _element(der, at)[1]
    inner, inner_end = _element(der, at)
    if der[inner:inner_end] != der[outer:outer_end]:
        raise ValueError("inner and outer signature algorithms differ")
    if der[start]:
        raise ValueError("the signature has unused bits")
    place = (at - tbs_at, inner_end - tbs_at)
    return Signed(der[tbs_at:tbs_end], der[start + 1 : end], place)


def certificate_fields(signed: Signed) -> Fields:
    """Serial number, names and key of a certificate (RFC 5280 4.1)."""
    tbs = signed.tbs
    algorithm_at, issuer_at = signed.algorithm
    serial_at = _element(tbs, 0)[0]
    if tbs[serial_at] != _TAG_INTEGER:  # the version stands before it
        serial_at = _element(tbs, serial_at)[1]
    serial_start = _element(tbs, serial_at)[0]
    issuer_end = _element(tbs, issuer_at)[1]
    subject_at = _element(tbs, issuer_end)[1]  # past the validity
    subject_end = _element(tbs, subject_at)[1]
    spki_end = _element(tbs, subject_end)[1]
    return Fields(
        int.from_bytes(tbs[serial_start:algorithm_at], "big", signed=True),
        tbs[issuer_at:issuer_end],
        tbs[subject_at:subject_end],
        tbs[subject_end:spki_end],
    )


def common_name(name: bytes) -> str:
    """The common name (RFC 5280 appendix A.1) in a whole name; empty if it has none.

    Raises:
        ValueError: there are two, or it is no text.
    """
    found = ""
    at, end = _element(name, 0)
    while at < end:
        attribute_at, at = _element(name, at)
        while attribute_at < at:  # of one relative name; mostly there is one
            start, attribute_at = _element(name, attribute_at)
            if not name.startswith(_OID_COMMON_NAME, start):
                continue
            text, text_end = _element(name, start + len(_OID_COMMON_NAME))
            encoding = _TEXT.get(name[start + len(_OID_COMMON_NAME)])
            if found or encoding is None or text == text_end:
                raise ValueError("a name has at most one common name, which is text")
            found = name[text:text_end].decode(encoding)
    return found


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the DER element at ``at`` begin and end."""
    size = der[at + 1]
    start = at + 2
    if size & _LONG_LENGTH:
        start += size & ~_LONG_LENGTH
        size = int.from_bytes(der[at + 2 : start], "big")
    return start, start + size
