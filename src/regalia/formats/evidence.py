"""Evidence envelope and the binding of evidence to a purpose. Spec: docs/spec/release-exchange.md.

Evidence is raw and untrusted (RFC 9334). Nothing here verifies anything; ``report_data`` says
what genuine evidence must carry for a given purpose.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from regalia.core.codec import MIB, b64, canonical_json, exact, lp, parse_json, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest

if TYPE_CHECKING:
    from regalia.core.types import ModelId, PolicyId

FORMAT = "regalia/evidence/v1"
BINDING_DOMAIN = b"regalia/report-data/v1"
NO_DEVICES = hashlib.sha256(b"regalia/no-devices/v1").digest()
CHALLENGE_SIZE = 32  # bytes
REPORT_DATA_SIZE = 64  # bytes
ENVELOPE_LIMIT = 4 * MIB
ENDORSEMENTS_MAX = 8


class Tee(StrEnum):
    """Kinds of trusted execution environment."""

    SEV_SNP = "sev-snp"


class Role(StrEnum):
    """What the bound keys are for. Evidence made for one role is worthless in the other."""

    RELEASE = "release"
    SERVE = "serve"


@dataclass(frozen=True, slots=True)
class Binding:
    """Everything that the report data of one piece of evidence commits to."""

    role: Role
    audience: str  # who asked: the log's origin for a release, "client" for a client
    challenge: bytes  # 32 bytes, chosen by the verifier, single use
    hpke_public_key: bytes  # X-Wing (ML-KEM-768 + X25519), 1216 bytes
    wrap_public_key: bytes  # RSA-3072 SubjectPublicKeyInfo, DER: what an HSM can wrap to
    model_id: ModelId
    policy_id: PolicyId  # all zero in the serve role, where the client's policy is its own
    device_evidence: Digest  # SHA-256 over the device evidence, or NO_DEVICES

    def report_data(self) -> bytes:
        """SHA-512(domain ‖ lp(role, audience, challenge, keys, model, policy, devices))."""
        return hashlib.sha512(
            BINDING_DOMAIN
            + lp(
                self.role.encode(),
                self.audience.encode(),
                exact(self.challenge, CHALLENGE_SIZE, what="challenge"),
                self.hpke_public_key,
                self.wrap_public_key,
                self.model_id.raw,
                self.policy_id.raw,
                self.device_evidence.raw,
            )
        ).digest()


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    tee: str
    report: str
    endorsements: list[str]
    runtime_config: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One attester's evidence, as received.

    Attributes:
        report: the TEE's report or quote.
        endorsements: certificates that came along, leaf first, DER. Untrusted like the rest.
        runtime_config: exact bytes whose SHA-256 the hardware recorded (SNP: HOST_DATA).
    """

    tee: Tee
    report: bytes
    endorsements: tuple[bytes, ...]
    runtime_config: bytes

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                tee=self.tee,
                report=b64(self.report),
                endorsements=[b64(cert) for cert in self.endorsements],
                runtime_config=b64(self.runtime_config),
            )
        )

    def digest(self) -> Digest:
        """Names this evidence in release records."""
        return Digest.of(self.encode())


def parse_evidence(data: bytes) -> Evidence:
    """Inverse of ``Evidence.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=ENVELOPE_LIMIT, what="evidence")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"evidence: format {wire.format[:80]!r}")
    if wire.tee not in set(Tee):
        raise ParseError(CoreCode.MALFORMED, f"evidence: TEE {wire.tee[:80]!r} is not known")
    if len(wire.endorsements) > ENDORSEMENTS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(wire.endorsements)} endorsements")
    return Evidence(
        tee=Tee(wire.tee),
        report=unb64(wire.report, what="evidence.report"),
        endorsements=tuple(
            unb64(item, what=f"evidence.endorsements[{i}]")
            for i, item in enumerate(wire.endorsements)
        ),
        runtime_config=unb64(wire.runtime_config, what="evidence.runtime_config"),
    )


class EvidenceSource(Protocol):
    """Attester side, in the runtime: a plug-in of the group ``regalia.evidence_sources``."""

    @property
    def simulated(self) -> bool:
        """True for anything but real hardware; such a source needs a ``dangerous_`` setting."""

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """Ask the hardware for a report over ``report_data`` (64 bytes)."""
