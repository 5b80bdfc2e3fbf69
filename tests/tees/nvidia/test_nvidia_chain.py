"""Every way in which a device's certificates may be wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import Revocation
from regalia.appraisal.pki import Cache, parse_certificate
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.nvidia.evidence import NvidiaAnchors, NvidiaCollateral, prepare
from regalia.tees.nvidia.evidence.collateral import READINGS_MAX
from regalia.tees.nvidia.evidence.dice import OID_COMPOSITE_DEVICE_ID, OID_TCB_INFO, read_dice
from regalia.tees.nvidia.evidence.plugin import GPU
from regalia_testing.anchors import simulated_pin
from regalia_testing.certificates import CrlPlan
from regalia_testing.der import OCTET_STRING, SEQUENCE, integer, oid, tlv
from regalia_testing.tees.nvidia.authority import (
    NvidiaKeys,
    composite_device_id,
    tcb_info,
)
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.tees.nvidia.testbed import NONCE
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.testbed import ANY, REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.collateral_rule import CollateralRule
    from regalia.tees.nvidia.claims import NvidiaClaims
    from regalia.tees.nvidia.evidence import PreparedNvidia
    from regalia.tees.nvidia.evidence.dice import Dice
    from regalia_testing.certificates import CertificatePlan
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed

OTHER = ec.generate_private_key(ec.SECP384R1())
P256 = ec.generate_private_key(ec.SECP256R1())
LEVELS = ("leaf", "device", "provisioner", "identity", "root")
AUTHORITIES = LEVELS[1:]


@dataclass(frozen=True)
class Chain:
    """The five certificates, to be altered one at a time."""

    testbed: NvidiaTestbed
    specs: dict[str, CertificatePlan]

    def signers(self) -> dict[str, ec.EllipticCurvePrivateKey]:
        keys, gpu = self.testbed.machine.authority.keys, self.testbed.gpu
        return {
            "leaf": gpu.key,
            "device": keys.provisioner,
            "provisioner": keys.identity,
            "identity": keys.root,
            "root": keys.root,
        }

    def altered(self, level: str, **changes: object) -> Chain:
        return replace(
            self,
            specs={
                **self.specs,
                level: replace(self.specs[level], **changes),  # type: ignore[arg-type] # fields of it
            },
        )

    def verify(
        self, *, cache: Cache | None = None, **signers: ec.EllipticCurvePrivateKey
    ) -> NvidiaClaims:
        keys = {**self.signers(), **signers}
        ders = tuple(self.specs[level].sign(keys[level]) for level in LEVELS)
        evidence = replace(self.testbed.evidence(), endorsements=ders)
        return replace(self.testbed, cache=cache or Cache()).verify(evidence)


@pytest.fixture
def chain(device_testbed: NvidiaTestbed) -> Chain:
    authority, gpu = device_testbed.machine.authority, device_testbed.gpu
    leaf_key, key = gpu.leaf_key.public_key(), gpu.key.public_key()
    specs = {
        "leaf": authority.leaf("GH100", leaf_key, key, gpu.fwid, debug=False),
        "device": authority.device("GH100", gpu.identity, key),
        "provisioner": authority.provisioner("GH100"),
        "identity": authority.identity(),
        "root": authority.root(),
    }
    return Chain(device_testbed, specs)


def test_the_chain_itself_is_accepted(chain: Chain) -> None:
    assert chain.verify().identity == chain.testbed.gpu.identity


@pytest.mark.parametrize("level", LEVELS)
def test_signed_by_somebody_else(chain: Chain, level: str) -> None:
    refused("CHAIN_INVALID", chain.verify, **{level: OTHER})


@pytest.mark.parametrize("level", LEVELS)
def test_signed_with_another_hash(chain: Chain, level: str) -> None:
    refused("CHAIN_INVALID", chain.altered(level, digest=hashes.SHA256()).verify)


@pytest.mark.parametrize("level", LEVELS)
def test_dates(chain: Chain, level: str) -> None:
    now = chain.testbed.now
    late = chain.altered(level, not_after=now - timedelta(seconds=1))
    early = chain.altered(level, not_before=now + timedelta(seconds=1))
    refused("CERT_EXPIRED", late.verify)
    refused("CERT_NOT_YET_VALID", early.verify)
    chain.altered(level, not_after=now).verify()
    chain.altered(level, not_before=now).verify()


@pytest.mark.parametrize("level", AUTHORITIES)
def test_authorities_are_authorities(chain: Chain, level: str) -> None:
    refused("CHAIN_INVALID", chain.altered(level, ca=False).verify)
    refused("CHAIN_INVALID", chain.altered(level, constraints=False).verify)
    below = AUTHORITIES.index(level)
    chain.altered(level, path_length=below).verify()
    if below:
        refused("CHAIN_INVALID", chain.altered(level, path_length=below - 1).verify)


@pytest.mark.parametrize("level", LEVELS)
def test_critical_extensions_that_nobody_knows(chain: Chain, level: str) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    kept = chain.specs[level].extensions
    chain.altered(level, extensions=(*kept, (unknown, False))).verify()
    altered = chain.altered(level, extensions=(*kept, (unknown, True)))
    refused("CHAIN_INVALID", altered.verify)


@pytest.mark.parametrize("level", LEVELS)
def test_names_lead_from_one_to_the_next(chain: Chain, level: str) -> None:
    refused("CHAIN_INVALID", chain.altered(level, issuer="Somebody else").verify)


def test_a_leaf_is_no_authority(chain: Chain) -> None:
    refused("CHAIN_INVALID", chain.altered("leaf", ca=True, constraints=True).verify)
    both = ("digital_signature", "key_cert_sign")
    refused("CHAIN_INVALID", chain.altered("leaf", usage=both).verify)
    refused("CHAIN_INVALID", chain.altered("leaf", usage=("key_agreement",)).verify)


def test_a_leaf_cannot_issue_another_leaf(chain: Chain, device_testbed: NvidiaTestbed) -> None:
    """Whoever holds a firmware's key must not be able to make devices of his own."""
    honest = device_testbed.evidence().endorsements
    fake = replace(
        chain.specs["leaf"], issuer=chain.specs["leaf"].subject, key=OTHER.public_key()
    ).sign(device_testbed.gpu.leaf_key)
    evidence = replace(device_testbed.evidence(), endorsements=(fake, *honest))
    refused("CHAIN_INVALID", device_testbed.verify, evidence=evidence)


