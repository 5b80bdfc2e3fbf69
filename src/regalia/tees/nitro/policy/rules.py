"""Rules about an AWS Nitro enclave: one function for each, in the order of appraisal.

Letters in the docstrings are the checks of docs/spec/policy.md, section "Nitro enclaves".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.finding import Finding, empty, finding, listing, shown
from regalia.appraisal.policy_codes import PolicyCode

if TYPE_CHECKING:
    from regalia.tees.nitro.claims import NitroClaims
    from regalia.tees.nitro.policy.section import Nitro


@dataclass(frozen=True, slots=True)
class NitroRuleInput:
    """What every rule here looks at."""

    rule: Nitro
    claims: NitroClaims


NitroRule = Callable[[NitroRuleInput], Iterator[Finding]]


def nitro_findings(rule: Nitro, claims: NitroClaims) -> Iterator[Finding]:
    """All findings about the enclave, in the order of the rules."""
    case = NitroRuleInput(rule, claims)
    for each in NITRO_RULES:
        yield from each(case)


def revocation(case: NitroRuleInput) -> Iterator[Finding]:
    """(a) Whether CRLs were checked."""
    if case.rule.revocation != "any" and case.claims.revocation is Revocation.UNKNOWN:
        yield finding(
            PolicyCode.REVOCATION_UNKNOWN,
            "the regional and zonal certificates were not checked against CRLs",
        )


def age(case: NitroRuleInput) -> Iterator[Finding]:
    """(b) How long ago the document was made."""
    limit = case.rule.document_max_age_s
    if not 0 <= case.claims.age_ms <= limit * 1000:
        yield finding(
            PolicyCode.EVIDENCE_TOO_OLD,
            f"the document is {case.claims.age_ms / 1000:.1f} s old; at most {limit} s",
        )


def instance(case: NitroRuleInput) -> Iterator[Finding]:
    """(c) Enrolled parent instances."""
    accepted = case.rule.instances
    if accepted == "any":
        return
    name = case.claims.instance.decode("ascii", "replace")
    if not accepted:
        yield empty("platform.nitro.instances")
    elif name not in accepted:
        yield finding(
            PolicyCode.INSTANCE_NOT_ALLOWED,
            f"parent instance {shown(name)}; accepted: {listing(accepted)}",
            f"Run on an enrolled instance, or add {shown(name)} to instances after checking whose"
            " it is.",
        )


def workload(case: NitroRuleInput) -> Iterator[Finding]:
    """(d) What runs: the image, or whoever signed it. Neither is no policy."""
    rule = case.rule
    if rule.pcr0 == "any" and rule.pcr8 == "any":
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "pcr0 is open, and no listed signer of the image (pcr8) takes its place",
        )
    for index, accepted in ((0, rule.pcr0), (1, rule.pcr1), (2, rule.pcr2)):
        yield from _register(case, index, accepted, PolicyCode.MEASUREMENT_UNKNOWN)


def signer(case: NitroRuleInput) -> Iterator[Finding]:
    """(e) Whose certificate signed the image. PCR8 of an unsigned image is zero: no signer."""
    yield from _register(case, 8, case.rule.pcr8, PolicyCode.IMAGE_SIGNER_UNKNOWN)


def role(case: NitroRuleInput) -> Iterator[Finding]:
    """(f) The IAM role of the parent instance."""
    yield from _register(case, 3, case.rule.pcr3, PolicyCode.ROLE_NOT_ALLOWED)


def config(case: NitroRuleInput) -> Iterator[Finding]:
    """(g) PCR16, which holds the runtime configuration."""
    yield from _register(case, 16, case.rule.pcr16, PolicyCode.HOST_DATA_UNKNOWN)


def _register(
    case: NitroRuleInput, index: int, accepted: list[str] | str, code: PolicyCode
) -> Iterator[Finding]:
    if accepted == "any":
        return
    value = case.claims.pcrs.get(index, b"")
    if not accepted:
        yield empty(f"platform.nitro.pcr{index}")
    elif not any(value) or value.hex() not in accepted:
        seen = value.hex() or "not locked"
        yield finding(code, f"PCR{index} is {seen}, which is none of the {len(accepted)} accepted")


NITRO_RULES: tuple[NitroRule, ...] = (
    revocation,
    age,
    instance,
    workload,
    signer,
    role,
    config,
)
