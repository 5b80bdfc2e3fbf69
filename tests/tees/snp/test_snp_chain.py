"""Chains with one defect each. All keys are right, all signatures are made, unless stated."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.appraisal.claims import Revocation
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.snp.evidence import SnpCollateral
from regalia.tees.snp.evidence.wire import EndorsementKeyKind
from regalia_testing.anchors import simulated_snp_anchors
from regalia_testing.der import SignatureScheme
from regalia_testing.tees.snp.authority import basic_constraints, key_usage
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.snp.testbed import chain_of, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia_testing.tees.snp.authority import SnpKeys
    from regalia_testing.tees.snp.testbed import SnpChain, SnpTestbed

UNKNOWN_OID = "1.3.6.1.4.1.99999.1"


@pytest.fixture
def chain(testbed: SnpTestbed) -> SnpChain:
    return chain_of(testbed)


def test_the_chain_that_every_defect_starts_from(chain: SnpChain) -> None:
    assert chain.verify().revocation is Revocation.CHECKED


# The root.


def test_another_root_of_the_same_name(chain: SnpChain) -> None:
    stranger = rsa.generate_private_key(65537, 4096)
    forged = replace(chain, ark=replace(chain.ark, key=stranger.public_key()))
    refused("ROOT_UNTRUSTED", forged.verify, ark_signer=stranger, ask_signer=stranger)


def test_the_pinned_key_did_not_sign_its_certificate(chain: SnpChain, testbed: SnpTestbed) -> None:
    keys = testbed.platform.authority.keys
    refused("CHAIN_INVALID", chain.verify, ark_signer=keys.ask)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1, "extensions": ()},
        {"extensions": (key_usage(key_cert_sign=True, crl_sign=True),)},
        {"extensions": (basic_constraints(ca=True, path_length=None),)},
    ],
    ids=["version 1", "no basicConstraints", "no keyUsage"],
)
def test_roots_that_are_no_authority(chain: SnpChain, change: dict[str, Any]) -> None:
    refused("CHAIN_INVALID", replace(chain, ark=replace(chain.ark, **change)).verify)


def test_a_root_that_may_not_sign_crls(chain: SnpChain) -> None:
    extensions = (
        basic_constraints(ca=True, path_length=None),
        key_usage(key_cert_sign=True, crl_sign=False),
    )
    ark = replace(chain.ark, extensions=extensions)
    refused("CRL_SIG_INVALID", replace(chain, ark=ark).verify)


def test_a_product_without_a_pin(
    testbed_of: Callable[[str], SnpTestbed], testbed: SnpTestbed
) -> None:
    milan = testbed_of("Milan")
    with pytest.raises(AttestationError) as refusal:
        milan.verify(milan.evidence(), anchors=testbed.platform.anchors())
    assert refusal.value.code.name == "ROOT_UNTRUSTED"


def test_an_anchor_is_named_like_a_root(testbed: SnpTestbed) -> None:
    with pytest.raises(AttestationError) as refusal:
        simulated_snp_anchors(testbed.platform.ask)
    assert refusal.value.code.name == "CHAIN_INVALID"
    with pytest.raises(ParseError):
        simulated_snp_anchors(b"")


# The intermediate.

AUTHORITY = (
    basic_constraints(ca=True, path_length=0),
    key_usage(key_cert_sign=True, crl_sign=False),
)
INTERMEDIATES = {
    "no CA": {"extensions": (basic_constraints(ca=False, path_length=None), AUTHORITY[1])},
    "pathLen absent": {"extensions": (basic_constraints(ca=True, path_length=None), AUTHORITY[1])},
    "pathLen 1": {"extensions": (basic_constraints(ca=True, path_length=1), AUTHORITY[1])},
    "no basicConstraints": {"extensions": AUTHORITY[1:]},
    "no keyUsage": {"extensions": AUTHORITY[:1]},
    "no keyCertSign": {"extensions": (AUTHORITY[0], key_usage(key_cert_sign=False, crl_sign=True))},
    "unknown critical extension": {"extensions": (*AUTHORITY, (UNKNOWN_OID, True, b"\x05\x00"))},
    "version 1": {"version": 1, "extensions": ()},
    "PKCS #1 v1.5": {"scheme": SignatureScheme(padding="pkcs1v15")},
    "SHA-256": {"scheme": SignatureScheme(digest="sha256", salt=32)},
    "salt of 32 bytes": {"scheme": SignatureScheme(salt=32)},
}


@pytest.mark.parametrize("change", INTERMEDIATES.values(), ids=INTERMEDIATES)
def test_defective_intermediates(chain: SnpChain, change: dict[str, Any]) -> None:
    refused("CHAIN_INVALID", replace(chain, ask=replace(chain.ask, **change)).verify)


def test_an_intermediate_that_the_root_did_not_sign(chain: SnpChain, testbed: SnpTestbed) -> None:
    refused("CHAIN_INVALID", chain.verify, ask_signer=testbed.platform.authority.keys.ask)


def test_an_intermediate_that_names_another_issuer(chain: SnpChain) -> None:
    ask = replace(chain.ask, issuer=chain.ask.subject)
    refused("CHAIN_INVALID", replace(chain, ask=ask).verify)


def test_a_small_intermediate_key(chain: SnpChain) -> None:
    small = rsa.generate_private_key(65537, 2048)
    weak = replace(chain, ask=replace(chain.ask, key=small.public_key()))
    refused("CHAIN_INVALID", weak.verify, leaf_signer=small)


def test_the_root_does_not_issue_leaves(chain: SnpChain, testbed: SnpTestbed) -> None:
    leaf = replace(chain.leaf, issuer=chain.ark.subject)
    what = refused(
        "CHAIN_INVALID",
        replace(chain, leaf=leaf).verify,
        leaf_signer=testbed.platform.authority.keys.ark,
    )
    assert "ARK-Genoa" in what


def test_the_asvk_does_not_issue_vceks(chain: SnpChain, testbed: SnpTestbed) -> None:
    authority = testbed.platform.authority
    leaf = replace(chain.leaf, issuer=authority.asvk().subject)
    crossed = replace(chain, ask=authority.asvk(), leaf=leaf)
    refused("CHAIN_INVALID", crossed.verify, leaf_signer=authority.keys.asvk)


def test_the_ask_does_not_issue_vleks(testbed: SnpTestbed) -> None:
    authority = testbed.platform.authority
    chain = chain_of(testbed, EndorsementKeyKind.VLEK)
    leaf = replace(chain.leaf, issuer=authority.ask().subject)
    crossed = replace(chain, ask=authority.ask(), leaf=leaf)
    refused("CHAIN_INVALID", crossed.verify, leaf_signer=authority.keys.ask)


# The leaf.


def test_a_self_signed_leaf(chain: SnpChain) -> None:
    for name in (chain.leaf.subject, chain.ask.subject):
        leaf = replace(chain.leaf, issuer=name)
        refused(
            "CHAIN_INVALID",
            replace(chain, leaf=leaf).verify,
            leaf_signer=rsa.generate_private_key(65537, 2048),
        )


LEAVES = {
    "a CA": {"extensions": lambda e: (*e, basic_constraints(ca=True, path_length=None))},
    "unknown critical extension": {"extensions": lambda e: (*e, (UNKNOWN_OID, True, b"\x05\x00"))},
    "P-256 key": {"key": lambda _: ec.generate_private_key(ec.SECP256R1()).public_key()},
    "RSA key": {"key": lambda _: rsa.generate_private_key(65537, 2048).public_key()},
    "version 1": {"version": lambda _: 1, "extensions": lambda _: ()},
    "PKCS #1 v1.5": {"scheme": lambda _: SignatureScheme(padding="pkcs1v15")},
    "SHA-256": {"scheme": lambda _: SignatureScheme(digest="sha256", salt=32)},
    "salt of 32 bytes": {"scheme": lambda _: SignatureScheme(salt=32)},
}


@pytest.mark.parametrize("change", LEAVES.values(), ids=LEAVES)
def test_defective_leaves(chain: SnpChain, change: dict[str, Callable[[Any], Any]]) -> None:
    changes: dict[str, Any] = {k: make(getattr(chain.leaf, k)) for k, make in change.items()}
    refused("CHAIN_INVALID", replace(chain, leaf=replace(chain.leaf, **changes)).verify)


def test_a_leaf_that_says_that_it_is_no_ca_is_fine(chain: SnpChain) -> None:
    extensions = (*chain.leaf.extensions, basic_constraints(ca=False, path_length=None))
    claims = replace(chain, leaf=replace(chain.leaf, extensions=extensions)).verify()
    assert claims.revocation is Revocation.CHECKED


def test_a_leaf_signed_by_another_key(chain: SnpChain, testbed: SnpTestbed) -> None:
    refused("CHAIN_INVALID", chain.verify, leaf_signer=testbed.platform.authority.keys.asvk)


# Validity.


@pytest.mark.parametrize("which", ["ark", "ask", "leaf"])
def test_validity_at_now(chain: SnpChain, which: str) -> None:
    spec = getattr(chain, which)
    now = chain.testbed.now
    second = timedelta(seconds=1)
    at_the_edge = replace(spec, not_before=now, not_after=now)
    replace(chain, **{which: at_the_edge}).verify()  # both ends are included
    expired = replace(spec, not_before=now - 2 * second, not_after=now - second)
    refused("CERT_EXPIRED", replace(chain, **{which: expired}).verify)
    early = replace(spec, not_before=now + second)
    refused("CERT_NOT_YET_VALID", replace(chain, **{which: early}).verify)


# Choosing among certificates.


def test_order_and_origin_do_not_matter(testbed: SnpTestbed) -> None:
    evidence = testbed.evidence()
    crls = (testbed.platform.crl,)
    for held in (evidence.endorsements, evidence.endorsements[::-1]):
        collateral = SnpCollateral(held, crls)
        claims = testbed.verify(replace(evidence, endorsements=()), collateral=collateral)
        assert claims.chip_id == testbed.platform.hwid
    sent = replace(evidence, endorsements=evidence.endorsements[::-1])
    claims = testbed.verify(sent, collateral=SnpCollateral((), crls))
    assert claims.chip_id == testbed.platform.hwid


def test_the_leaf_for_this_chip_and_tcb_is_found(
    testbed: SnpTestbed, authority_keys: SnpKeys, tmp_path: Path
) -> None:
    other = SnpSimulator.create(tmp_path / "other", "Genoa", now=testbed.now, keys=authority_keys)
    fleet = (
        other.leaf(),
        testbed.platform.leaf(replace(HEALTHY, old_tcb=True)),
        testbed.platform.leaf(replace(HEALTHY, signing_key="vlek")),
        testbed.platform.leaf(),
        other.leaf(replace(HEALTHY, old_tcb=True)),
    )
    evidence = replace(testbed.evidence(), endorsements=fleet)
    assert testbed.verify(evidence).chip_id == testbed.platform.hwid
    without = replace(evidence, endorsements=fleet[:3])
    refused("LEAF_BINDING_MISMATCH", lambda: testbed.verify(without))


def test_a_forged_twin_of_the_intermediate_changes_nothing(
    chain: SnpChain, testbed: SnpTestbed
) -> None:
    """Whoever sends the evidence can add certificates; the right one is still found."""
    keys = testbed.platform.authority.keys
    forged = chain.ask.sign(keys.asvk)
    evidence = testbed.evidence()
    leaf, ask, ark = evidence.endorsements
    testbed.verify(replace(evidence, endorsements=(leaf, forged, ask, ark)))
    empty = SnpCollateral((), (testbed.platform.crl,))
    alone = replace(evidence, endorsements=(leaf, forged, ark))
    refused("CHAIN_INVALID", lambda: testbed.verify(alone, collateral=empty))
