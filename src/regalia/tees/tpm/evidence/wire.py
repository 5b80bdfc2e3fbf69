"""TPM 2.0 quotes: bytes to values and back. Spec: docs/spec/tpm-appraisal.md.

Trusted Platform Module Library, Part 2: Structures. TPMS_ATTEST of type QUOTE (section 10.12),
TPMT_SIGNATURE (11.3.4) and TPML_PCR_SELECTION (10.9.7); keys are in ``tees.tpm.evidence.public``.
Every encoder is the exact inverse of its parser. Nothing here verifies anything.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.tpm.evidence.layout import (
    HASH_ALGS,
    SIGNATURE_ALGS,
    Reader,
    SignatureAlg,
    sized,
)
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence.layout import HashAlg

TPM_GENERATED_VALUE = 0xFF544347  # "\xffTCG": what a restricted key signs only for the TPM itself
TPM_ST_ATTEST_QUOTE = 0x8018
ATTEST_MAX = 2048  # bytes; one of all banks and registers has below 400
SIGNATURE_MAX = 1024  # bytes; RSA-4096 has 518
DATA_MAX = 66  # bytes of TPM2B_DATA: a TPMT_HA of SHA-512
NAME_MAX = 66  # bytes of TPM2B_NAME
DIGEST_MAX = 64  # bytes
BANKS_MAX = 8
SELECT_MIN = 3  # bytes of a PCR bitmap: 24 registers, the PC Client profile's
SELECT_MAX = 4  # bytes
RSA_SIZE_MAX = 512  # bytes
ECC_SIZE_MAX = 66  # bytes
HANDLE_SIZE = 4  # bytes: the name of what has no public area
_ALG_SIZE = 2  # bytes
PCR_COUNT = 24  # registers of the PC Client Platform TPM Profile
ALL_PCRS = frozenset(range(PCR_COUNT))
_ALL_IN_ORDER = tuple(range(PCR_COUNT))
_ALL_BITMAP = b"\xff\xff\xff"
_HEAD = struct.Struct(">IHH")  # magic, type, size of the signer's name
_SIZE = struct.Struct(">H")  # of a TPM2B
_CLOCK = struct.Struct(">QIIBQI")  # TPMS_CLOCK_INFO, firmwareVersion, number of banks
_SELECTION = struct.Struct(">HB")  # hash, size of the bitmap


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """TPMS_PCR_SELECTION: registers of one bank."""

    alg: HashAlg
    bitmap: bytes  # register i is bit i % 8 of byte i // 8

    @classmethod
    def of(cls, alg: HashAlg, pcrs: frozenset[int]) -> PcrSelection:
        """With the bitmap of 24 registers that TPMs of PCs and servers use.

        Args:
            alg: hash algorithm of the bank.
            pcrs: numbers of registers, 0 to 23.
        """
        value = sum(1 << pcr for pcr in pcrs)
        return cls(alg, value.to_bytes(SELECT_MIN, "little"))

    @property
    def pcrs(self) -> tuple[int, ...]:
        """Selected registers, ascending: the order in which their values are hashed."""
        if self.bitmap == _ALL_BITMAP:  # as in every quote that is accepted
            return _ALL_IN_ORDER
        value = int.from_bytes(self.bitmap, "little")
        return tuple(i for i in range(8 * len(self.bitmap)) if value >> i & 1)

    @property
    def pcr_set(self) -> frozenset[int]:
        """The same, without an order."""
        return ALL_PCRS if self.bitmap == _ALL_BITMAP else frozenset(self.pcrs)

    def encode(self) -> bytes:
        """TPMS_PCR_SELECTION."""
        return struct.pack(">HB", self.alg, len(self.bitmap)) + self.bitmap


@dataclass(frozen=True, slots=True)
class Quote:
    """TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE.

    Untrusted until ``tees.tpm.evidence.verify_quote``.
    """

    qualified_signer: bytes  # TPM2B_NAME: of the key and of all its parents
    extra_data: bytes  # TPM2B_DATA: the caller's qualifying data, the nonce
    clock: int  # milliseconds that this TPM has been powered, over its life
    reset_count: int  # TPM Resets, that is reboots, since the last TPM2_Clear
    restart_count: int  # resumes since the last reset
    safe: bool  # whether no higher clock value was reported before
    firmware_version: int  # the vendor's, 64 bits
    selection: tuple[PcrSelection, ...]
    pcr_digest: bytes

    def encode(self) -> bytes:
        """``parse_quote(b).encode() == b`` for every ``b`` that parses."""
        head = (TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE, len(self.qualified_signer))
        clock = (self.clock, self.reset_count, self.restart_count, self.safe, self.firmware_version)
        return b"".join(
            (
                _HEAD.pack(*head) + self.qualified_signer + sized(self.extra_data),
                _CLOCK.pack(*clock, len(self.selection)),
                *(bank.encode() for bank in self.selection),
                sized(self.pcr_digest),
            )
        )


def parse_quote(data: bytes) -> Quote:
    """Parse a TPMS_ATTEST, which must be one that a TPM made of its own registers.

    Args:
        data: raw, untrusted; without the size of a TPM2B_ATTEST.

    Raises:
        ParseError: MALFORMED (also for another magic or type) or TRAILING_DATA.
    """
    if len(data) > ATTEST_MAX:
        raise _malformed(f"{len(data)} bytes, at most {ATTEST_MAX}")
    try:
        magic, kind, size = _HEAD.unpack_from(data)
        if magic != TPM_GENERATED_VALUE:
            raise _malformed(f"magic {magic:#010x} is not TPM_GENERATED_VALUE")
        if kind != TPM_ST_ATTEST_QUOTE:
            raise _malformed(f"type {kind:#06x} is not TPM_ST_ATTEST_QUOTE")
        signer = data[_HEAD.size : _HEAD.size + size]
        at = _HEAD.size + size + _SIZE.size
        (size,) = _SIZE.unpack_from(data, at - _SIZE.size)
        extra_data = data[at : at + size]
        clock, reset_count, restart_count, safe, firmware_version, banks = _CLOCK.unpack_from(
            data, at + size
        )
        selection, at = _selection(data, at + size + _CLOCK.size, banks)
        (size,) = _SIZE.unpack_from(data, at)
    except struct.error as exc:
        raise _malformed(f"ends at byte {len(data)}, within a field") from exc
    pcr_digest = data[at + _SIZE.size :]
    _require_name(signer)
    if len(extra_data) > DATA_MAX:
        raise _malformed(f"extraData has {len(extra_data)} bytes, at most {DATA_MAX}")
    if safe > 1:
        raise _malformed(f"clockInfo.safe is {safe}, want 0 or 1")
    if size > min(DIGEST_MAX, len(pcr_digest)):
        raise _malformed(f"pcrDigest has {size} bytes, {len(pcr_digest)} are left")
    if size < len(pcr_digest):
        raise ParseError(
            EvidenceCode.TRAILING_DATA, f"TPMS_ATTEST: {len(pcr_digest) - size} bytes too many"
        )
    return Quote(
        qualified_signer=signer,
        extra_data=extra_data,
        clock=clock,
        reset_count=reset_count,
        restart_count=restart_count,
        safe=bool(safe),
        firmware_version=firmware_version,
        selection=selection,
        pcr_digest=pcr_digest,
    )


def _require_name(name: bytes) -> None:
    """Empty, a handle, or an algorithm with a digest of its size."""
    if len(name) in {0, HANDLE_SIZE}:
        return
    alg = HASH_ALGS.get(int.from_bytes(name[:_ALG_SIZE], "big"))
    if alg is None or len(name) != _ALG_SIZE + alg.size:
        raise _malformed("qualifiedSigner is not a name")


def _selection(data: bytes, at: int, count: int) -> tuple[tuple[PcrSelection, ...], int]:
    """The banks from ``at`` on, and where they end. Raises struct.error within the first field."""
    if count > BANKS_MAX:
        raise _malformed(f"{count} PCR banks, at most {BANKS_MAX}")
    banks: dict[HashAlg, PcrSelection] = {}
    for _ in range(count):
        number, size = _SELECTION.unpack_from(data, at)
        at += _SELECTION.size + size
        alg = HASH_ALGS.get(number)
        if alg is None:
            raise _malformed(f"PCR bank {number:#06x} is not known")
        if not SELECT_MIN <= size <= SELECT_MAX or at > len(data):
            raise _malformed(f"a PCR bitmap of {size} bytes")
        banks[alg] = PcrSelection(alg, data[at - size : at])
    if len(banks) != count:
        raise _malformed("a PCR bank is selected twice")
    return tuple(banks.values()), at


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"TPMS_ATTEST: {what}")


@dataclass(frozen=True, slots=True)
class RsaSignature:
    """TPMT_SIGNATURE of RSASSA (PKCS #1 v1.5) or RSAPSS."""

    alg: SignatureAlg
    hash_alg: HashAlg
    value: bytes

    def encode(self) -> bytes:
        """TPMT_SIGNATURE."""
        return struct.pack(">HH", self.alg, self.hash_alg) + sized(self.value)


@dataclass(frozen=True, slots=True)
class EcdsaSignature:
    """TPMT_SIGNATURE of ECDSA: big-endian scalars, which some TPMs pad to the curve's size."""

    hash_alg: HashAlg
    r: bytes
    s: bytes
    alg: SignatureAlg = SignatureAlg.ECDSA

    def encode(self) -> bytes:
        """TPMT_SIGNATURE."""
        return struct.pack(">HH", self.alg, self.hash_alg) + sized(self.r) + sized(self.s)


Signature = RsaSignature | EcdsaSignature


def parse_signature(data: bytes) -> Signature:
    """Parse a TPMT_SIGNATURE of the schemes that attestation keys use.

    Raises:
        ParseError: MALFORMED or TRAILING_DATA.
    """
    reader = Reader(data, what="TPMT_SIGNATURE")
    if len(data) > SIGNATURE_MAX:
        raise reader.malformed(f"{len(data)} bytes, at most {SIGNATURE_MAX}")
    alg = reader.one_of(SIGNATURE_ALGS, "sigAlg")
    hash_alg = reader.one_of(HASH_ALGS, "hash")
    signature: Signature
    if alg is SignatureAlg.ECDSA:
        r = reader.sized(ECC_SIZE_MAX, "signatureR")
        signature = EcdsaSignature(hash_alg, r, reader.sized(ECC_SIZE_MAX, "signatureS"))
    else:
        signature = RsaSignature(alg, hash_alg, reader.sized(RSA_SIZE_MAX, "signature"))
    reader.end()
    return signature
