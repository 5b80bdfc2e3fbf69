"""Rules about a TDX or SGX platform: one function for each, in the order of appraisal.

Numbers in the docstrings are the checks of docs/spec/policy.md, section "Order of evaluation".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.claims import Revocation
from regalia.appraisal.finding import empty, finding, listing
from regalia.appraisal.policy_codes import PolicyCode
from regalia.core.bits import bit
from regalia.tees.intel.names import SgxAttributeBit, TcbStatus, TdAttributeBit
from regalia.tees.intel.policy.section import SGX_PATH, TDX_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.appraisal.finding import Finding
    from regalia.tees.intel.claims import IntelClaims, SgxClaims, TdxClaims
    from regalia.tees.intel.policy.section import IntelSection, Sgx, Tdx

_OUT_OF_DATE = (
    TcbStatus.OUT_OF_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
)
# Words of the policy, and the attribute that each may deny.
_SWITCHED_ATTRIBUTES = (
    ("perfmon", TdAttributeBit.PERFMON),
    ("pks", TdAttributeBit.PKS),
    ("kl", TdAttributeBit.KL),
    ("lass", TdAttributeBit.LASS),
    ("icssd", TdAttributeBit.ICSSD),
    ("tpa", TdAttributeBit.TPA),
)
_PLATFORM_FLAGS = ("dynamic_platform", "cached_keys", "smt")


@dataclass(frozen=True, slots=True)
class IntelRuleInput:
    """What the rules look at that TDX and SGX share."""

    rule: IntelSection
    claims: IntelClaims
    path: str


@dataclass(frozen=True, slots=True)
class TdxRuleInput:
    """What the rules of TDX look at."""

    rule: Tdx
    claims: TdxClaims


@dataclass(frozen=True, slots=True)
class SgxRuleInput:
    """What the rules of SGX look at."""

    rule: Sgx
    claims: SgxClaims


def tdx_findings(rule: Tdx, claims: TdxClaims) -> Iterator[Finding]:
    """All findings about a TD and its platform, in the order of the rules."""
    for common in INTEL_RULES:
        yield from common(IntelRuleInput(rule, claims, TDX_PATH))
    for each in TDX_RULES:
        yield from each(TdxRuleInput(rule, claims))


def sgx_findings(rule: Sgx, claims: SgxClaims) -> Iterator[Finding]:
    """All findings about an enclave and its platform, in the order of the rules."""
    for common in INTEL_RULES:
        yield from common(IntelRuleInput(rule, claims, SGX_PATH))
    for each in SGX_RULES:
        yield from each(SgxRuleInput(rule, claims))


def quote_version(case: IntelRuleInput) -> Iterator[Finding]:
    """(6) The quote's version."""
    want = case.rule.quote_version_minimum
    if case.claims.quote_version < want:
        yield finding(
            PolicyCode.REPORT_VERSION_TOO_OLD,
            f"quote version {case.claims.quote_version}; at least {want}",
            "Let the platform's quoting service issue quotes of that version.",
        )


def revocation(case: IntelRuleInput) -> Iterator[Finding]:
    """(8) Whether CRLs were checked."""
    if case.rule.revocation != "any" and case.claims.revocation is Revocation.UNKNOWN:
        yield finding(
            PolicyCode.REVOCATION_UNKNOWN, "the certificates were not checked against CRLs"
        )


def machine(case: IntelRuleInput) -> Iterator[Finding]:
    """(9) Enrolled platforms, by PPID."""
    accepted = case.rule.ppids
    if accepted == "any":
        return
    ppid = case.claims.ppid.hex()
    if not accepted:
        yield empty(f"{case.path}.ppids")
    elif ppid not in accepted:
        yield finding(
            PolicyCode.INSTANCE_NOT_ALLOWED,
            f"PPID {ppid} is not among {len(accepted)} enrolled",
            f"Run on an enrolled machine, or add {ppid} to ppids after checking where it stands.",
        )


def platform_flags(case: IntelRuleInput) -> Iterator[Finding]:
    """(14) What the platform was certified with. Certificates of single-package platforms do not
    say; only ``allow`` accepts what is not known.
    """
    for name in _PLATFORM_FLAGS:
        have: bool | None = getattr(case.claims, name)
        if getattr(case.rule, name) != "allow" and have is not False:
            state = "on" if have else "not stated in the platform's certificate"
            yield finding(PolicyCode.PLATFORM_FLAG_MISSING, f"{name} is {state}")


