"""One simulated defect for each check of docs/spec/azure-appraisal.md, and its code."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.claims import Hardware, Revocation
from regalia.appraisal.config_binding import expected_slot
from regalia.core.errors import RegaliaError
from regalia.tees.azure.claims import AzureSnpClaims
from regalia.tees.azure.evidence import (
    GenuineAzureSnp,
    GenuineAzureTdx,
    VouchedGuest,
    parse_snp,
    parse_tdx,
    verify_genuine_snp,
    verify_genuine_tdx,
)
from regalia.tees.azure.evidence.wire import parse_azure
from regalia.tees.intel.evidence import prepare
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.tees.tpm.evidence import qualifying_data
from regalia.wire.evidence import Tee
from regalia_testing.tees.azure.defects import HEALTHY, AzureDefects
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.azure.testbed import (
    MEASUREMENT,
    REPORT_DATA,
    REQUIRED,
    RUNTIME_CONFIG,
    altered_document,
)
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.tees.azure.claims import AzureTdxClaims
    from regalia_testing.tees.azure.testbed import AzureTestbed


def test_a_healthy_vm_gives_claims(azure: AzureTestbed) -> None:
    evidence = azure.evidence()
    claims = azure.verify(evidence)
    guest = azure.platform.guest
    assert claims.tee is azure.platform.tee
    assert claims.hardware is Hardware.SIMULATED
    assert claims.revocation is Revocation.CHECKED
    assert claims.measurement == MEASUREMENT
    assert claims.report_data == qualifying_data(REPORT_DATA)
    assert claims.config_binding == expected_slot(claims.tee, RUNTIME_CONFIG)
    assert claims.guest == f"{guest.vm_unique_id}#3".encode()
    assert any(claims.instance)
    assert claims.evidence_digest == evidence.digest()
    assert not claims.debug
    assert not claims.migratable
    assert claims.devices == ()
    assert claims.vm.secure_boot
    assert claims.vm.tpm_enabled
    assert not claims.vm.console_enabled
    assert claims.vm.tpm_persisted is None
    assert claims.vm.user_data == bytes(64)
    assert sorted(claims.vtpm.pcrs) == list(range(24))
    assert claims.vtpm.boot is not None
    assert claims.vtpm.boot.secure_boot is True
    assert claims.product in {"Genoa", "Intel TDX"}


REFUSED = [
    ({"stale_nonce": True}, "NONCE_MISMATCH"),
    ({"zero_nonce": True}, "NONCE_MISMATCH"),
    ({"raw_nonce": True}, "NONCE_MISMATCH"),
    ({"other_runtime_data": True}, "RUNTIME_DATA_UNBOUND"),
    ({"report_data_tail": True}, "RUNTIME_DATA_UNBOUND"),
    ({"no_ak": True}, "RUNTIME_KEY_MISSING"),
    ({"two_aks": True}, "RUNTIME_KEY_MISSING"),
    ({"ak_not_rsa": True}, "MALFORMED"),
    ({"ak_exponent_3": True}, "MALFORMED"),
    ({"ak_small": True}, "MALFORMED"),
    ({"ak_padded": True}, "MALFORMED"),
    ({"duplicate_member": True}, "MALFORMED"),
    ({"no_configuration": True}, "MALFORMED"),
    ({"short_user_data": True}, "MALFORMED"),
    ({"hcl_version": 0}, "UNSUPPORTED_VERSION"),
    ({"hcl_version": 3}, "UNSUPPORTED_VERSION"),
    ({"request_type": 1}, "MALFORMED"),
    ({"request_type": 3}, "MALFORMED"),
    ({"status": 1}, "MALFORMED"),
    ({"reserved": True}, "RESERVED_BIT_SET"),
    ({"report_type": 1}, "MALFORMED"),
    ({"report_type": 3}, "MALFORMED"),
    ({"hash_type": 2}, "MALFORMED"),
    ({"runtime_version": 2}, "UNSUPPORTED_VERSION"),
    ({"runtime_size": 1}, "MALFORMED"),
    ({"runtime_size": 2}, "MALFORMED"),
    ({"runtime_size": 3}, "MALFORMED"),
    ({"trailing_byte": True}, "TRAILING_DATA"),
    ({"padding": 100, "trailing_byte": True}, "TRAILING_DATA"),
    ({"truncated": True}, "MALFORMED"),
    ({"padding": 16384}, "TOO_LARGE"),
    ({"other_signer": True}, "SIGNATURE_INVALID"),
    ({"bad_signature": True}, "SIGNATURE_INVALID"),
    ({"pss": True}, "AK_SCHEME_MISMATCH"),
    ({"register_altered": True}, "QUOTE_PCR_MISMATCH"),
    ({"register_missing": True}, "QUOTE_SELECTION"),
    ({"fewer_registers": True}, "QUOTE_SELECTION"),
    ({"other_bank": True}, "QUOTE_SELECTION"),
    ({"wrong_event_log": True}, "EVENTLOG_MISMATCH"),
    ({"broken_event_log": True}, "MALFORMED"),
]


@pytest.mark.parametrize(("defects", "code"), REFUSED, ids=str)
def test_refused(azure: AzureTestbed, defects: dict[str, Any], code: str) -> None:
    refused(code, azure.verify, evidence=azure.evidence(**defects))


@pytest.mark.parametrize("vmpl", [1, 2, 3])
def test_reports_from_above_the_paravisor(azure_snp: AzureTestbed, vmpl: int) -> None:
    """A guest could have asked for it over an AK of its own."""
    refused("PARAVISOR_LEVEL", azure_snp.verify, evidence=azure_snp.evidence(vmpl=vmpl))


@pytest.mark.parametrize(
    ("field", "code"),
    [("other_td_report", "TD_REPORT_MISMATCH"), ("td_report_digest", "MALFORMED")],
)
def test_td_report_and_quote(azure_tdx: AzureTestbed, field: str, code: str) -> None:
    refused(code, azure_tdx.verify, evidence=azure_tdx.evidence(**{field: True}))


CLAIMED: list[tuple[str, Callable[[AzureSnpClaims | AzureTdxClaims], object]]] = [
    ("debug", lambda claims: claims.debug),
    ("migratable", lambda claims: claims.migratable),
    ("wrong_measurement", lambda claims: claims.measurement),
    ("no_secure_boot", lambda claims: (claims.vm.secure_boot, claims.vtpm.pcrs[7])),
    ("console_enabled", lambda claims: claims.vm.console_enabled),
    ("no_tpm", lambda claims: claims.vm.tpm_enabled),
    ("tpm_persisted", lambda claims: claims.vm.tpm_persisted),
    ("other_loader", lambda claims: claims.vtpm.pcrs[4]),
    ("wrong_config", lambda claims: claims.config_binding),
    ("no_event_log", lambda claims: claims.vtpm.boot is None),
]


@pytest.mark.parametrize(("field", "seen"), CLAIMED, ids=[name for name, _ in CLAIMED])
def test_what_is_for_the_policy_shows_in_the_claims(
    azure: AzureTestbed, field: str, seen: Callable[[AzureSnpClaims | AzureTdxClaims], object]
) -> None:
    altered = azure.verify(azure.evidence(**{field: True}))
    assert seen(altered) != seen(azure.verify(azure.evidence()))


@pytest.mark.parametrize(
    "defects", [{"unknown_member": True}, {"padding": 254}, {"hcl_version": 2}]
)
def test_let_through(azure: AzureTestbed, defects: dict[str, Any]) -> None:
    """What the hardware vouches for, and what the NV index adds."""
    evidence = azure.evidence(**defects)
    assert azure.verify(evidence).evidence_digest == evidence.digest()


def test_every_knob_is_shown() -> None:
    named = {name for defects, _ in REFUSED for name in defects} | {name for name, _ in CLAIMED}
    elsewhere = {"vmpl", "other_td_report", "td_report_digest", "unknown_member", "padding"}
    assert named | elsewhere == {field.name for field in fields(AzureDefects)}
    assert AzureDefects() == HEALTHY


def test_nothing_is_expected_of_zeros(azure: AzureTestbed) -> None:
    """The digest of zeros is no zeros, and as well known as they are."""
    refused("NONCE_WELL_KNOWN", azure.verify, evidence=azure.evidence(), report_data=bytes(64))


def test_misuse_is_the_callers_bug(azure: AzureTestbed) -> None:
    with pytest.raises(ValueError, match="64"):
        azure.verify(azure.evidence(), report_data=b"short")
    with pytest.raises(ValueError, match="time zone"):
        azure.verify(azure.evidence(), now=datetime(2026, 11, 22, 12, 0))  # noqa: DTZ001 - the defect
    for kind, count in ((GenuineAzureSnp, 3), (GenuineAzureTdx, 3), (VouchedGuest, 4)):
        with pytest.raises(TypeError, match="guest comes from"):
            kind(*[None] * count, object())  # type: ignore[arg-type] # refused before use


def test_the_envelope_names_the_kind(azure: AzureTestbed) -> None:
    evidence = azure.evidence()
    other = Tee.AZURE_TDX if azure.platform.tee is Tee.AZURE_SNP else Tee.AZURE_SNP
    for tee in (other, Tee.SEV_SNP, Tee.TDX, Tee.TPM):
        refused("MALFORMED", azure.verify, evidence=replace(evidence, tee=tee))


def test_parts_of_another_kind(azure_snp: AzureTestbed, azure_tdx: AzureTestbed) -> None:
    snp, tdx = azure_snp.evidence(), azure_tdx.evidence()
    refused("MALFORMED", azure_snp.verify, evidence=altered_document(snp, td_quote=b"a quote"))
    refused("MALFORMED", azure_tdx.verify, evidence=altered_document(tdx, td_quote=b""))
    refused(
        "MALFORMED",
        azure_tdx.verify,
        evidence=replace(tdx, endorsements=(b"anything",)),
    )
    refused("MALFORMED", azure_snp.verify, evidence=replace(tdx, tee=Tee.AZURE_SNP))


def test_parts_of_another_vm(azure: AzureTestbed, tmp_path: Path) -> None:
    """Each part is genuine; together they are nobody's."""
    other = AzureSimulator(
        replace(AzureSimulator.create(tmp_path / "vm", Tee.AZURE_TDX).guest),
        azure.platform.snp,
        azure.platform.intel,
        azure.platform.directory,
    )
    theirs = other.evidence(REPORT_DATA, measurement=MEASUREMENT, runtime_config=RUNTIME_CONFIG)
    azure.verify(theirs)
    mine, document = azure.evidence(), parse_azure(theirs.report)
    swapped = altered_document(mine, hcl_report=document.hcl_report, td_quote=document.td_quote)
    refused("SIGNATURE_INVALID", azure.verify, evidence=swapped)
    swapped = altered_document(mine, quoted=document.quoted, signature=document.signature)
    refused("SIGNATURE_INVALID", azure.verify, evidence=swapped)