@pytest.mark.parametrize("level", LEVELS)
def test_keys_of_another_curve(chain: Chain, level: str) -> None:
    code = "ROOT_UNTRUSTED" if level == "root" else "CHAIN_INVALID"
    refused(code, chain.altered(level, key=P256.public_key()).verify)


@pytest.mark.parametrize(
    ("level", "subject", "code"),
    [
        ("device", "AD102 A01 GSP BROM", "DEVICE_MODEL_UNKNOWN"),
        ("device", " ", "DEVICE_MODEL_UNKNOWN"),
        ("leaf", "GB100 A01 GSP FMC LF", "CHAIN_INVALID"),
        ("provisioner", "NVIDIA GB100 Provisioner ICA 1", "CHAIN_INVALID"),
    ],
)
def test_models(chain: Chain, level: str, subject: str, code: str) -> None:
    below = {"device": "leaf", "provisioner": "device"}.get(level)
    altered = chain.altered(level, subject=subject)
    if below:
        altered = altered.altered(below, issuer=subject)
    refused(code, altered.verify)


def test_a_shorter_and_a_longer_chain(chain: Chain, device_testbed: NvidiaTestbed) -> None:
    keys = device_testbed.machine.authority.keys
    root = chain.specs["root"].subject
    signed = {level: chain.specs[level].sign(chain.signers()[level]) for level in LEVELS}
    short = replace(chain.specs["provisioner"], issuer=root).sign(keys.root)
    evidence = device_testbed.evidence()
    identity = device_testbed.verify(evidence).identity
    four = (signed["leaf"], signed["device"], short, signed["root"])
    assert device_testbed.verify(replace(evidence, endorsements=four)).identity == identity
    extra = replace(chain.specs["identity"], subject="Another CA", key=OTHER.public_key())
    lower = replace(chain.specs["identity"], issuer="Another CA").sign(OTHER)
    six = (*evidence.endorsements[:3], lower, extra.sign(keys.root), signed["root"])
    assert device_testbed.verify(replace(evidence, endorsements=six)).identity == identity
    for count in range(4):
        few = replace(evidence, endorsements=evidence.endorsements[:count])
        refused("COLLATERAL_MISSING", device_testbed.verify, evidence=few)


