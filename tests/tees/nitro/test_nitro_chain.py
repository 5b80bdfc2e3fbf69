"""Each certificate with exactly one defect, and revocation lists of the simulated authorities."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.appraisal.claims import Revocation
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.errors import ParseError
from regalia.tees.nitro.evidence import NitroCollateral
from regalia_testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia_testing.tees.nitro.testbed import NitroTestbed
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from regalia.wire.evidence import Evidence
    from regalia_testing.certificates import CertificatePlan

REQUIRED = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)


def with_authority(nitro: NitroTestbed, level: int, **changes: Any) -> Evidence:  # noqa: ANN401 - fields of a plan
    """Evidence whose authority at ``level`` (0: root) differs, signed by the right key."""
    authority = nitro.platform.authority
    plan = replace(authority.plans()[level], **changes)
    signer = authority.keys.all()[max(level - 1, 0)]
    bundle = list(nitro.platform.cabundle)
    bundle[level] = plan.sign(signer)
    return nitro.signed({**nitro.fields(), "cabundle": bundle})


def with_leaf(nitro: NitroTestbed, **changes: Any) -> Evidence:  # noqa: ANN401 - likewise
    authority = nitro.platform.authority
    plan: CertificatePlan = authority.leaf(
        authority.keys.zonal.public_key(), nitro.platform.module_id, nitro.now
    )
    der = replace(plan, **changes).sign(authority.keys.instance)
    return nitro.signed({**nitro.fields(), "certificate": der})


def test_unaltered_variants_are_accepted(nitro: NitroTestbed) -> None:
    """Otherwise the tests below would pass for nothing."""
    nitro.verify(with_leaf(nitro))
    for level in range(4):
        nitro.verify(with_authority(nitro, level))


AUTHORITY_DEFECTS: dict[str, dict[str, Any]] = {
    "no CA": {"ca": False, "path_length": None},
    "no constraints": {"constraints": False},
    "no usage": {"usage": ()},
    "other usage": {"usage": ("digital_signature", "crl_sign")},
    "unknown critical extension": {"unknown_critical": True},
    "SHA-256": {"digest": hashes.SHA256()},
    "SHA-512": {"digest": hashes.SHA512()},
    "another issuer": {"issuer": "somebody else"},
}


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("defect", AUTHORITY_DEFECTS)
def test_authorities(nitro: NitroTestbed, level: int, defect: str) -> None:
    changes, code = AUTHORITY_DEFECTS[defect], "CHAIN_INVALID"
    refused(code, nitro.verify, evidence=with_authority(nitro, level, **changes))


@pytest.mark.parametrize("level", range(4))
def test_dates_of_authorities(nitro: NitroTestbed, level: int) -> None:
    day = timedelta(days=1)
    expired = with_authority(
        nitro, level, not_before=nitro.now - day, not_after=nitro.now - day / 2
    )
    refused("CERT_EXPIRED", nitro.verify, evidence=expired)
    future = with_authority(nitro, level, not_before=nitro.now + day / 2)
    refused("CERT_NOT_YET_VALID", nitro.verify, evidence=future)


@pytest.mark.parametrize(("level", "least"), [(0, 3), (1, 2), (2, 1), (3, 0)])
def test_path_lengths(nitro: NitroTestbed, level: int, least: int) -> None:
    nitro.verify(with_authority(nitro, level, path_length=least))
    nitro.verify(with_authority(nitro, level, path_length=least + 1))
    nitro.verify(with_authority(nitro, level, path_length=None))
    if least:
        short = with_authority(nitro, level, path_length=least - 1)
        assert "pathLen" in refused("CHAIN_INVALID", nitro.verify, evidence=short)


def test_keys_of_authorities(nitro: NitroTestbed) -> None:
    """Another curve, or no curve at all, in the last authority; the leaf is signed to fit."""
    authority = nitro.platform.authority
    for key in (ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP521R1())):
        plan = replace(authority.plans()[3], key=key.public_key())
        leaf = authority.leaf(
            authority.keys.zonal.public_key(), nitro.platform.module_id, nitro.now
        )
        fields = {
            **nitro.fields(),
            "cabundle": [*nitro.platform.cabundle[:3], plan.sign(authority.keys.zonal)],
            "certificate": leaf.sign(key),
        }
        what = refused("CHAIN_INVALID", nitro.verify, evidence=nitro.signed(fields))
        assert "P-384" in what


LEAF_DEFECTS: list[dict[str, Any]] = [
    {"ca": True},
    {"ca": True, "usage": ("digital_signature", "key_cert_sign")},
    {"usage": ()},
    {"usage": ("content_commitment",)},
    {"unknown_critical": True},
    {"digest": hashes.SHA256()},
    {"issuer": "somebody else"},
    {"key": ec.generate_private_key(ec.SECP256R1()).public_key()},
    {"key": rsa.generate_private_key(65537, 2048).public_key()},
]


@pytest.mark.parametrize("changes", LEAF_DEFECTS, ids=",".join)
def test_leaves(nitro: NitroTestbed, changes: dict[str, Any]) -> None:
    refused("CHAIN_INVALID", nitro.verify, evidence=with_leaf(nitro, **changes))


def test_a_leaf_without_constraints_is_no_ca(nitro: NitroTestbed) -> None:
    nitro.verify(with_leaf(nitro, constraints=False))


def test_an_authority_signs_no_documents(nitro: NitroTestbed) -> None:
    """The zonal authority's own certificate as the signer's, with its key."""
    fields = {
        **nitro.fields(),
        "certificate": nitro.platform.cabundle[2],
        "cabundle": list(nitro.platform.cabundle[:2]),
    }
    what = refused("CHAIN_INVALID", nitro.verify, evidence=nitro.signed(fields))
    assert "is a CA" in what


def test_the_bundle_in_another_order_or_number(nitro: NitroTestbed) -> None:
    def verify(bundle: tuple[bytes, ...]) -> object:
        return nitro.verify(nitro.signed({**nitro.fields(), "cabundle": list(bundle)}))

    bundle = nitro.platform.cabundle
    verify(bundle)
    none_accepted(verify, dropped(bundle))
    none_accepted(verify, duplicated(bundle[1:]))
    none_accepted(verify, reordered(bundle))
    none_accepted(verify, [("leaf added", (*bundle, nitro.platform.fixed_leaf()))])


def test_the_root_twice_is_one_more_authority(nitro: NitroTestbed) -> None:
    """It issued itself, so the path holds; the document that says so is AWS's to sign."""
    bundle = [nitro.platform.root, *nitro.platform.cabundle]
    nitro.verify(nitro.signed({**nitro.fields(), "cabundle": bundle}))


