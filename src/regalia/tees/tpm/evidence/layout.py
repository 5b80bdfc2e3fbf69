"""How TPM 2.0 structures are laid out: big endian, sized buffers, algorithm identifiers.

Trusted Platform Module Library, Part 2: Structures (TCG, revision 1.59 and later). Shared by
``tees.tpm.evidence.wire`` and ``tees.tpm.evidence.public``.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

from regalia.core.errors import CoreCode, ParseError
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from collections.abc import Mapping

E = TypeVar("E", bound=IntEnum)
_U16, _U32 = struct.Struct(">H"), struct.Struct(">I")


class HashAlg(IntEnum):
    """TPM_ALG_ID of hashes. SHA-1 is readable, so that a refusal can call it by its name."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D

    __hash__ = int.__hash__  # Enum's is written in Python, and takes longer than the look-up

    @property
    def label(self) -> str:
        """As documents and ``hashlib`` write it."""
        return _LABELS[self]

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return _SIZES[self]

    def digest(self, data: bytes) -> bytes:
        """Hash the data."""
        return _HASHES[self](data, usedforsecurity=False).digest()


_HASHES = {
    HashAlg.SHA1: hashlib.sha1,
    HashAlg.SHA256: hashlib.sha256,
    HashAlg.SHA384: hashlib.sha384,
    HashAlg.SHA512: hashlib.sha512,
}
HASH_ALGS = {alg.value: alg for alg in HashAlg}
_LABELS = {alg: alg.name.lower() for alg in HashAlg}
_SIZES = {HashAlg.SHA1: 20, HashAlg.SHA256: 32, HashAlg.SHA384: 48, HashAlg.SHA512: 64}


class SignatureAlg(IntEnum):
    """TPM_ALG_ID of signature schemes that attestation keys use."""

    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018


SIGNATURE_ALGS = {alg.value: alg for alg in SignatureAlg}


class Reader:
    """Takes a structure apart from the front; whatever is left over at ``end`` is an error."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, *, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes. Raises ParseError MALFORMED."""
        end = self._at + size
        if end > len(self._data):
            raise self._too_short(end)
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next fields of fixed sizes. Raises ParseError MALFORMED."""
        at, end = self._at, self._at + layout.size
        if end > len(self._data):
            raise self._too_short(end)
        self._at = end
        return layout.unpack_from(self._data, at)

    def u16(self) -> int:
        """UINT16."""
        return int(self.unpack(_U16)[0])

    def u32(self) -> int:
        """UINT32."""
        return int(self.unpack(_U32)[0])

    def sized(self, limit: int, name: str) -> bytes:
        """A TPM2B: a UINT16 of size, and that many bytes.

        Args:
            limit: bytes at most, without the size itself.
            name: of the field, for the error.

        Raises:
            ParseError: MALFORMED.
        """
        size = self.u16()
        if size > limit:
            raise self.malformed(f"{name} has {size} bytes, at most {limit}")
        return self.take(size)

    def one_of(self, known: Mapping[int, E], name: str) -> E:
        """A TPM_ALG_ID or similar UINT16 of the known ones.

        Args:
            known: those, by number.
            name: of the field, for the error.

        Raises:
            ParseError: MALFORMED.
        """
        value = self.u16()
        found = known.get(value)
        if found is None:
            raise self.malformed(f"{name} {value:#06x} is not known")
        return found

    def end(self) -> None:
        """Nothing may follow.

        Raises:
            ParseError: TRAILING_DATA.
        """
        left = len(self._data) - self._at
        if left:
            raise ParseError(EvidenceCode.TRAILING_DATA, f"{self._what}: {left} bytes too many")

    def _too_short(self, end: int) -> ParseError:
        return self.malformed(f"ends at byte {len(self._data)}, within a field that ends at {end}")

    def malformed(self, what: str) -> ParseError:
        """A refusal that names the structure."""
        return ParseError(CoreCode.MALFORMED, f"{self._what}: {what}")


def sized(data: bytes) -> bytes:
    """A TPM2B."""
    return struct.pack(">H", len(data)) + data