def test_another_root(device_testbed: NvidiaTestbed) -> None:
    other = NvidiaSimulator.make(1, now=device_testbed.now, keys=NvidiaKeys.generate())
    evidence = device_testbed.evidence()
    for anchors in (other.anchors(), NvidiaAnchors.production()):
        refused("ROOT_UNTRUSTED", device_testbed.verify, evidence=evidence, anchors=anchors)


def test_a_simulated_root_must_be_named_like_the_real_one(chain: Chain) -> None:
    other = replace(chain.specs["root"], subject="Root", issuer="Root").sign(OTHER)
    refused("CHAIN_INVALID", simulated_pin, kind=NvidiaAnchors, root_der=other)


def test_dropping_doubling_and_moving_certificates(device_testbed: NvidiaTestbed) -> None:
    evidence = device_testbed.evidence()
    ders = evidence.endorsements
    variants = [ders[:i] + ders[i + 1 :] for i in range(5)]
    variants += [ders[: i + 1] + ders[i:] for i in range(5)]
    variants += [ders[:i] + ders[i + 1 : i + 2] + ders[i : i + 1] + ders[i + 2 :] for i in range(4)]
    variants += [ders[::-1], (*ders, b""), (b"", *ders)]
    twice = (*ders, ders[-1])  # the root issued itself, so this chain is right as well
    honest = device_testbed.verify(evidence).identity
    assert device_testbed.verify(replace(evidence, endorsements=twice)).identity == honest
    for variant in variants:
        if variant == twice:
            continue
        altered = replace(evidence, endorsements=variant)
        with pytest.raises((ParseError, AttestationError)):
            device_testbed.verify(altered)


def test_every_byte_of_every_certificate(device_testbed: NvidiaTestbed) -> None:
    """One bit of each byte: signatures cover all but themselves, and one encoding is accepted."""
    evidence = device_testbed.evidence()
    testbed = replace(device_testbed, cache=Cache())
    for number, der in enumerate(evidence.endorsements):
        for at in range(0, len(der), 3):
            altered = bytearray(der)
            altered[at] ^= 1 << at % 8
            ders = list(evidence.endorsements)
            ders[number] = bytes(altered)
            with pytest.raises((ParseError, AttestationError)):
                testbed.verify(replace(evidence, endorsements=tuple(ders)))


# CRLs of the authorities.


def _crl(
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    testbed: NvidiaTestbed,
    *serials: int,
    days: int = 0,
) -> bytes:
    since = testbed.now + timedelta(days=days)
    plan = CrlPlan(
        issuer=issuer,
        this_update=since,
        next_update=since + timedelta(days=30),
        serials=serials,
    )
    return plan.sign(key)


@pytest.fixture
def crls(chain: Chain) -> Callable[..., tuple[bytes, ...]]:
    """Lists of all three authorities above the device; ``serials`` are revoked in each."""

    def make(*serials: int, days: int = 0) -> tuple[bytes, ...]:
        keys = chain.testbed.machine.authority.keys
        by_level = {
            "provisioner": keys.provisioner,
            "identity": keys.identity,
            "root": keys.root,
        }
        return tuple(
            _crl(chain.specs[level].subject, key, chain.testbed, *serials, days=days)
            for level, key in by_level.items()
        )

    return make


