"""Who vouches for a TPM's keys: certificates of EKs and AKs, their authorities, their lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.collateral_rule import CollateralRule, RevocationRule
from regalia.tees.tpm.claims import AkBinding
from regalia_testing.mutation import dropped, duplicated, none_accepted, reordered
from regalia_testing.tees.tpm.authority import (
    HARDWARE_TPM,
    SOFTWARE_TPM,
    YEAR,
    LeafSpec,
    TpmAuthority,
)
from regalia_testing.tees.tpm.simulator import TpmSimulator
from regalia_testing.tees.tpm.testbed import TpmTestbed

if TYPE_CHECKING:
    from regalia.tees.tpm.claims import TpmClaims
    from regalia.tees.tpm.model import TpmModel

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ANY = CollateralRule(RevocationRule.ANY, timedelta(0))


@pytest.fixture(scope="module")
def testbed() -> TpmTestbed:
    return TpmTestbed.create(now=NOW)


def ek_testbed(testbed: TpmTestbed, spec: LeafSpec, model: TpmModel | None = None) -> TpmTestbed:
    authority = testbed.tpm.authority
    certificates = (authority.leaf(spec), authority.issuer())
    changes: dict[str, object] = {"ek_certificates": certificates}
    if model is not None:
        changes |= {"model": model, "hardware": Hardware.SIMULATED}
    return testbed.enrolled(**changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"usage": "2.23.133.8.3"}, "EK_UNSUITABLE"),
        ({"usage": ""}, "EK_UNSUITABLE"),
        ({"usage": "1.3.6.1.5.5.7.3.2"}, "EK_UNSUITABLE"),
        ({"key_usages": ("digital_signature",)}, "EK_UNSUITABLE"),
        ({"key_usages": ("key_encipherment",)}, "EK_UNSUITABLE"),  # RSA's word on an ECC key
        ({"key_usages": ("key_agreement", "key_cert_sign")}, "EK_UNSUITABLE"),
        ({"key_usages": ()}, "EK_UNSUITABLE"),
        ({"model": None}, "EK_UNSUITABLE"),
        ({"ca": True}, "EK_UNSUITABLE"),
        ({"critical": "1.2.3.4"}, "CHAIN_INVALID"),
        ({"life": YEAR / 2}, "CERT_EXPIRED"),
        ({"age": -YEAR}, "CERT_NOT_YET_VALID"),
    ],
)
def test_ek_certificates(testbed: TpmTestbed, changes: dict[str, object], code: str) -> None:
    spec = replace(LeafSpec.ek(testbed.tpm.ek_key.public_key()), **changes)  # type: ignore[arg-type] # of the list above
    assert ek_testbed(testbed, spec).code() == code


def test_an_rsa_ek_and_an_unknown_kind_of_key(testbed: TpmTestbed) -> None:
    spec = LeafSpec.ek(rsa.generate_private_key(65537, 2048).public_key())
    assert ek_testbed(testbed, spec).code() == "LEAF_BINDING_MISMATCH"
    spec = replace(spec, key=ec.generate_private_key(ec.SECP256R1()).public_key())
    assert ek_testbed(testbed, spec).code() == "EK_UNSUITABLE"


@pytest.mark.parametrize(
    "model",
    [
        SOFTWARE_TPM,
        replace(HARDWARE_TPM, model="SWTPM "),
        replace(HARDWARE_TPM, model="libtpms"),
        replace(HARDWARE_TPM, manufacturer="ID:00001014"),
    ],
)
def test_a_software_tpm_is_simulated_whoever_vouches(testbed: TpmTestbed, model: TpmModel) -> None:
    spec = replace(LeafSpec.ek(testbed.tpm.ek_key.public_key()), model=model)
    assert ek_testbed(testbed, spec, model).verify().hardware is Hardware.SIMULATED


def test_issuers_are_authorities(testbed: TpmTestbed) -> None:
    authority = testbed.tpm.authority
    for issuer, code in (
        (authority.issuer(ca=False), "CHAIN_INVALID"),
        (authority.issuer(path_length=None), ""),
    ):
        certificates = (testbed.tpm.ek_certificate, issuer)
        assert testbed.enrolled(ek_certificates=certificates).code() == code
    short = testbed.provided(ek_roots=(authority.root(path_length=0),))
    assert short.code() == "CHAIN_INVALID"


def test_the_issuer_may_come_with_the_collateral(testbed: TpmTestbed) -> None:
    alone = testbed.enrolled(ek_certificates=(testbed.tpm.ek_certificate,))
    assert alone.code() == "ROOT_UNTRUSTED"
    assert alone.provided(intermediates=(testbed.tpm.authority.issuer(),)).code() == ""


def test_an_issuer_of_the_right_name_with_another_key(testbed: TpmTestbed) -> None:
    authority = testbed.tpm.authority
    impostor = replace(authority, issuer_key=ec.generate_private_key(ec.SECP384R1()))
    certificates = (testbed.tpm.ek_certificate, impostor.issuer())
    assert testbed.enrolled(ek_certificates=certificates).code() == "CHAIN_INVALID"


def test_revocation(testbed: TpmTestbed) -> None:
    authority = testbed.tpm.authority
    assert testbed.provided(crls=()).code() == "CRL_MISSING"
    assert testbed.provided(crls=authority.crls()[:1]).code() == "CRL_MISSING"
    assert testbed.provided(crls=authority.crls()[1:]).code() == "CRL_MISSING"
    assert testbed.provided(crls=authority.crls(revoked=4711)).code() == "CERT_REVOKED"
    assert testbed.provided(crls=authority.crls(revoked=1000)).code() == "CERT_REVOKED"
    late = testbed.provided(crls=authority.crls(age=timedelta(days=31)))
    assert late.code() == "CRL_STALE"
    forged = replace(authority, issuer_key=ec.generate_private_key(ec.SECP384R1()))
    assert testbed.provided(crls=forged.crls()).code() == "CRL_SIG_INVALID"
    lenient = CollateralRule(RevocationRule.REQUIRED, timedelta(days=2))
    assert replace(late, rule=lenient).verify().revocation is Revocation.GRACE
    assert replace(late, rule=ANY).verify().revocation is Revocation.UNKNOWN
    assert replace(testbed.provided(crls=()), rule=ANY).verify().revocation is Revocation.UNKNOWN
    revoked = replace(testbed.provided(crls=authority.crls(revoked=4711)), rule=ANY)
    assert revoked.code() == "CERT_REVOKED"


def ak_testbed(testbed: TpmTestbed, spec: LeafSpec) -> TpmTestbed:
    """Bound by an AK certificate in place of an enrolment."""
    authority = testbed.tpm.authority
    certificates = (authority.leaf(spec), authority.issuer())
    return replace(
        testbed.provided(enrolments=(), ek_roots=(), ak_roots=(authority.root(),)),
        evidence=replace(testbed.evidence, endorsements=certificates),
    )


def ak_spec(testbed: TpmTestbed) -> LeafSpec:
    return LeafSpec.ak(testbed.tpm.ak_key.public_key())


def test_an_ak_certificate(testbed: TpmTestbed) -> None:
    claims = ak_testbed(testbed, ak_spec(testbed)).verify()
    assert claims.binding is AkBinding.AK_CERTIFICATE
    assert claims.enrolled_reset_count is None
    assert not claims.same_boot
    assert claims.model == "XYZ 9000"
    nameless = ak_testbed(testbed, replace(ak_spec(testbed), model=None, usage="")).verify()
    assert (nameless.product, nameless.hardware) == ("unnamed", Hardware.GENUINE)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"usage": "2.23.133.8.1"}, ""),  # as Google's cloud does
        ({"usage": "1.3.6.1.5.5.7.3.2"}, "EK_UNSUITABLE"),
        ({"key_usages": ("key_agreement",)}, "EK_UNSUITABLE"),
        ({"ca": True}, "EK_UNSUITABLE"),
        ({"life": YEAR / 2}, "CERT_EXPIRED"),
    ],
)
def test_ak_certificates(testbed: TpmTestbed, changes: dict[str, object], code: str) -> None:
    assert ak_testbed(testbed, replace(ak_spec(testbed), **changes)).code() == code  # type: ignore[arg-type] # of the list above


def test_an_ak_certificate_for_another_key(testbed: TpmTestbed) -> None:
    other = TpmSimulator.create(testbed.tpm.authority)
    assert (
        ak_testbed(testbed, ak_spec(TpmTestbed.create(now=NOW, tpm=other))).code() == "AK_UNBOUND"
    )


def test_an_ek_root_does_not_certify_aks(testbed: TpmTestbed) -> None:
    certified = ak_testbed(testbed, ak_spec(testbed))
    swapped = certified.provided(ek_roots=certified.collateral.ak_roots, ak_roots=())
    assert swapped.code() == "AK_UNBOUND"
    other = TpmAuthority.create(now=NOW)
    assert certified.provided(ak_roots=(other.root(),)).code() == "ROOT_UNTRUSTED"


def test_ak_chains_are_whole_and_in_order(testbed: TpmTestbed) -> None:
    certified = ak_testbed(testbed, ak_spec(testbed))
    chain = certified.evidence.endorsements

    def verify(sent: tuple[bytes, ...]) -> TpmClaims:
        evidence = replace(certified.evidence, endorsements=sent)
        return replace(certified, evidence=evidence).verify()

    none_accepted(verify, [*dropped(chain), *duplicated(chain), *reordered(chain)])