def tcb_status(case: IntelRuleInput) -> Iterator[Finding]:
    """(10) Intel's word on the platform's security versions, accepted by an explicit list: with
    the TDX module that launched the TD, and with the one that runs now.
    """
    accepted = case.rule.tcb_statuses
    if not accepted:
        yield empty(f"{case.path}.tcb_statuses")
        return
    for status in dict.fromkeys((case.claims.tcb_status, case.claims.current_tcb_status)):
        if status.value in accepted:
            continue
        code = (
            PolicyCode.TCB_OUT_OF_DATE if status in _OUT_OF_DATE else PolicyCode.TCB_STATUS_DENIED
        )
        yield finding(
            code,
            f"TCB status {status.value} (level of {case.claims.tcb_date}); "
            f"accepted: {listing(accepted)}",
        )


def advisories(case: IntelRuleInput) -> Iterator[Finding]:
    """(10) Security advisories that apply to the platform's level."""
    for name in case.rule.advisories_denied:
        if name in case.claims.advisory_ids:
            yield finding(PolicyCode.ADVISORY_DENIED, f"{name} applies to this platform")


def evaluation(case: IntelRuleInput) -> Iterator[Finding]:
    """(10) The floor for collateral: an old one calls levels good that are known to be weak."""
    want = case.rule.tcb_evaluation_data_number_minimum
    have = case.claims.tcb_evaluation_data_number
    if have < want:
        yield finding(
            PolicyCode.TCB_EVALUATION_TOO_OLD,
            f"collateral of TCB evaluation data number {have}; at least {want}",
        )


def td_attributes(case: TdxRuleInput) -> Iterator[Finding]:
    """(4) TDATTRIBUTES, without those that checks 2 and 3 refuse."""
    want, have = case.rule.attributes, case.claims.td_attributes
    wrong = [
        f"{index.name} is set (bit {index.value})"
        for name, index in _SWITCHED_ATTRIBUTES
        if getattr(want, name) != "allow" and bit(have, index)
    ]
    if want.sept_ve_disable != "any" and not bit(have, TdAttributeBit.SEPT_VE_DISABLE):
        wrong.insert(0, "SEPT_VE_DISABLE is not set (bit 28)")
    for each in wrong:
        yield finding(
            PolicyCode.POLICY_BIT,
            f"TDATTRIBUTES {have:#x}: {each}",
            "Start the TD with the attributes that the policy names.",
        )


def xfam(case: TdxRuleInput) -> Iterator[Finding]:
    """(4) Extended features that the TD may use."""
    have = case.claims.xfam.to_bytes(8, "little")
    yield from _listed(case.rule.xfam, have, f"{TDX_PATH}.xfam", PolicyCode.POLICY_BIT)


def service_td(case: TdxRuleInput) -> Iterator[Finding]:
    """(4) Service TDs are bound to the TD and may act on it."""
    have = case.claims.mr_service_td
    if case.rule.service_td != "allow" and have is not None and any(have):
        yield finding(PolicyCode.SERVICE_TD_DENIED, f"MRSERVICETD is {have.hex()}, want zero")


def tdx_module(case: TdxRuleInput) -> Iterator[Finding]:
    """(11) The TDX module itself, beyond what Intel's identity of it says."""
    for name in ("mr_seam", "mr_signer_seam"):
        yield from _listed(
            getattr(case.rule, name),
            getattr(case.claims, name),
            f"{TDX_PATH}.{name}",
            PolicyCode.TDX_MODULE_DENIED,
        )


def td_workload(case: TdxRuleInput) -> Iterator[Finding]:
    """(16) What runs: firmware in MRTD, kernel and what it starts in RTMR1 and RTMR2."""
    rtmrs = case.rule.rtmrs
    if "any" in (case.rule.mrtd, rtmrs.rtmr1, rtmrs.rtmr2):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "mrtd, rtmr1 or rtmr2 is open: firmware alone does not say which kernel it starts",
            "List the accepted values of mrtd, rtmr1 and rtmr2.",
        )
    unknown = PolicyCode.MEASUREMENT_UNKNOWN
    yield from _listed(case.rule.mrtd, case.claims.mr_td, f"{TDX_PATH}.mrtd", unknown)
    for number, have in enumerate(case.claims.rtmrs):
        name = f"rtmr{number}"
        yield from _listed(getattr(rtmrs, name), have, f"{TDX_PATH}.rtmrs.{name}", unknown)


def td_owner(case: TdxRuleInput) -> Iterator[Finding]:
    """(16) MROWNER and MROWNERCONFIG, which the host sets at launch."""
    for name in ("mr_owner", "mr_owner_config"):
        yield from _listed(
            getattr(case.rule, name),
            getattr(case.claims, name),
            f"{TDX_PATH}.{name}",
            PolicyCode.TD_OWNER_UNKNOWN,
        )


