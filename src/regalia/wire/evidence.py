"""The evidence envelope, and the binding of evidence to a purpose.

Spec: docs/spec/release-exchange.md. Evidence is raw and untrusted (RFC 9334), and this module
does not verify it. ``Binding.report_data`` computes the report data that evidence must contain
for a given purpose.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

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
WRAP_KEY_MAX = 1024  # bytes; an RSA-3072 SubjectPublicKeyInfo has 422
ENVELOPE_LIMIT = 4 * MIB
ENDORSEMENTS_MAX = 8  # certificates of one report
DEVICES_MAX = 64


class Tee(StrEnum):
    """Kinds of trusted execution environment."""

    SEV_SNP = "sev-snp"
    TDX = "tdx"
    SGX = "sgx"
    NITRO = "aws-nitro"
    TPM = "tpm"
    AZURE_SNP = "az-snp-vtpm"  # SEV-SNP with a paravisor, whose vTPM signs quotes
    AZURE_TDX = "az-tdx-vtpm"


class DeviceKind(StrEnum):
    """Kinds of devices with their own attestation beside a TEE (RFC 9334, section 3.3)."""

    NVIDIA_GPU = "nvidia-gpu"
    NVIDIA_SWITCH = "nvidia-switch"


class Role(StrEnum):
    """Purpose of the bound keys. Evidence for one role is not accepted for the other."""

    RELEASE = "release"
    SERVE = "serve"


@dataclass(frozen=True, slots=True)
class Binding:
    """The values that the report data of evidence commits to."""

    role: Role
    audience: str  # the relying party: the log's origin for a release, "client;…" for a client
    challenge: bytes  # 32 bytes, chosen by the relying party for a single use
    hpke_public_key: bytes  # X-Wing (ML-KEM-768 + X25519), 1216 bytes
    wrap_public_key: bytes  # RSA-3072 SubjectPublicKeyInfo in DER, for HSMs that wrap only to RSA
    model_id: ModelId
    policy_id: PolicyId  # all zero in the serve role, as the runtime does not know the client's
    device_evidence: Digest  # SHA-256 over the device evidence, or NO_DEVICES

    def report_data(self) -> bytes:
        """SHA-512(domain ‖ lp(role, audience, challenge, keys, model, policy, devices))."""
        # SHA-512 fills the 64 bytes that TDX, SGX and SNP reports offer.
        return self.report_data_with(self.device_evidence)

    def report_data_with(self, device_evidence: Digest) -> bytes:
        """The report data of this binding with another digest of device evidence."""
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
    """Derive the 32-byte nonce that every device's report must contain.

    It depends on the challenge and on a key in the CPU's TEE, so device evidence for one runtime
    is not fresh for any other.

    Args:
        role: purpose of the evidence; evidence for one role is not fresh for the other.
        challenge: 32 bytes, chosen by the relying party.
        hpke_public_key: public key that the CPU's report is bound to.
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
        kind: kind of the device, as claimed.
        report: for NVIDIA, SPDM GET_MEASUREMENTS request ‖ MEASUREMENTS response.
        endorsements: certificates of the device in DER, leaf first.
    """

    kind: DeviceKind
    report: bytes
    endorsements: tuple[bytes, ...]
    _digest: Digest | None = field(default=None, init=False, compare=False, repr=False)

    def digest(self) -> Digest:
        """SHA-256 over kind, report and certificates with their lengths. Cached."""
        # The class is frozen, so the cache has to be filled through object.__setattr__.
        if self._digest is None:
            found = Digest.of(lp(self.kind.encode(), self.report, *self.endorsements))
            object.__setattr__(self, "_digest", found)
            return found
        return self._digest


def devices_digest(devices: Sequence[DeviceEvidence]) -> Digest:
    """Digest over all device evidence, in order, that the CPU's report data commits to.

    The host can therefore neither add, omit nor exchange the evidence of a device.
    """
    if not devices:
        return Digest(NO_DEVICES)
    return Digest.of(DEVICES_DOMAIN + lp(*(device.digest().raw for device in devices)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """One attester's evidence, as received.

    Attributes:
        tee: kind of TEE, as claimed.
        report: report or quote of the TEE. For a TPM and for Azure guests, the document of
            ``tees.tpm.evidence.document`` or ``tees.azure.evidence.wire`` that holds its parts.
        endorsements: certificates in DER, leaf first, untrusted.
        runtime_config: exact bytes of the runtime configuration. The hardware recorded their
            digest as ``appraisal.config_binding`` describes.
        event_log: TCG event log or CCEL; empty if there is none.
        devices: evidence of the devices beside the TEE, in the order of ``devices_digest``.
    """

    tee: Tee
    report: bytes
    endorsements: tuple[bytes, ...]
    runtime_config: bytes
    event_log: bytes = b""
    devices: tuple[DeviceEvidence, ...] = ()
    _digest: Digest | None = field(default=None, init=False, compare=False, repr=False)

    def encode(self) -> bytes:
        """Encode as canonical JSON."""
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

    def part(self, tee: Tee, report: bytes) -> Evidence:
        """Evidence of a TEE that is a part of this one; it goes by the digest of the whole.

        Args:
            tee: kind of TEE.
            report: its report or quote, untrusted.
        """
        part = Evidence(tee, report, self.endorsements, b"")
        object.__setattr__(part, "_digest", self.digest())
        return part

    def digest(self) -> Digest:
        """SHA-256 of ``encode()``, which identifies the evidence in release records. Cached."""
        if self._digest is None:
            found = Digest.of(self.encode())
            object.__setattr__(self, "_digest", found)
            return found
        return self._digest


def parse_evidence(data: bytes) -> Evidence:
    """Parse an evidence envelope. Inverse of ``Evidence.encode``. Raises ParseError."""
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
    # The encoding is canonical, so re-encoding would give the same bytes.
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
    """Reads evidence from hardware: a plug-in of the group ``regalia.evidence_sources``."""

    @property
    def simulated(self) -> bool:
        """Whether there is no real hardware. Such a source needs a ``dangerous_`` setting."""

    def collect(self, report_data: bytes, runtime_config: bytes) -> Evidence:
        """Collect the TEE's evidence, without devices.

        Args:
            report_data: 64 bytes that the report must contain.
            runtime_config: exact bytes of the runtime configuration, whose digest the hardware
                has recorded.
        """

    def collect_devices(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Collect a report over ``nonce`` (32 bytes) from every device; empty without devices."""


@runtime_checkable
class ShowsWrapKey(Protocol):
    """An evidence source whose evidence can show the key that model keys are wrapped to.

    It is bound by the report data anyway. A key service that verifies evidence itself knows nothing
    of report data, and encrypts to the key that it finds in the evidence.
    """

    def collect_with_key(
        self, report_data: bytes, runtime_config: bytes, wrap_public_key: bytes
    ) -> Evidence:
        """As ``EvidenceSource.collect``.

        Args:
            report_data: 64 bytes that the report must contain.
            runtime_config: exact bytes of the runtime configuration.
            wrap_public_key: SubjectPublicKeyInfo in DER.
        """


class DeviceSource(Protocol):
    """Attester side, in the runtime: a plug-in of the group ``regalia.device_sources``."""

    @property
    def simulated(self) -> bool:
        """True for anything but real hardware; such a source needs a ``dangerous_`` setting."""

    def collect(self, nonce: bytes) -> tuple[DeviceEvidence, ...]:
        """Ask every device of this kind for a report over ``nonce`` (32 bytes)."""
