"""The signature section of an EIF: the certificate whose digest becomes PCR 8.

Source: aws/aws-nitro-enclaves-image-format, src/defs/mod.rs (PcrSignature). CBOR (RFC 8949): an
array of maps, each with ``signing_certificate`` (PEM) and ``signature`` (COSE_Sign1). The writer
encodes both byte strings as arrays of small integers; real byte strings are read too. Only these
shapes are accepted, with definite lengths in their shortest form. The signature is not checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode

LIMIT = MIB  # bytes
SIGNATURES_MAX = 16

_UINT, _BYTES, _TEXT, _ARRAY, _MAP = 0, 2, 3, 4, 5
_KEYS = ("signing_certificate", "signature")
_IN_PLACE = 24  # arguments below stand in the initial byte itself
_SIZES = {24: 1, 25: 2, 26: 4}  # additional information: bytes of the argument


@dataclass(frozen=True, slots=True, kw_only=True)
class EifSignature:
    """One signed register, untrusted."""

    signing_certificate: bytes  # PEM
    signature: bytes  # COSE_Sign1


def parse_eif_signature(data: bytes) -> tuple[EifSignature, ...]:
    """Parse the section; at least one signature.

    Args:
        data: raw, untrusted.

    Raises:
        ParseError: TOO_LARGE, MALFORMED or TRAILING_DATA.
    """
    if len(data) > LIMIT:
        raise ParseError(CoreCode.TOO_LARGE, f"EIF signature: {len(data)} bytes, at most {LIMIT}")
    reader = _Reader(data)
    count = reader.head(_ARRAY)
    if not 1 <= count <= SIGNATURES_MAX:
        _malformed(f"{count} signatures, want 1 to {SIGNATURES_MAX}")
    signatures = tuple(_signature(reader) for _ in range(count))
    if reader.position != len(data):
        raise ParseError(
            EvidenceCode.TRAILING_DATA,
            f"EIF signature: {len(data) - reader.position} bytes behind its end",
        )
    return signatures


def _signature(reader: _Reader) -> EifSignature:
    if reader.head(_MAP) != len(_KEYS):
        _malformed("a map without exactly signing_certificate and signature")
    fields: dict[str, bytes] = {}
    for _ in _KEYS:
        key = reader.text()
        if key not in _KEYS or key in fields:
            _malformed(f"the key {key[:40]!r}, again or unknown")
        fields[key] = reader.octets()
    return EifSignature(**fields)


class _Reader:
    """Reads one CBOR item after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self._data) - self.position:
            _malformed("it ends early")
        self.position += size
        return self._data[self.position - size : self.position]

    def any_head(self) -> tuple[int, int]:
        """Major type and argument."""
        (first,) = self.take(1)
        major, info = first >> 5, first & 0x1F
        if info < _IN_PLACE:
            return major, info
        if info not in _SIZES:
            _malformed("an item of indefinite or excessive length")
        size = _SIZES[info]
        argument = int.from_bytes(self.take(size), "big")
        if argument < (_IN_PLACE if size == 1 else 1 << (4 * size)):
            _malformed("a length that is not in its shortest form")
        return major, argument

    def head(self, wanted: int) -> int:
        """The argument of an item of this major type."""
        major, argument = self.any_head()
        if major != wanted:
            _malformed(f"major type {major}, want {wanted}")
        return argument

    def text(self) -> str:
        """A text string."""
        raw = self.take(self.head(_TEXT))
        if not raw.isascii():
            _malformed("a key that is not ASCII")
        return raw.decode("ascii")

    def octets(self) -> bytes:
        """A byte string, or an array of integers from 0 to 255."""
        major, size = self.any_head()
        if major == _BYTES:
            return self.take(size)
        if major != _ARRAY:
            _malformed(f"major type {major} in place of bytes")
        if size > len(self._data) - self.position:  # each element has at least one byte
            _malformed("it ends early")
        values = [self.head(_UINT) for _ in range(size)]
        if any(value > 0xFF for value in values):  # noqa: PLR2004 - a byte
            _malformed("an array element that is not a byte")
        return bytes(values)


def _malformed(what: str) -> NoReturn:
    raise ParseError(CoreCode.MALFORMED, f"EIF signature: {what}")
