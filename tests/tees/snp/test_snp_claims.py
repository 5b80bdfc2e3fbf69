"""Every claim is the field of the report that has its name, and no other."""

from __future__ import annotations

import struct
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from regalia.tees.snp.claims import Firmware, Tcb
from regalia.tees.snp.evidence.wire import FIELDS, parse_report
from regalia.tees.snp.names import GuestPolicyBit
from regalia_testing.tees.snp.defects import HEALTHY
from regalia_testing.tees.snp.reports import reported_tcb, sign_report
from regalia_testing.testbed import REPORT_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.tees.snp.claims import SnpClaims
    from regalia.tees.snp.evidence.wire import SnpReport
    from regalia_testing.tees.snp.testbed import SnpTestbed

# What the verifier compares with something, so it cannot be anything.
FIXED = {
    "version",
    "signature_algo",
    "key_info",
    "report_data",
    "reported_tcb",
    "cpuid_fam_id",
    "cpuid_mod_id",
    "chip_id",
    "signature_r",
    "signature_s",
}
# What says nothing that a policy could use: a stepping, and an agent that policies refuse.
NO_CLAIM = {"cpuid_step", "report_id_ma"}
WITH_FIELDS = {"current_firmware", "committed_firmware"}
OF_THE_VERIFIER = {
    "hardware",
    "product",
    "revocation",
    "evidence_digest",
    "signing_key",
    "csp_id",
    "devices",
    "tee",
}


def distinct(report: SnpReport) -> SnpReport:
    """Another value in each field that may have any."""
    changes: dict[str, Any] = {}
    for offset, code, name in FIELDS:
        if not name or name in FIXED:
            continue
        size = struct.calcsize("<" + code)
        value = bytes((offset * 7 + at * 3 + 1) % 251 for at in range(size))
        if name.endswith("_tcb"):
            value = bytes((*value[:4], 0, 0, 0, value[7]))  # reserved on Turin
        changes[name] = value if code.endswith("s") else int.from_bytes(value, "little")
    policy = 1 << GuestPolicyBit.RESERVED_ONE | 1 << GuestPolicyBit.RAPL_DIS | 0x1234
    return msgspec.structs.replace(report, **{**changes, "policy": policy})


@pytest.fixture
def both(testbed_of: Callable[[str], SnpTestbed]) -> tuple[SnpReport, SnpClaims]:
    """A report of Turin, version 5, with distinct fields, and the claims about it."""
    testbed = testbed_of("Turin")
    evidence = testbed.evidence()
    report = distinct(parse_report(evidence.report))
    key = testbed.platform.endorsement_key(
        HEALTHY.key, reported_tcb(testbed.platform.product, HEALTHY)
    )
    signed = sign_report(
        msgspec.structs.replace(report, signature_r=b"", signature_s=b""), key, HEALTHY
    )
    return report, testbed.verify(replace(evidence, report=signed))


def test_each_claim_is_the_field_of_that_name(both: tuple[SnpReport, SnpClaims]) -> None:
    report, claims = both
    compared = set()
    for field in fields(claims):
        if field.name in OF_THE_VERIFIER | WITH_FIELDS or field.name.endswith("_tcb"):
            continue
        name = "version" if field.name == "report_version" else field.name
        assert getattr(claims, field.name) == getattr(report, name), field.name
        compared.add(name)
    assert claims.report_data == REPORT_DATA
    every = {name for _, _, name in FIELDS if name}
    rest = {name for name in every if name.endswith(("_tcb", "_major", "_minor", "_build"))}
    assert compared | rest | NO_CLAIM | FIXED == every


@pytest.mark.parametrize("which", ["current", "reported", "committed", "launch"])
def test_each_tcb_is_its_own(both: tuple[SnpReport, SnpClaims], which: str) -> None:
    report, claims = both
    fmc, bootloader, tee, snp, _, _, _, microcode = getattr(report, f"{which}_tcb")
    assert getattr(claims, f"{which}_tcb") == Tcb(
        fmc=fmc, bootloader=bootloader, tee=tee, snp=snp, microcode=microcode
    )


def test_firmware_versions_are_their_own(both: tuple[SnpReport, SnpClaims]) -> None:
    report, claims = both
    assert claims.current_firmware == Firmware(
        report.current_major, report.current_minor, report.current_build
    )
    assert claims.committed_firmware == Firmware(
        report.committed_major, report.committed_minor, report.committed_build
    )
    assert claims.current_firmware != claims.committed_firmware
    assert (claims.instance, claims.guest, claims.config_binding) == (
        report.chip_id,
        report.report_id,
        report.host_data,
    )
