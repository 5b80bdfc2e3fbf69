"""Evidence envelope and the binding of evidence to a purpose. Spec: docs/spec/release-exchange.md.

Evidence is raw and untrusted (RFC 9334). Nothing here verifies anything; ``report_data`` says
what genuine evidence must carry for a given purpose.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

from regalia.core.codec import MIB, canonical_json, exact, lp, parse_json
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.core.types import ModelId, PolicyId

FORMAT = "regalia/evidence/v2"
BINDING_DOMAIN = b"regalia/report-data/v1"
DEVICES_DOMAIN = b"regalia/device-evidence/v1"
DEVICE_NONCE_DOMAIN = b"regalia/device-nonce/v1"
DEVICE_NONCE_SIZE = 32  # bytes
NO_DEVICES = hashlib.sha256(b"regalia/no-devices/v1").digest()
CHALLENGE_SIZE = 32  # bytes
REPORT_DATA_SIZE = 64  # bytes
ENVELOPE_LIMIT = 4 * MIB
ENDORSEMENTS_MAX = 8
DEVICES_MAX = 64


class Tee(StrEnum):
    """Kinds of trusted execution environment."""

    SEV_SNP = "sev-snp"
    TDX = "tdx"
    SGX = "sgx"
    NITRO = "aws-nitro"
    TPM = "tpm"
    AZURE_SNP = "az-snp-vtpm"  # SEV-SNP below a paravisor, whose vTPM quotes
    AZURE_TDX = "az-tdx-vtpm"


class DeviceKind(StrEnum):
    """Kinds of device that attest for themselves beside a TEE (RFC 9334 section 3.3)."""

    NVIDIA_GPU = "nvidia-gpu"
    NVIDIA_SWITCH = "nvidia-switch"


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
        return self.report_data_with(self.device_evidence)

    def report_data_with(self, device_evidence: Digest) -> bytes:
        """The same for other devices than ``device_evidence``."""
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
                device_evidence.raw,
            )
        ).digest()


def device_nonce(role: Role, challenge: bytes, hpke_public_key: bytes) -> bytes:
    """The nonce that every device's report must carry, 32 bytes.

    It derives from the challenge and from the key that lives in the CPU's TEE, so that device
    evidence made for one runtime is stale for every other.

    Args:
        role: release or serve, so that evidence for one is stale for the other.
        challenge: the relying party's, 32 bytes.
        hpke_public_key: the attested key.
    """
    return hashlib.sha256(
        DEVICE_NONCE_DOMAIN
        + lp(role.encode(), exact(challenge, CHALLENGE_SIZE, what="challenge"), hpke_public_key)
    ).digest()


class _WireDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    kind: str
    report: bytes
    endorsements: list[bytes]


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    tee: str
    report: bytes
    endorsements: list[bytes]
    event_log: bytes
    runtime_config: bytes
    devices: list[_WireDevice]


@dataclass(frozen=True, slots=True)
class DeviceEvidence:
    """One device's evidence, as received.

    Attributes:
        report: NVIDIA: SPDM GET_MEASUREMENTS request ‖ MEASUREMENTS response.
        endorsements: the device's certificates, leaf first, DER.
    """

    kind: DeviceKind
    report: bytes
    endorsements: tuple[bytes, ...]
    _digest: Digest | None = field(default=None, init=False, compare=False, repr=False)

    def digest(self) -> Digest:
        """SHA-256 over kind, report and certificates with their lengths. Computed once."""
        if self._digest is None:
            found = Digest.of(lp(self.kind.encode(), self.report, *self.endorsements))
            object.__setattr__(self, "_digest", found)
            return found
        return self._digest


def devices_digest(devices: Sequence[DeviceEvidence]) -> Digest:
    """What the CPU's report data commits to, in this order: a device left out changes it."""
    if not devices:
        return Digest(NO_DEVICES)
    return Digest.of(DEVICES_DOMAIN + lp(*(device.digest().raw for device in devices)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """One attester's evidence, as received.

    Attributes:
        report: the TEE's report or quote; for a TPM and for Azure's guests, the document of
            ``tees.tpm.evidence.document`` or ``tees.azure.evidence.wire`` that holds its parts.
        endorsements: certificates that came along, leaf first, DER. Untrusted like the rest.
        runtime_config: exact bytes whose digest the hardware recorded, as
            ``appraisal.config_binding`` says for each TEE.
        event_log: TCG event log or CCEL; empty if none came along.
        devices: evidence of the devices beside the TEE, in the order that is bound.
    """

    tee: Tee
    report: bytes
    endorsements: tuple[bytes, ...]
    runtime_config: bytes
    event_log: bytes = b""
    devices: tuple[DeviceEvidence, ...] = ()
    _digest: Digest | None = field(default=None, init=False, compare=False, repr=False)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                tee=self.tee,
                report=self.report,
                endorsements=list(self.endorsements),
                event_log=self.event_log,
                runtime_config=self.runtime_config,
                devices=[
                    _WireDevice(
                        kind=device.kind,
                        report=device.report,
                        endorsements=list(device.endorsements),
                    )
                    for device in self.devices
                ],
            )
        )

    def digest(self) -> Digest:
        """Names this evidence in release records: SHA-256 of ``encode()``. Computed once."""
        if self._digest is None:
            found = Digest.of(self.encode())
            object.__setattr__(self, "_digest", found)
            return found
        return self._digest