def test_a_replay_is_genuine_and_not_fresh(azure: AzureTestbed) -> None:
    evidence = azure.evidence(stale_nonce=True)
    platform = azure.platform
    at = AppraisalContext(now=azure.now, rule=REQUIRED, cache=azure.cache)
    if platform.snp is not None:
        genuine_snp = verify_genuine_snp(
            parse_snp(evidence),
            anchors=platform.snp.anchors(),
            collateral=platform.snp.collateral(),
            at=at,
        )
        assert genuine_snp.snp.measurement == MEASUREMENT
    if platform.intel is not None:
        anchors = platform.intel.anchors()
        genuine_tdx = verify_genuine_tdx(
            parse_tdx(evidence),
            anchors=anchors,
            collateral=prepare(
                collateral_of(platform.intel.verifier().collateral),
                anchors=anchors,
                cache=azure.cache,
            ),
            at=at,
        )
        assert genuine_tdx.tdx.mr_td == MEASUREMENT
    refused("NONCE_MISMATCH", azure.verify, evidence=evidence)


def test_the_hardware_is_bound_to_the_runtime_data(azure: AzureTestbed) -> None:
    claims = azure.verify(azure.evidence())
    below = claims.snp if isinstance(claims, AzureSnpClaims) else claims.tdx
    digest = hashlib.sha256(azure.platform.guest.runtime_data(HEALTHY)).digest()
    assert below.report_data == digest + bytes(32)


def test_the_trail_tells_every_check(azure: AzureTestbed) -> None:
    check_log = CheckLog()
    azure.verify(azure.evidence(), check_log=check_log)
    names = [step.check.name for step in check_log.steps()]
    level = "azure/paravisor-level" if azure.platform.snp else "azure/td-report"
    order = ["azure/document", level, "azure/runtime-data", "azure/event-log"]
    assert [name for name in names if name.startswith("azure/")] == order
    assert len(names) > 12
    assert names.index("azure/runtime-data") < names.index(
        next(name for name in names if name.startswith("tpm/"))
    )


@pytest.mark.parametrize(
    ("defects", "last"),
    [
        ({"truncated": True}, "azure/document"),
        ({"other_runtime_data": True}, "azure/runtime-data"),
        ({"wrong_event_log": True}, "azure/event-log"),
    ],
    ids=str,
)
def test_the_trail_ends_with_the_refusal(
    azure: AzureTestbed, defects: dict[str, Any], last: str
) -> None:
    check_log = CheckLog()
    with pytest.raises(RegaliaError) as refusal:
        azure.verify(azure.evidence(**defects), check_log=check_log)
    step = check_log.failed(refusal.value)[-1]
    assert step.check.name == last
    assert step.code == refusal.value.code.name