def test_crls_of_all_authorities_are_enough(
    device_testbed: NvidiaTestbed, crls: Callable[..., tuple[bytes, ...]]
) -> None:
    evidence = device_testbed.evidence()

    def verify(lists: tuple[bytes, ...], rule: CollateralRule = REQUIRED) -> NvidiaClaims:
        return device_testbed.verify(evidence, collateral=NvidiaCollateral(crls=lists), rule=rule)

    assert verify(crls()).revocation is Revocation.CHECKED
    for missing in range(3):
        rest = tuple(crl for i, crl in enumerate(crls()) if i != missing)
        refused("CRL_MISSING", verify, lists=rest)
        assert verify(rest, rule=ANY).revocation is Revocation.UNKNOWN
    refused("CRL_STALE", verify, lists=crls(days=-31))
    grace = replace(REQUIRED, grace=timedelta(days=2))
    assert verify(crls(days=-31), rule=grace).revocation is Revocation.GRACE
    mixed = (*crls()[:1], *crls(days=-31)[1:])
    assert verify(mixed, rule=grace).revocation is Revocation.GRACE
    refused("CRL_STALE", verify, lists=mixed)


def test_lists_are_remembered_without_their_dates_and_refusals_not_at_all(
    chain: Chain, device_testbed: NvidiaTestbed, crls: Callable[..., tuple[bytes, ...]]
) -> None:
    evidence, now = device_testbed.evidence(), device_testbed.now

    def verify(prepared: PreparedNvidia, days: int = 0) -> NvidiaClaims:
        moment = now + timedelta(days=days)
        return verify_fresh(
            GPU,
            evidence,
            anchors=device_testbed.machine.anchors(),
            collateral=prepared,
            report_data=NONCE,
            at=AppraisalContext(now=moment, rule=REQUIRED, cache=device_testbed.cache),
        )

    prepared = prepare(NvidiaCollateral(crls=crls()))
    for _ in range(2):
        assert verify(prepared).revocation is Revocation.CHECKED
        assert len(prepared.links) == 1
        refused("CRL_STALE", verify, prepared=prepared, days=31)
    revoking = prepare(NvidiaCollateral(crls=crls(chain.specs["provisioner"].serial)))
    for _ in range(2):
        refused("CERT_REVOKED", verify, prepared=revoking)
        assert not revoking.links
    for number in range(READINGS_MAX):
        prepared.remember_links((number.to_bytes(4, "big"),), ())
    assert len(prepared.links) == 1


def test_crls_that_list_a_certificate(
    chain: Chain, device_testbed: NvidiaTestbed, crls: Callable[..., tuple[bytes, ...]]
) -> None:
    evidence = device_testbed.evidence()
    for level in ("device", "provisioner", "identity"):
        for days in (0, -1000):
            lists = crls(chain.specs[level].serial, days=days)
            refused(
                "CERT_REVOKED",
                device_testbed.verify,
                evidence=evidence,
                collateral=NvidiaCollateral(crls=lists),
                rule=ANY,
            )


def test_crls_by_somebody_else(chain: Chain, device_testbed: NvidiaTestbed) -> None:
    forged = _crl(chain.specs["identity"].subject, OTHER, device_testbed)
    refused(
        "CRL_SIG_INVALID",
        device_testbed.verify,
        evidence=device_testbed.evidence(),
        collateral=NvidiaCollateral(crls=(forged,)),
        rule=ANY,
    )


# The DICE extension.

FWID = b"\x42" * 48
FWID_DER = tlv(SEQUENCE, oid("2.16.840.1.101.3.4.2.2"), tlv(OCTET_STRING, FWID))
SPKI_DER = tlv(SEQUENCE, b"\x05\x00")


def dice(chain: Chain, *extensions: tuple[str, bytes]) -> Dice:
    items = tuple(
        (x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value), False)
        for dotted, value in extensions
    )
    spec = replace(chain.specs["leaf"], extensions=items)
    return read_dice(parse_certificate(spec.sign(OTHER), what="leaf"))


