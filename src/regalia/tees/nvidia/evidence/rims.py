"""Reference values of one firmware, ``regalia/rim/v1``. Spec: docs/spec/rim.md.

NVIDIA publishes them as signed XML whose certificates live for two years.
``tees.nvidia.evidence.rim_xml`` verifies that XML once, when it is fetched, and writes this
document, which the operator's signed collateral carries. Verifiers read this and never XML.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from regalia.appraisal.claims import Hardware
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import MIB, canonical_json, parse_json, unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, KeyFingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

FORMAT = "regalia/rim/v1"
LIMIT = MIB // 4
VALUE_SIZE = 48  # bytes: SHA-384
INDEX_MAX = 253  # SPDM block 254 is the last that is a measurement; RIMs count from 0
ALTERNATIVES_MAX = 64
NAME_MAX = 128
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


class RimKind(StrEnum):
    """Whose reference values they are."""

    GPU_DRIVER = "gpu-driver"
    GPU_VBIOS = "gpu-vbios"
    SWITCH_BIOS = "switch-bios"


@dataclass(frozen=True, slots=True)
class RimSigner:
    """Who signed the vendor's document. Facts of the ingest, for people and for audits."""

    subject: str  # common name
    key: KeyFingerprint
    root: KeyFingerprint
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Rim:
    """Reference values: for each active index, the digests of which the device must show one."""

    id: str  # e.g. NV_GPU_DRIVER_GH100_550.144.03
    kind: RimKind
    hardware: Hardware  # whose root signed them: simulated ones are for simulated devices only
    product: str  # e.g. GH100
    version: str  # colloquialVersion: of the driver or the VBIOS
    measurements: tuple[tuple[int, tuple[bytes, ...]], ...]  # index from 0, ascending; never empty
    source: Digest  # of the vendor's document
    signer: RimSigner
    ingested_at: datetime

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                id=self.id,
                kind=self.kind,
                hardware=self.hardware,
                product=self.product,
                version=self.version,
                measurements=[
                    _WireMeasurement(index=index, values=[value.hex() for value in values])
                    for index, values in self.measurements
                ],
                source=str(self.source),
                signer=_WireSigner(
                    subject=self.signer.subject,
                    key=str(self.signer.key),
                    root=str(self.signer.root),
                    not_before=rfc3339(self.signer.not_before),
                    not_after=rfc3339(self.signer.not_after),
                ),
                ingested_at=rfc3339(self.ingested_at),
            )
        )


class _WireMeasurement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    index: int
    values: list[str]


class _WireSigner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    subject: str
    key: str
    root: str
    not_before: str
    not_after: str


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    id: str
    kind: str
    hardware: str
    product: str
    version: str
    measurements: list[_WireMeasurement]
    source: str
    signer: _WireSigner
    ingested_at: str


def parse_rim(data: bytes) -> Rim:
    """Inverse of ``Rim.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=LIMIT, what="RIM")
    if wire.format != FORMAT:
        raise _malformed(f"format {wire.format[:80]!r}")
    if wire.kind not in set(RimKind) or wire.hardware not in set(Hardware):
        raise _malformed(f"kind {wire.kind[:80]!r} of {wire.hardware[:80]!r} hardware")
    return Rim(
        id=rim_name(wire.id),
        kind=RimKind(wire.kind),
        hardware=Hardware(wire.hardware),
        product=rim_name(wire.product),
        version=rim_name(wire.version),
        measurements=check_measurements(
            {
                m.index: tuple(unhex(v, what="RIM value") for v in m.values)
                for m in wire.measurements
            },
            [m.index for m in wire.measurements],
        ),
        source=Digest.parse(wire.source),
        signer=RimSigner(
            subject=_subject(wire.signer.subject),
            key=KeyFingerprint.parse(wire.signer.key),
            root=KeyFingerprint.parse(wire.signer.root),
            not_before=_moment(wire.signer.not_before),
            not_after=_moment(wire.signer.not_after),
        ),
        ingested_at=_moment(wire.ingested_at),
    )


def check_measurements(
    values: Mapping[int, tuple[bytes, ...]], order: list[int]
) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
    """Reference values as a ``Rim`` holds them: some, ascending, each of some distinct digests.

    Args:
        values: alternatives by index.
        order: the indices as they were written, to see one that came twice or out of order.

    Raises:
        ParseError: MALFORMED or TOO_LARGE. An empty set would match every device.
    """
    if not order:
        raise _malformed("no active measurement: it would match every device")
    if len(set(order)) != len(order) or order != sorted(order):
        raise _malformed("measurement indices are not ascending, each once")
    if order[0] < 0 or order[-1] > INDEX_MAX:
        raise _malformed(f"measurement indices {order[0]} to {order[-1]}, want 0 to {INDEX_MAX}")
    for index, alternatives in values.items():
        if len(alternatives) > ALTERNATIVES_MAX:
            raise ParseError(
                CoreCode.TOO_LARGE, f"RIM: index {index} has {len(alternatives)} alternatives"
            )
        if not alternatives:
            raise _malformed(f"index {index} has no value")
        if any(len(value) != VALUE_SIZE for value in alternatives):
            raise _malformed(f"index {index} has a value that is not of {VALUE_SIZE} bytes")
        if len(set(alternatives)) != len(alternatives):
            raise _malformed(f"index {index} has a value twice")
    return tuple((index, values[index]) for index in order)


def rim_name(text: str) -> str:
    """An id, product or version: letters, digits, ``_``, ``.`` and ``-``. Raises ParseError."""
    if not 0 < len(text) <= NAME_MAX or not _NAME_CHARACTERS.issuperset(text):
        raise _malformed(f"{text[:80]!r} is no name")
    return text


def _subject(text: str) -> str:
    if len(text) > NAME_MAX or not text.isprintable():
        raise _malformed(f"signer {text[:80]!r}")
    return text


def _moment(text: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError as exc:
        raise _malformed(f"{text[:80]!r} is no date") from exc


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"RIM: {what}")