def event_log(case: TdxRuleInput) -> Iterator[Finding]:
    """(16) Whether a log that leads to the RTMRs came along, without events of unknown type."""
    if case.rule.event_log == "any":
        return
    log = case.claims.event_log
    if log is None:
        yield finding(PolicyCode.EVENT_LOG_INSUFFICIENT, "no event log came along")
    elif log.unknown:
        yield finding(
            PolicyCode.EVENT_LOG_INSUFFICIENT, f"{log.unknown} events are of unknown type"
        )


def td_config(case: TdxRuleInput) -> Iterator[Finding]:
    """(17) MRCONFIGID, the digest of the runtime configuration."""
    yield from _listed(
        case.rule.mr_config_id,
        case.claims.mr_config_id,
        f"{TDX_PATH}.mr_config_id",
        PolicyCode.HOST_DATA_UNKNOWN,
    )


def enclave_attributes(case: SgxRuleInput) -> Iterator[Finding]:
    """(4) ATTRIBUTES and XFRM, without the debug bit that check 2 refuses."""
    have = case.claims.attributes
    if case.rule.provision_key != "allow" and bit(have, SgxAttributeBit.PROVISIONKEY):
        yield finding(
            PolicyCode.POLICY_BIT,
            f"ATTRIBUTES {have:#x}: PROVISIONKEY is set (bit 4)",
            "Sign and start the enclave without the provisioning attribute.",
        )
    xfrm = case.claims.xfrm.to_bytes(8, "little")
    yield from _listed(case.rule.xfrm, xfrm, f"{SGX_PATH}.xfrm", PolicyCode.POLICY_BIT)


def enclave_workload(case: SgxRuleInput) -> Iterator[Finding]:
    """(16) What runs: MRENCLAVE, or a product of a signer from some security version on."""
    rule, claims = case.rule, case.claims
    if rule.mrenclaves == "any" and "any" in (rule.mrsigners, rule.isv_prod_ids):
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "mrenclaves is open, and mrsigners and isv_prod_ids do not both take its place",
            "List the accepted values of mrenclaves, or of mrsigners and isv_prod_ids.",
        )
    yield from _listed(
        rule.mrenclaves,
        claims.mr_enclave,
        f"{SGX_PATH}.mrenclaves",
        PolicyCode.MEASUREMENT_UNKNOWN,
    )
    yield from _listed(
        rule.mrsigners, claims.mr_signer, f"{SGX_PATH}.mrsigners", PolicyCode.ID_KEY_UNKNOWN
    )


def enclave_product(case: SgxRuleInput) -> Iterator[Finding]:
    """(16) ISVPRODID and the security versions that the signer gave the enclave."""
    accepted, claims = case.rule.isv_prod_ids, case.claims
    denied = PolicyCode.ENCLAVE_VERSION_DENIED
    if accepted != "any" and not accepted:
        yield empty(f"{SGX_PATH}.isv_prod_ids")
    elif accepted != "any" and claims.isv_prod_id not in accepted:
        names = ", ".join(str(number) for number in accepted)
        yield finding(denied, f"ISVPRODID {claims.isv_prod_id}; accepted: {names}")
    for name, have, least in (
        ("ISVSVN", claims.isv_svn, case.rule.isv_svn_minimum),
        ("CONFIGSVN", claims.config_svn, case.rule.config_svn_minimum),
    ):
        if have < least:
            yield finding(denied, f"{name} {have} is below {least}")


def enclave_config(case: SgxRuleInput) -> Iterator[Finding]:
    """(17) CONFIGID, the digest of the runtime configuration."""
    yield from _listed(
        case.rule.config_ids,
        case.claims.config_id,
        f"{SGX_PATH}.config_ids",
        PolicyCode.HOST_DATA_UNKNOWN,
    )


def _listed(
    accepted: list[str] | str, have: bytes, path: str, code: PolicyCode
) -> Iterator[Finding]:
    if accepted == "any":
        return
    if not accepted:
        yield empty(path)
    elif have.hex() not in accepted:
        name = path.rpartition(".")[2]
        yield finding(code, f"{have.hex()} is not among the {len(accepted)} accepted of {name}")


INTEL_RULES: tuple[Callable[[IntelRuleInput], Iterator[Finding]], ...] = (
    quote_version,
    revocation,
    machine,
    tcb_status,
    advisories,
    evaluation,
    platform_flags,
)
TDX_RULES: tuple[Callable[[TdxRuleInput], Iterator[Finding]], ...] = (
    td_attributes,
    xfam,
    service_td,
    tdx_module,
    td_workload,
    td_owner,
    event_log,
    td_config,
)
SGX_RULES: tuple[Callable[[SgxRuleInput], Iterator[Finding]], ...] = (
    enclave_attributes,
    enclave_workload,
    enclave_product,
    enclave_config,
)
