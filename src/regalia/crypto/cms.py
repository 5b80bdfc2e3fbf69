"""The one kind of CMS (RFC 5652) that AWS KMS answers an attested recipient with.

An EnvelopedData for one recipient, by RSAES-OAEP with SHA-256 and AES-256-CBC, in BER with
indefinite lengths. Nothing else is read: a general parser would accept many spellings of many
things, all of which somebody else may choose.
"""

from __future__ import annotations

from dataclasses import dataclass

from regalia.core.codec import at_most
from regalia.core.errors import CoreCode, ParseError

LIMIT = 4096  # bytes
_DEPTH_MAX = 12
_INDEFINITE = 0x80
_LONG = 0x80
_CONSTRUCTED = 0x20
_SEQUENCE, _SET, _OCTETS, _INTEGER, _OID, _NULL = 0x30, 0x31, 0x04, 0x02, 0x06, 0x05
_TAGGED_0, _TAGGED_1, _PLAIN_0 = 0xA0, 0xA1, 0x80
_VERSION = b"\x02"  # of EnvelopedData and of its recipient, which a key identifier names
_IV_SIZE = 16

# Object identifiers, encoded.
ENVELOPED_DATA = bytes.fromhex("2a864886f70d010703")
DATA = bytes.fromhex("2a864886f70d010701")
RSAES_OAEP = bytes.fromhex("2a864886f70d010107")
MGF1 = bytes.fromhex("2a864886f70d010108")
SHA256 = bytes.fromhex("608648016503040201")
AES256_CBC = bytes.fromhex("60864801650304012a")


@dataclass(frozen=True, slots=True)
class Enveloped:
    """What has to be decrypted, and the key for it, encrypted to the recipient. Untrusted."""

    encrypted_key: bytes
    iv: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class _Element:
    """One element: bytes if it is primitive, or else what it is made of."""

    tag: int
    content: bytes
    parts: tuple[_Element, ...] = ()

    def holds(self, tag: int, count: int) -> tuple[_Element, ...]:
        if self.tag != tag or len(self.parts) != count:
            raise _malformed(f"element {self.tag:#04x} of {len(self.parts)} parts")
        return self.parts

    def value(self, tag: int) -> bytes:
        if self.tag != tag:
            raise _malformed(f"element {self.tag:#04x}, want {tag:#04x}")
        return self.content

    def must_be(self, tag: int, content: bytes) -> None:
        if self.value(tag) != content:
            raise _malformed(f"element {tag:#04x} has another value than the one that is known")


def parse_enveloped(data: bytes) -> Enveloped:
    """Parse a ContentInfo with an EnvelopedData.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: MALFORMED or TOO_LARGE.
    """
    at_most(data, LIMIT, what="CMS")
    outer, end = _element(data, 0, 0)
    if end != len(data):
        raise _malformed("bytes behind it")
    kind, tagged = outer.holds(_SEQUENCE, 2)
    kind.must_be(_OID, ENVELOPED_DATA)
    (enveloped,) = tagged.holds(_TAGGED_0, 1)
    version, recipients, content = enveloped.holds(_SEQUENCE, 3)
    version.must_be(_INTEGER, _VERSION)
    (recipient,) = recipients.holds(_SET, 1)
    iv, ciphertext = _encrypted_content(content)
    return Enveloped(_encrypted_key(recipient), iv, ciphertext)


def _encrypted_key(recipient: _Element) -> bytes:
    version, identifier, algorithm, key = recipient.holds(_SEQUENCE, 4)
    version.must_be(_INTEGER, _VERSION)
    identifier.value(_PLAIN_0)  # which key it is shows when it opens
    name, parameters = algorithm.holds(_SEQUENCE, 2)
    name.must_be(_OID, RSAES_OAEP)
    # Both are written, as the defaults are SHA-1; the label is left out, as it is empty.
    hashed, masked = parameters.holds(_SEQUENCE, 2)
    _require_sha256(*hashed.holds(_TAGGED_0, 1))
    (mask,) = masked.holds(_TAGGED_1, 1)
    function, inner = mask.holds(_SEQUENCE, 2)
    function.must_be(_OID, MGF1)
    _require_sha256(inner)
    return key.value(_OCTETS)


def _require_sha256(algorithm: _Element) -> None:
    name, nothing = algorithm.holds(_SEQUENCE, 2)
    name.must_be(_OID, SHA256)
    nothing.must_be(_NULL, b"")


def _encrypted_content(content: _Element) -> tuple[bytes, bytes]:
    kind, algorithm, body = content.holds(_SEQUENCE, 3)
    kind.must_be(_OID, DATA)
    name, iv = algorithm.holds(_SEQUENCE, 2)
    name.must_be(_OID, AES256_CBC)
    if len(iv.value(_OCTETS)) != _IV_SIZE:
        raise _malformed(f"an IV of {len(iv.content)} bytes")
    if body.tag == _TAGGED_0:
        return iv.content, b"".join(part.value(_OCTETS) for part in body.parts)
    return iv.content, body.value(_PLAIN_0)


def _element(data: bytes, at: int, depth: int) -> tuple[_Element, int]:
    """The element that begins at an offset, and where the next one does."""
    if depth > _DEPTH_MAX or at + 2 > len(data):
        raise _malformed("it is cut, or too deep")
    tag, first, start = data[at], data[at + 1], at + 2
    if first == _INDEFINITE:
        if not tag & _CONSTRUCTED:
            raise _malformed("a primitive element without an end")
        return _until_end(data, tag, start, depth)
    size, start = (first, start) if first < _LONG else _long_size(data, first & ~_LONG, start)
    end = start + size
    if end > len(data):
        raise _malformed("it is cut")
    if not tag & _CONSTRUCTED:
        return _Element(tag, data[start:end]), end
    parts: list[_Element] = []
    while start < end:
        part, start = _element(data[:end], start, depth + 1)
        parts.append(part)
    return _Element(tag, b"", tuple(parts)), end


def _until_end(data: bytes, tag: int, at: int, depth: int) -> tuple[_Element, int]:
    """An element of indefinite length, whose end is marked by two zeros."""
    parts: list[_Element] = []
    while data[at : at + 2] != b"\x00\x00":
        part, at = _element(data, at, depth + 1)
        parts.append(part)
    return _Element(tag, b"", tuple(parts)), at + 2


def _long_size(data: bytes, count: int, at: int) -> tuple[int, int]:
    """A length of one or two bytes, which is more than ``LIMIT`` needs, in its shortest form."""
    raw = data[at : at + count]
    size = int.from_bytes(raw, "big")
    if count not in {1, 2} or len(raw) != count or size < (_LONG if count == 1 else 1 << 8):
        raise _malformed("a length in another form")
    return size, at + count


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"CMS: {what}")
