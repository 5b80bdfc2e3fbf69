"""One machine: a CPU's evidence and that of its devices. Spec: docs/spec/nvidia-appraisal.md.

 (1) The CPU's report data commits to exactly these device reports, in this order, whatever the
     TEE: they are verified against a binding that holds the digest of the evidence at hand.
 (2) Each device's report carries the nonce that derives from this challenge and this CPU's key.
 (3) No two of them are the same device.
 (4) CPU and devices are all genuine or all simulated.
 (5) GPUs that know their switches and switches that know their GPUs agree with what is here.

Which devices there must be is for ``regalia.policy``: it gets claims that list every one of them,
and refuses one too few or too many. An attester cannot leave devices out unnoticed, since (1)
binds their absence as well.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from regalia.appraisal import claims as claims_format
from regalia.appraisal.check import Check, Source
from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.codes import AttestCode
from regalia.core.errors import AttestationError
from regalia.verifier.registry import plugin_for
from regalia.wire.evidence import device_nonce, devices_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.wire.evidence import Binding, DeviceEvidence, Evidence

C = TypeVar("C", bound="Claims")
C_co = TypeVar("C_co", bound="Claims", covariant=True)

CPU = Check(
    "composite/cpu",
    "The CPU's report commits to exactly these devices",
    "A device that is left out, added, replaced or moved changes the digest that the CPU signed.",
    Source.HARDWARE_PROVEN,
)
DEVICES = Check(
    "composite/devices",
    "Every device answered for this challenge and this CPU's key",
    "Reports of another machine's devices carry another nonce.",
    Source.HARDWARE_PROVEN,
)
DISTINCT = Check(
    "composite/distinct",
    "No device stands in for two",
    "Otherwise one protected GPU could answer for seven that are not.",
    Source.HARDWARE_PROVEN,
)
HARDWARE = Check(
    "composite/hardware",
    "CPU and devices are all genuine, or all simulated",
    "A simulated GPU beside a genuine CPU would see the weights in clear.",
    Source.VERIFIER_DERIVED,
)
TOPOLOGY = Check(
    "composite/topology",
    "GPUs and switches name each other",
    "Links to a switch that is not attested could carry weights out of the machine.",
    Source.HARDWARE_PROVEN,
)


class CpuVerifier(Protocol[C_co]):
    """Verifies the TEE's own evidence, whichever it is."""

    def __call__(self, evidence: Evidence, report_data: bytes) -> C_co:
        """Claims of evidence bound to ``report_data`` (64 bytes), or a refusal."""


class DeviceVerifier(Protocol):
    """Verifies one device's evidence, whatever its kind."""

    def __call__(self, evidence: DeviceEvidence, nonce: bytes) -> DeviceClaims:
        """Claims of evidence over ``nonce`` (32 bytes), or a refusal."""


def verify_composite(
    evidence: Evidence,
    *,
    binding: Binding,
    verify_cpu: CpuVerifier[C],
    verify_device: DeviceVerifier,
    check_log: CheckLog = NO_LOG,
) -> C:
    """Claims of the CPU, with those of all its devices in ``devices``.

    Evidence without devices is verified as such: the CPU then commits to having none.

    Args:
        evidence: raw, untrusted.
        binding: what the report data must commit to. Its ``device_evidence`` is not read: it is
            computed here from the evidence, so that no caller can verify another set.
        verify_cpu: for ``evidence.tee``.
        verify_device: for every kind of device that may occur.
        check_log: records the checks.

    Raises:
        ParseError: some evidence is malformed.
        AttestationError: some evidence is not genuine or not fresh; COMPOSITE_MISMATCH.
    """
    digest = devices_digest(evidence.devices)
    claims = verify_cpu(evidence, binding.report_data_with(digest))  # (1)
    # Only now, since it is the comparison of the CPU's report data that shows it.
    check_log.begin(CPU, f"{len(evidence.devices)} devices", f"{len(evidence.devices)} devices")
    if not evidence.devices:
        return claims
    nonce = device_nonce(binding.role, binding.challenge, binding.hpke_public_key)
    devices = tuple(verify_device(device, nonce) for device in evidence.devices)  # (2)
    check_log.begin(DEVICES, nonce, nonce)
    return _joined(claims, devices, check_log)


def join_unbound(claims: C, devices: tuple[DeviceClaims, ...], check_log: CheckLog = NO_LOG) -> C:
    """CPU and devices of one recording, without (1) and (2): nothing shows that they belong
    together but that all devices answered one question. For looking at known-good evidence, and
    never for a release.

    Args:
        claims: of the CPU, verified.
        devices: verified each, and possibly replayed.
        check_log: records the checks.

    Raises:
        AttestationError: COMPOSITE_MISMATCH.
    """
    nonces = {device.nonce for device in devices}
    check_log.begin(DEVICES, f"{len(nonces)} nonces", "1, and that of a challenge to this CPU")
    if len(nonces) > 1:
        raise _mismatch("the devices answered different questions")
    check_log.leave_open("one nonce", "that of a challenge to this CPU")
    return _joined(claims, devices, check_log)


def _joined(claims: C, devices: tuple[DeviceClaims, ...], check_log: CheckLog) -> C:
    check_log.begin(DISTINCT)
    if check_log is not NO_LOG:
        check_log.note(f"{len({device.identity for device in devices})} different devices")
    require_distinct(devices)  # (3)
    check_log.begin(HARDWARE)
    if check_log is not NO_LOG:
        of_devices = ", ".join(sorted({device.hardware.value for device in devices}))
        check_log.note(f"CPU {claims.hardware}; devices {of_devices}", f"all {claims.hardware}")
    _check_hardware(claims, devices)  # (4)
    check_log.begin(TOPOLOGY)
    _check_links(devices)  # (5)
    return _with_devices(claims, devices)


def require_distinct(devices: Sequence[DeviceClaims]) -> None:
    """(3). Raises AttestationError COMPOSITE_MISMATCH."""
    if len({device.identity for device in devices}) == len(devices):
        return
    counts = Counter((device.kind, device.identity) for device in devices)
    twice = [identity.hex() for (_, identity), count in counts.items() if count > 1]
    if twice:
        raise _mismatch(f"more than one report of device {', '.join(twice)}")


def _check_hardware(claims: Claims, devices: Sequence[DeviceClaims]) -> None:
    places = enumerate(devices)
    others = [str(i) for i, device in places if device.hardware is not claims.hardware]
    if others:
        raise _mismatch(f"the CPU is {claims.hardware}, and device {', '.join(others)} is not")


def _check_links(devices: Sequence[DeviceClaims]) -> None:
    """(5) is each vendor's own: its devices say what they are linked to, in its own terms."""
    vendors = [plugin_for(device.kind).vendor for device in devices]
    for vendor in {vendor.name: vendor for vendor in vendors}.values():
        if vendor.check_links is not None:
            own = zip(devices, vendors, strict=True)
            vendor.check_links([device for device, its in own if its is vendor])


def _with_devices(claims: C, devices: tuple[DeviceClaims, ...]) -> C:
    """Every claims class is a dataclass with the fields ``devices`` and ``mint``."""
    filled: C = replace(claims, devices=devices, mint=claims_format.MINT)  # type: ignore[type-var] # a protocol cannot say "dataclass"
    return filled


def _mismatch(what: str) -> AttestationError:
    return AttestationError(AttestCode.COMPOSITE_MISMATCH, what)
