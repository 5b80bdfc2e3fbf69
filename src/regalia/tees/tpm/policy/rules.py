"""Rules about a machine whose TPM quotes its registers, one function for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.finding import Finding, empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode
from regalia.tees.boot.policy.rules import boot_findings, register_findings, workload_findings
from regalia.tees.tpm.policy.section import PATH

if TYPE_CHECKING:
    from regalia.tees.tpm.claims import TpmClaims
    from regalia.tees.tpm.policy.section import Tpm


@dataclass(frozen=True, slots=True)
class TpmRuleInput:
    """What every rule here looks at."""

    rule: Tpm
    claims: TpmClaims


TpmRule = Callable[[TpmRuleInput], Iterator[Finding]]


def tpm_findings(rule: Tpm, claims: TpmClaims) -> Iterator[Finding]:
    """All findings about the platform, in the order of the rules."""
    case = TpmRuleInput(rule, claims)
    for each in TPM_RULES:
        yield from each(case)


def binding(case: TpmRuleInput) -> Iterator[Finding]:
    """(a) Who vouches for the attestation key."""
    accepted: list[str] = list(case.rule.bindings)
    if not accepted:
        yield empty(f"{PATH}.bindings")
    elif case.claims.binding not in accepted:
        yield finding(
            PolicyCode.AK_BINDING_DENIED,
            f"the attestation key is bound by {case.claims.binding}; accepted: {listing(accepted)}",
        )


def revocation(case: TpmRuleInput) -> Iterator[Finding]:
    """(b) Whether CRLs were checked."""
    if case.rule.revocation != "any" and case.claims.revocation is Revocation.UNKNOWN:
        yield finding(
            PolicyCode.REVOCATION_UNKNOWN, "the TPM's certificates were not checked against CRLs"
        )


def machine(case: TpmRuleInput) -> Iterator[Finding]:
    """(c) Enrolled machines, by their EK."""
    accepted, have = case.rule.eks, case.claims.ek.hex()
    if accepted == "any":
        return
    if not accepted:
        yield empty(f"{PATH}.eks")
    elif have not in accepted:
        yield finding(
            PolicyCode.INSTANCE_NOT_ALLOWED,
            f"TPM {have[:16]}... is not among {len(accepted)} listed",
            f"Run on a listed machine, or add {have} to eks after checking where it stands.",
        )


def manufacturer(case: TpmRuleInput) -> Iterator[Finding]:
    """(d) Who made the TPM."""
    accepted, have = case.rule.manufacturers, case.claims.manufacturer
    if accepted == "any":
        return
    if not accepted:
        yield empty(f"{PATH}.manufacturers")
    elif have not in accepted:
        yield finding(
            PolicyCode.PRODUCT_DENIED,
            f"a TPM of {shown(have) or 'nobody'}; accepted: {listing(accepted)}",
            "Use a machine whose TPM is of an accepted make.",
        )


def firmware(case: TpmRuleInput) -> Iterator[Finding]:
    """(e) The TPM's firmware, whose numbers only mean something within one make."""
    minima = case.rule.firmware_minimum
    if minima == "any":
        return
    minimum = minima.get(case.claims.manufacturer)
    if minimum is None:
        yield finding(
            PolicyCode.TCB_NO_MINIMUM,
            f"firmware_minimum says nothing about TPMs of {shown(case.claims.manufacturer)}",
            "Add the manufacturer to firmware_minimum.",
        )
    elif f"{case.claims.firmware_version:016x}" < minimum:
        yield finding(
            PolicyCode.FIRMWARE_BELOW_MINIMUM,
            f"TPM firmware {case.claims.firmware_version:016x} is below {minimum}",
            "Update the TPM's firmware, and enrol its AK again if it changed.",
        )


def same_boot(case: TpmRuleInput) -> Iterator[Finding]:
    """(f) Whether the machine rebooted since it was enrolled."""
    claims = case.claims
    if case.rule.same_boot != "any" and not claims.same_boot:
        enrolled = claims.enrolled_reset_count
        since = "is not known" if enrolled is None else f"was {enrolled}"
        yield finding(
            PolicyCode.REBOOTED_SINCE_ENROLMENT,
            f"resetCount is {claims.reset_count}; when the AK was enrolled it {since}",
        )


def workload(case: TpmRuleInput) -> Iterator[Finding]:
    """(g) What booted must be held to something."""
    yield from workload_findings(case.rule.pcrs, case.rule.boot)


def registers(case: TpmRuleInput) -> Iterator[Finding]:
    """(h) Every listed register has an accepted value."""
    yield from register_findings(case.rule.pcrs, case.claims.pcrs, f"{PATH}.pcrs")


def boot(case: TpmRuleInput) -> Iterator[Finding]:
    """(i) What the event log shows."""
    yield from boot_findings(case.rule.boot, case.claims.boot, f"{PATH}.boot")


TPM_RULES: tuple[TpmRule, ...] = (
    binding,
    revocation,
    machine,
    manufacturer,
    firmware,
    same_boot,
    workload,
    registers,
    boot,
)
