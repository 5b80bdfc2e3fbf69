"""``regalia/tpm-enrolment/v1``: a verifier's record that an AK lives in a certified TPM. Spec:
docs/spec/tpm-appraisal.md.

Credential activation proves it once, when a machine is enrolled; the record is then trusted
because it comes in the verifier's own signed collateral, never because an attester sent it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from regalia.appraisal.claims import Hardware
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import b64, canonical_json, parse_json, unb64, unhex
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.tpm.evidence.public import PUBLIC_MAX
from regalia.tees.tpm.evidence.wire import NAME_MAX
from regalia.tees.tpm.model import TpmModel
from regalia.wire.evidence import ENDORSEMENTS_MAX

if TYPE_CHECKING:
    from datetime import datetime

FORMAT = "regalia/tpm-enrolment/v1"
ENROLMENT_LIMIT = 64 * 1024  # bytes
CERTIFICATE_MAX = 8 * 1024  # bytes
TEXT_MAX = 128  # characters of a name
_U32_MAX = (1 << 32) - 1


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    ak_name: str
    ek_certificates: list[str]
    ek_public: str
    manufacturer: str
    model: str
    version: str
    reset_count: int
    enrolled_at: str
    hardware: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One AK of one TPM.

    Attributes:
        ak_name: the TPM's name of the AK, which commits to its attributes.
        ek_certificates: DER, leaf first; what vouched for the EK when the AK was enrolled.
        ek_public: TPMT_PUBLIC of the EK.
        model: from the EK certificate.
        reset_count: of the TPM when the AK was enrolled.
        hardware: whether the TPM is a chip or a program.
    """

    ak_name: bytes
    ek_certificates: tuple[bytes, ...]
    ek_public: bytes
    model: TpmModel
    reset_count: int
    enrolled_at: datetime
    hardware: Hardware

    def encode(self) -> bytes:
        """Canonical JSON. ``parse_enrolment(b).encode() == b`` for every ``b`` that parses."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                ak_name=self.ak_name.hex(),
                ek_certificates=[b64(each) for each in self.ek_certificates],
                ek_public=b64(self.ek_public),
                manufacturer=self.model.manufacturer,
                model=self.model.model,
                version=self.model.version,
                reset_count=self.reset_count,
                enrolled_at=rfc3339(self.enrolled_at),
                hardware=self.hardware,
            )
        )


def parse_enrolment(data: bytes) -> Enrolment:
    """Inverse of ``Enrolment.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=ENROLMENT_LIMIT, what="TPM enrolment")
    if wire.format != FORMAT:
        raise _malformed(f"format {wire.format[:80]!r}")
    if not 0 < len(wire.ek_certificates) <= ENDORSEMENTS_MAX:
        raise _malformed(f"{len(wire.ek_certificates)} EK certificates")
    if not 0 <= wire.reset_count <= _U32_MAX:
        raise _malformed(f"reset_count {wire.reset_count} is no 32-bit number")
    if wire.hardware not in set(Hardware):
        raise _malformed(f"hardware {wire.hardware[:40]!r} is not known")
    texts = (wire.manufacturer, wire.model, wire.version)
    if any(len(text) > TEXT_MAX for text in texts):
        raise _malformed(f"a name of more than {TEXT_MAX} characters")
    try:
        enrolled_at = parse_rfc3339(wire.enrolled_at)
    except ValueError as exc:
        raise _malformed("enrolled_at is not a time") from exc
    ak_name = unhex(wire.ak_name, what="TPM enrolment.ak_name")
    if not 0 < len(ak_name) <= NAME_MAX:
        raise _malformed(f"ak_name of {len(ak_name)} bytes")
    return Enrolment(
        ak_name=ak_name,
        ek_certificates=tuple(
            unb64(each, what="TPM enrolment.ek_certificates", limit=CERTIFICATE_MAX)
            for each in wire.ek_certificates
        ),
        ek_public=unb64(wire.ek_public, what="TPM enrolment.ek_public", limit=PUBLIC_MAX),
        model=TpmModel(*texts),
        reset_count=wire.reset_count,
        enrolled_at=enrolled_at,
        hardware=Hardware(wire.hardware),
    )


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"TPM enrolment: {what}")