def parse_evidence(data: bytes) -> Evidence:
    """Inverse of ``Evidence.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=ENVELOPE_LIMIT, what="evidence")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"evidence: format {wire.format[:80]!r}")
    if wire.tee not in set(Tee):
        raise ParseError(CoreCode.MALFORMED, f"evidence: TEE {wire.tee[:80]!r} is not known")
    if len(wire.devices) > DEVICES_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"evidence: {len(wire.devices)} devices")
    evidence = Evidence(
        tee=Tee(wire.tee),
        report=wire.report,
        endorsements=_endorsements(wire.endorsements, "evidence"),
        event_log=wire.event_log,
        runtime_config=wire.runtime_config,
        devices=tuple(
            _device(each, f"evidence.devices[{i}]") for i, each in enumerate(wire.devices)
        ),
    )
    # There is one encoding, so these bytes are it.
    object.__setattr__(evidence, "_digest", Digest.of(data))
    return evidence


def _endorsements(items: list[bytes], what: str) -> tuple[bytes, ...]:
    if len(items) > ENDORSEMENTS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(items)} endorsements")
    return tuple(items)


def _device(wire: _WireDevice, what: str) -> DeviceEvidence:
    if wire.kind not in set(DeviceKind):
        raise ParseError(CoreCode.MALFORMED, f"{what}: kind {wire.kind[:80]!r} is not known")
    return DeviceEvidence(
        kind=DeviceKind(wire.kind),
        report=wire.report,
        endorsements=_endorsements(wire.endorsements, what),
    )


class EvidenceSource(Protocol):
    """Attester side, in the runtime: a plug-in of the group ``regalia.evidence_sources``."""

    @property
    def simulated(self) -> bool:
        """True for anything but real hardware; such a source needs a ``dangerous_`` setting."""

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """Ask the hardware for a report over ``report_data`` (64 bytes). Without devices.

        Args:
            report_data: what the evidence must be bound to.
            runtime_config: exact bytes; the hardware recorded their digest at launch.
        """

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Ask every device for a report over ``nonce`` (32 bytes); empty if there are none."""


class DeviceSource(Protocol):
    """Attester side, in the runtime: a plug-in of the group ``regalia.device_sources``."""

    @property
    def simulated(self) -> bool:
        """True for anything but real hardware; such a source needs a ``dangerous_`` setting."""

    def collect(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Ask every device of this kind for a report over ``nonce`` (32 bytes)."""
