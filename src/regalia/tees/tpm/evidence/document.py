"""``regalia/tpm-quote/v1``: a TPM quote with what is needed to check it. Spec:
docs/spec/tpm-appraisal.md.

The document stands in ``Evidence.report`` for a TPM. The EK or AK certificates that came along
are the evidence's endorsements, leaf first; the TCG event log is its event log.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import at_most, canonical_json, parse_json, unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.tpm.evidence.layout import HashAlg
from regalia.tees.tpm.evidence.public import PUBLIC_MAX
from regalia.tees.tpm.evidence.wire import ATTEST_MAX, BANKS_MAX, SELECT_MAX, SIGNATURE_MAX
from regalia.wire.evidence import REPORT_DATA_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "regalia/tpm-quote/v1"
QUOTE_LIMIT = 64 * 1024  # bytes
PCRS_MAX = 8 * SELECT_MAX
# By decimal digits, in the only spelling that each has.
_REGISTERS = MappingProxyType({str(number): number for number in range(PCRS_MAX)})
_ALGS = MappingProxyType({alg.label: alg for alg in HashAlg})

Pcrs = dict[HashAlg, dict[int, bytes]]


def qualifying_data(report_data: bytes) -> bytes:
    """What a TPM must quote for Regalia's report data: its SHA-256.

    TPM2B_DATA holds no more than a TPMT_HA of the TPM's largest hash, which on a TPM with SHA-256
    only is 34 bytes, and report data has 64.

    Raises:
        ValueError: report data of another size than 64 bytes (the caller's bug).
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise ValueError(f"report data has {len(report_data)} bytes, want {REPORT_DATA_SIZE}")
    return hashlib.sha256(report_data).digest()


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    quoted: bytes
    signature: bytes
    ak_public: bytes
    pcrs: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """One quote as received.

    Attributes:
        quoted: TPMS_ATTEST, the signed bytes.
        signature: TPMT_SIGNATURE.
        ak_public: TPMT_PUBLIC of the key that is said to have signed.
        pcrs: for each bank, values by register.
    """

    quoted: bytes
    signature: bytes
    ak_public: bytes
    pcrs: Mapping[HashAlg, Mapping[int, bytes]]

    def encode(self) -> bytes:
        """Canonical JSON. ``parse_tpm_quote(b).encode() == b`` for every ``b`` that parses."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                quoted=self.quoted,
                signature=self.signature,
                ak_public=self.ak_public,
                pcrs=pcrs_as_text(self.pcrs),
            )
        )


def parse_tpm_quote(data: bytes) -> TpmQuote:
    """Inverse of ``TpmQuote.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=QUOTE_LIMIT, what="TPM quote")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"TPM quote: format {wire.format[:80]!r}")
    return TpmQuote(
        quoted=at_most(wire.quoted, ATTEST_MAX, what="TPM quote.quoted"),
        signature=at_most(wire.signature, SIGNATURE_MAX, what="TPM quote.signature"),
        ak_public=at_most(wire.ak_public, PUBLIC_MAX, what="TPM quote.ak_public"),
        pcrs=parse_pcrs(wire.pcrs),
    )


def pcrs_as_text(pcrs: Mapping[HashAlg, Mapping[int, bytes]]) -> dict[str, dict[str, str]]:
    """Register values as documents hold them: by bank and decimal number, in hex."""
    return {
        alg.label: {str(pcr): value.hex() for pcr, value in bank.items()}
        for alg, bank in pcrs.items()
    }


def parse_pcrs(wire: Mapping[str, dict[str, str]]) -> Pcrs:
    """Inverse of ``pcrs_as_text``. Raises ParseError."""
    if len(wire) > BANKS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"TPM quote: {len(wire)} PCR banks")
    return dict(_bank(name, values) for name, values in wire.items())


def _bank(name: str, values: dict[str, str]) -> tuple[HashAlg, dict[int, bytes]]:
    alg = _ALGS.get(name)
    if alg is None:
        raise ParseError(CoreCode.MALFORMED, f"TPM quote: PCR bank {name[:40]!r} is not known")
    size = alg.size
    if set(map(len, values.values())) - {2 * size}:
        raise ParseError(CoreCode.MALFORMED, f"TPM quote: a value of {name} has not {size} bytes")
    # In one go: the values are most of the document.
    raw = unhex("".join(values.values()), what="TPM quote.pcrs")
    if not values.keys() <= _REGISTERS.keys():
        unknown = min(values.keys() - _REGISTERS.keys())
        raise ParseError(CoreCode.MALFORMED, f"TPM quote: PCR {unknown[:8]!r} is not a register")
    parts = struct.unpack(f"{size}s" * len(values), raw)
    return alg, dict(zip(map(_REGISTERS.__getitem__, values), parts, strict=True))
