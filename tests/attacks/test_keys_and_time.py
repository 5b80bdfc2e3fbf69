"""Keys that nobody vouches for, and platforms that change between attesting and releasing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.claims import MINT
from regalia.broker.leases import holder_of
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.tpm.evidence.public import Attribute
from regalia_testing.relying_party import REPORT_DATA, RUNTIME_CONFIG
from regalia_testing.tees.tpm.simulator import TpmSimulator, registers

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.relying_party import RelyingParty


def booted(tpm: TpmSimulator) -> TpmSimulator:
    """With the same registers as the enrolled one: only the keys are another's."""
    return replace(tpm, pcrs=registers(tpm.boot, RUNTIME_CONFIG))


# -- keys ------------------------------------------------------------------------------------


def test_self_asserted_ak(tpm: RelyingParty, enrolled_tpm: TpmSimulator) -> None:
    """A quote by a fresh key over any registers: well-formed, signed, and nobody's."""
    assert tpm.against() == []
    own = booted(TpmSimulator.create(enrolled_tpm.authority))
    evidence = own.evidence(REPORT_DATA, config=RUNTIME_CONFIG)
    assert tpm.codes(evidence) == ["AK_UNBOUND"]


def test_self_asserted_ak_beside_anothers_ek_certificate(
    tpm: RelyingParty, enrolled_tpm: TpmSimulator
) -> None:
    """A certificate that came along vouches for its own key, not for the one that signed."""
    own = booted(TpmSimulator.create(enrolled_tpm.authority))
    evidence = own.evidence(REPORT_DATA, config=RUNTIME_CONFIG)
    beside = enrolled_tpm.request().ek_certificates
    assert tpm.codes(replace(evidence, endorsements=beside)) == ["AK_UNBOUND"]


def test_self_asserted_ak_under_an_enrolled_name(
    tpm: RelyingParty, enrolled_tpm: TpmSimulator
) -> None:
    other = TpmSimulator.create(enrolled_tpm.authority)
    assert tpm.against(ak_key=other.ak_key) == ["SIGNATURE_INVALID"]


def test_ak_that_signs_anything(tpm: RelyingParty, enrolled_tpm: TpmSimulator) -> None:
    """An unrestricted key signs a made-up quote that never was in a TPM."""
    free = replace(enrolled_tpm.ak, attributes=enrolled_tpm.ak.attributes & ~Attribute.RESTRICTED)
    assert tpm.against(ak=free) == ["AK_NOT_RESTRICTED"]


def test_self_asserted_ak_below_a_paravisor(azure_vm: RelyingParty) -> None:
    """The hardware's report must vouch for the key that the vTPM signs with."""
    assert azure_vm.against() == []
    assert azure_vm.against(other_signer=True) == ["SIGNATURE_INVALID"]
    assert azure_vm.against(no_ak=True) == ["RUNTIME_KEY_MISSING"]
    assert azure_vm.against(other_runtime_data=True) == ["RUNTIME_DATA_UNBOUND"]


def test_self_made_attestation_key_of_intel(tdx: RelyingParty, sgx: RelyingParty) -> None:
    """A quote signed with a key that the quoting enclave did not name."""
    for relying_party in (tdx, sgx):
        assert relying_party.against(other_attestation_key=True) == ["QE_BINDING_MISMATCH"]
        assert relying_party.against(qe_signer=False) == ["QE_IDENTITY_MISMATCH"]


def test_enclave_signed_by_another_key(nitro: RelyingParty) -> None:
    assert nitro.against() == []
    assert nitro.against(other_signer=True) == ["SIGNATURE_INVALID"]
    assert nitro.against(stranger_root=True) == ["ROOT_UNTRUSTED"]


# -- time of check, time of use --------------------------------------------------------------


def test_leaf_of_another_tcb(snp: RelyingParty) -> None:
    """A firmware update changes the VCEK: the certificate of the healthier level is not taken."""
    assert snp.against() == []
    assert snp.against(leaf_tcb_mismatch=True) == ["LEAF_BINDING_MISMATCH"]
    assert snp.against(leaf_hwid_mismatch=True) == ["LEAF_BINDING_MISMATCH"]
    healthy, old = snp.make(), snp.make(old_tcb=True)
    mixed = replace(old, endorsements=healthy.endorsements)
    assert snp.codes(mixed) == ["LEAF_BINDING_MISMATCH"]


def test_vlek_where_a_vcek_signed(snp: RelyingParty) -> None:
    """Reloading a VLEK changes the key, and never whom the report is by."""
    assert snp.against(leaf_kind_mismatch=True) == ["CHAIN_INVALID"]


def test_pck_of_another_platform(tdx: RelyingParty, sgx: RelyingParty) -> None:
    for relying_party in (tdx, sgx):
        assert relying_party.against(other_fmspc=True) == ["LEAF_BINDING_MISMATCH"]
        assert relying_party.against(pck_expired=True) == ["CERT_EXPIRED"]


def test_reboot_since_the_enrolment(tpm: RelyingParty, enrolled_tpm: TpmSimulator) -> None:
    """resetCount: another boot may have loaded something else before it looked right again."""
    strict = tpm.but("platform.tpm.same_boot", "required")
    assert strict.against() == []
    later = enrolled_tpm.reset_count + 1
    assert strict.against(reset_count=later) == ["REBOOTED_SINCE_ENROLMENT"]
    assert tpm.but("platform.tpm.same_boot", "any").against(reset_count=later) == []


def test_reset_count_that_went_back(tpm: RelyingParty, enrolled_tpm: TpmSimulator) -> None:
    """A TPM counts up; below the enrolment's count it is another state of it, or a forgery."""
    assert tpm.against(reset_count=enrolled_tpm.reset_count - 1) == ["TPM_RESET_COUNT"]


def test_restarted_guest_is_another_holder(snp: RelyingParty) -> None:
    """A lease is renewed for the guest that took it: REPORT_ID changes with every launch."""
    claims = snp.claims(snp.make())
    assert isinstance(claims, SnpClaims)
    again = replace(claims, report_id=b"\x09" * 32, mint=MINT)
    assert holder_of(claims, b"key") != holder_of(again, b"key")
    moved = replace(claims, chip_id=b"\x09" * 64, mint=MINT)
    assert holder_of(claims, b"key") != holder_of(moved, b"key")
    assert holder_of(claims, b"key") == holder_of(replace(claims, mint=MINT), b"key")


@pytest.mark.parametrize("product", ["Genoa", "Turin"])
def test_report_signed_before_the_certificate_was_revoked_is_not_newer(
    snp_of: Callable[[str], RelyingParty], product: str
) -> None:
    """There is no time in a report, so certificates are judged at the moment of the appraisal."""
    relying_party = snp_of(product)
    assert relying_party.against() == []
    assert relying_party.against(leaf_expired=True) == ["CERT_EXPIRED"]
