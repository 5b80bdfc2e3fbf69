"""Deny-lists: who is denied by what, and that an entry for somebody else denies nobody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.claims import MINT, Revocation
from regalia.appraisal.pki import parse_certificate
from regalia.core.types import KeyFingerprint
from regalia.verifier.collateral import (
    mark_grace,
    require_certificates_not_denied,
    require_device_not_denied,
    require_not_denied,
)
from regalia.verifier.collateral.deny import DenyIndex
from regalia.wire.deny_list import (
    FORMAT,
    DeniedIdentity,
    DeniedKey,
    DeniedSerial,
    DenyList,
)
from regalia.wire.evidence import DeviceEvidence, DeviceKind, Evidence, Tee
from regalia_testing.certificates import CertificatePlan
from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.nvidia.policy import gpu_claims
from regalia_testing.tees.snp.testbed import refused

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SERIAL = 0xAB


@dataclass(frozen=True)
class Issued:
    """A certificate, in DER and as its parts."""

    der: bytes
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> str:
        return str(KeyFingerprint.of(parse_certificate(self.der, what="x").spki))


def issued(subject: str, issuer: str, by: Issued | None = None, serial: int = SERIAL) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    plan = CertificatePlan(
        subject=subject,
        issuer=issuer,
        serial=serial,
        key=key.public_key(),
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
    )
    return Issued(plan.sign(by.key if by else key), key)


ROOT = issued("root", "root", serial=1)
NAMESAKE = issued("root", "root", serial=2)  # another key under the same name
STRANGER = issued("stranger", "stranger", serial=3)
LEAF = issued("leaf", "root", ROOT)


def index(*entries: DeniedKey | DeniedSerial | DeniedIdentity) -> DenyIndex:
    return DenyIndex.of([DenyList(entries=list(entries), format=FORMAT, name="list")])


def by_key(certificate: Issued) -> DeniedKey:
    return DeniedKey(key=certificate.fingerprint, reason="lost")


def by_serial(issuer: Issued, serial: int = SERIAL) -> DeniedSerial:
    return DeniedSerial(issuer=issuer.fingerprint, serial=f"{serial:x}", reason="lost")


IDENTITY = DeniedIdentity(identity="ab" * 8, of="sev-snp", reason="stolen")


def test_an_index_of_nothing_is_empty() -> None:
    assert not index()
    assert not DenyIndex.of([])
    for entry in (by_key(LEAF), by_serial(ROOT), IDENTITY):
        assert bool(index(entry)) is True


@pytest.mark.parametrize("first", [ROOT, NAMESAKE], ids=["issuer first", "namesake first"])
def test_a_serial_number_is_denied_with_its_issuer(first: Issued) -> None:
    """Whoever has the issuer's name is taken for it, in whatever order the two come."""
    leaf = parse_certificate(LEAF.der, what="x")
    pool = [parse_certificate(each.der, what="x") for each in (ROOT, NAMESAKE, STRANGER)]
    pool.sort(key=lambda each: each.der != first.der)
    for issuer in (ROOT, NAMESAKE):
        assert index(by_serial(issuer)).reason_against(leaf, pool) == "lost (list)"
    for entry in (by_serial(STRANGER), by_serial(ROOT, SERIAL + 1), by_key(ROOT), IDENTITY):
        assert index(entry).reason_against(leaf, pool) is None
    assert index(by_serial(ROOT)).reason_against(leaf, pool[:0]) is None
    both = index(by_key(LEAF), by_serial(STRANGER))
    assert both.reason_against(leaf, pool) == "lost (list)"


def evidence(*endorsements: Issued, device: tuple[Issued, ...] = ()) -> Evidence:
    devices = (DeviceEvidence(DeviceKind.NVIDIA_GPU, b"x", tuple(each.der for each in device)),)
    ders = tuple(each.der for each in endorsements)
    return Evidence(Tee.SEV_SNP, b"x", ders, b"", devices=devices if device else ())


@pytest.mark.parametrize(
    ("entry", "came", "authorities"),
    [
        (by_key(LEAF), evidence(LEAF), ()),
        (by_key(LEAF), evidence(ROOT, device=(ROOT, LEAF)), ()),
        (by_serial(ROOT), evidence(LEAF, ROOT), ()),
        (by_serial(ROOT), evidence(LEAF), (ROOT,)),
        (by_serial(ROOT), evidence(ROOT, device=(LEAF,)), ()),
    ],
    ids=[
        "by key",
        "by key, of a device",
        "by serial, its issuer beside it",
        "by serial, its issuer among the authorities",
        "by serial, of a device",
    ],
)
def test_a_denied_certificate_beside_evidence(
    entry: DeniedKey | DeniedSerial, came: Evidence, authorities: tuple[Issued, ...]
) -> None:
    ders = tuple(each.der for each in authorities)
    said = refused(
        "DEVICE_DENIED",
        require_certificates_not_denied,
        evidence=came,
        denied=index(entry),
        authorities=ders,
    )
    assert "'leaf'" in said
    assert "lost (list)" in said
    for harmless in (by_key(STRANGER), by_serial(STRANGER), IDENTITY):
        require_certificates_not_denied(came, index(harmless), ders)
    # An authority may be denied and known: only what came beside the evidence is looked at.
    require_certificates_not_denied(evidence(LEAF), index(by_key(STRANGER)), (STRANGER.der,))


def test_a_denied_device_is_refused_alone_and_in_its_machine() -> None:
    claims = PolicyScenario().claims
    one, two = gpu_claims(1), gpu_claims(2)
    machine = replace(claims, devices=(one, two), mint=MINT)
    entry = DeniedIdentity(identity=two.identity.hex(), of="nvidia-gpu", reason="stolen")
    denied = index(entry)
    refused("DEVICE_DENIED", require_device_not_denied, claims=two, denied=denied)
    refused("DEVICE_DENIED", require_not_denied, claims=machine, denied=denied)
    require_device_not_denied(one, denied)
    require_not_denied(claims, denied)
    for other in (index(by_key(LEAF)), index(IDENTITY)):
        require_device_not_denied(two, other)
        require_not_denied(machine, other)


def test_grace_lowers_every_device_and_raises_none() -> None:
    devices = tuple(
        gpu_claims(number, revocation=revocation) for number, revocation in enumerate(Revocation)
    )
    machine = replace(PolicyScenario().claims, devices=devices, mint=MINT)
    late = mark_grace(machine)
    lowered = {Revocation.CHECKED: Revocation.GRACE}
    assert late.revocation is Revocation.GRACE
    assert [each.revocation for each in late.devices] == [
        lowered.get(revocation, revocation) for revocation in Revocation
    ]
    assert [each.identity for each in late.devices] == [each.identity for each in devices]