def test_both_dice_extensions(chain: Chain) -> None:
    key = OTHER.public_key()
    assert dice(chain, (OID_COMPOSITE_DEVICE_ID, composite_device_id(key, FWID))).fwid == FWID
    for debug in (True, False):
        found = dice(chain, (OID_TCB_INFO, tcb_info("GB100", FWID, debug=debug)))
        assert (found.fwid, found.debug, found.device_key) == (FWID, debug, b"")


def test_one_dice_extension_and_no_more(chain: Chain) -> None:
    composite = (OID_COMPOSITE_DEVICE_ID, composite_device_id(OTHER.public_key(), FWID))
    info = (OID_TCB_INFO, tcb_info("GB100", FWID, debug=False))
    for extensions in ((), (composite, info)):
        refused("LEAF_BINDING_MISMATCH", lambda found=extensions: dice(chain, *found))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x30",
        tlv(SEQUENCE),
        tlv(SEQUENCE, integer(2), SPKI_DER, FWID_DER),
        tlv(SEQUENCE, integer(1), SPKI_DER),
        tlv(SEQUENCE, integer(1), SPKI_DER, FWID_DER, FWID_DER),
        tlv(SEQUENCE, integer(1), FWID_DER, tlv(SEQUENCE, oid("2.16.840.1.101.3.4.2.2"))),
        tlv(SEQUENCE, integer(1), SPKI_DER, tlv(OCTET_STRING, FWID)),
        tlv(
            SEQUENCE,
            integer(1),
            SPKI_DER,
            tlv(SEQUENCE, oid("2.16.840.1.101.3.4.2.1"), tlv(OCTET_STRING, FWID)),
        ),
        tlv(
            SEQUENCE,
            integer(1),
            SPKI_DER,
            tlv(SEQUENCE, oid("2.16.840.1.101.3.4.2.2"), tlv(OCTET_STRING, FWID[:-1])),
        ),
        tlv(SEQUENCE, integer(1), SPKI_DER, FWID_DER) + b"\x00\x00",
        b"\x30\x80" + integer(1) + SPKI_DER + FWID_DER + b"\x00\x00",  # indefinite length
    ],
)
def test_a_composite_device_id_of_another_shape(chain: Chain, value: bytes) -> None:
    refused("MALFORMED", lambda: dice(chain, (OID_COMPOSITE_DEVICE_ID, value)))


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (tlv(0xA6),),
        (tlv(0xA6, tlv(OCTET_STRING, FWID)),),
        (tlv(0xA6, FWID_DER, tlv(SEQUENCE)),),
        (tlv(0xA6, FWID_DER), tlv(0xA6, FWID_DER)),
        (tlv(0xA6, FWID_DER), tlv(0x80, b"NVIDIA")),  # out of order
        (tlv(0xA6, FWID_DER), tlv(0x87, b"")),
        (tlv(0xA6, FWID_DER), tlv(0x87, bytes(6))),
    ],
)
def test_a_tcb_info_of_another_shape(chain: Chain, parts: tuple[bytes, ...]) -> None:
    refused("MALFORMED", lambda: dice(chain, (OID_TCB_INFO, tlv(SEQUENCE, *parts))))


def test_a_digest_beside_the_fwid_does_not_count(
    chain: Chain, device_testbed: NvidiaTestbed
) -> None:
    """NVIDIA's tools look for the FWID anywhere in the extension; here it has its place."""
    gpu = device_testbed.gpu
    other = tlv(SEQUENCE, oid("2.16.840.1.101.3.4.2.2"), tlv(OCTET_STRING, FWID))
    value = tlv(SEQUENCE, tlv(0x80, gpu.fwid), tlv(0xA6, other))
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(OID_TCB_INFO), value)
    refused("LEAF_BINDING_MISMATCH", chain.altered("leaf", extensions=((extension, False),)).verify)