def test_every_byte_of_the_leaf(nitro: NitroTestbed) -> None:
    """With the document signed anew, so that the certificate alone is at fault."""
    fields = nitro.fields()
    leaf = nitro.platform.fixed_leaf()

    def verify(der: bytes) -> object:
        return nitro.verify(nitro.signed({**fields, "certificate": der}))

    verify(leaf)
    none_accepted(verify, every_flip(leaf))


def test_every_byte_of_a_simulated_document(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence()

    def verify(raw: bytes) -> object:
        return nitro.verify(replace(evidence, report=raw))

    verify(evidence.report)
    codes = none_accepted(verify, every_flip(evidence.report))
    assert "SIGNATURE_INVALID" in codes


# Revocation.


def lists(nitro: NitroTestbed, *levels: int, serials: tuple[int, ...] = ()) -> NitroCollateral:
    authority = nitro.platform.authority
    return NitroCollateral(
        tuple(authority.crl(level, serials).sign(authority.keys.all()[level]) for level in levels)
    )


def serial(der: bytes) -> int:
    return x509.load_der_x509_certificate(der).serial_number


def test_lists_of_both_levels_are_required(nitro: NitroTestbed) -> None:
    """The root's covers the region, the region's the zone; below, nothing is published."""
    evidence = nitro.evidence()
    claims = nitro.verify(evidence, collateral=lists(nitro, 0, 1), rule=REQUIRED)
    assert claims.revocation is Revocation.CHECKED
    for levels in ((), (0,), (1,), (2,)):
        refused(
            "CRL_MISSING",
            nitro.verify,
            evidence=evidence,
            collateral=lists(nitro, *levels),
            rule=REQUIRED,
        )
    assert nitro.verify(evidence, collateral=lists(nitro, 0)).revocation is Revocation.UNKNOWN


@pytest.mark.parametrize("level", [0, 1, 2])
def test_revoked(nitro: NitroTestbed, level: int) -> None:
    """Even where the relying party wrote ``any``."""
    named = lists(nitro, level, serials=(serial(nitro.platform.cabundle[level + 1]),))
    refused("CERT_REVOKED", nitro.verify, evidence=nitro.evidence(), collateral=named)


def test_stale_lists(nitro: NitroTestbed) -> None:
    late = nitro.now + timedelta(days=21)
    platform = replace(nitro.platform, clock=lambda: late)
    authority = replace(platform.authority, since=late - timedelta(hours=1))
    platform = replace(
        platform, cabundle=(platform.root, *authority.chain()[1:]), authority=authority
    )
    later = NitroTestbed(platform, late)
    evidence = later.evidence()
    old = lists(nitro, 0, 1)
    refused("CRL_STALE", later.verify, evidence=evidence, collateral=old, rule=REQUIRED)
    grace = CollateralRule(RevocationRule.REQUIRED, timedelta(days=7))
    claims = later.verify(evidence, collateral=old, rule=grace)
    assert claims.revocation is Revocation.GRACE
    assert later.verify(evidence, collateral=old).revocation is Revocation.UNKNOWN


def test_lists_by_strangers(nitro: NitroTestbed) -> None:
    authority = nitro.platform.authority
    stranger = ec.generate_private_key(ec.SECP384R1())
    forged = NitroCollateral((authority.crl(0).sign(stranger),))
    weak = NitroCollateral(
        (replace(authority.crl(0), digest=hashes.SHA256()).sign(authority.keys.root),)
    )
    unfit = NitroCollateral((authority.crl(3).sign(authority.keys.instance),))
    for collateral in (forged, weak, unfit):
        refused("CRL_SIG_INVALID", nitro.verify, evidence=nitro.evidence(), collateral=collateral)
    with pytest.raises(ParseError):
        nitro.verify(nitro.evidence(), collateral=NitroCollateral((b"no list",)))


def test_a_cold_and_a_warm_cache_agree(nitro: NitroTestbed) -> None:
    evidence = nitro.evidence()
    cold = NitroTestbed(nitro.platform, nitro.now, Cache())
    first = cold.verify(evidence)
    assert cold.verify(evidence) == first
    stranger = nitro.evidence(stranger_root=True)
    for _ in range(2):
        refused("ROOT_UNTRUSTED", cold.verify, evidence=stranger)
