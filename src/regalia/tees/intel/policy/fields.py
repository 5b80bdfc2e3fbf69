"""Fields that the TDX and the SGX section have in common: the platform, and collateral about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from regalia.appraisal.claims import Revocation
from regalia.appraisal.explanation import accepted
from regalia.appraisal.field_kinds import allow_or_deny, minimum, one_of, revocation_known
from regalia.appraisal.finding import empty, finding, in_full, listing
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field
from regalia.appraisal.policy_words import WORD_MAX, bad, each, hex_entry
from regalia.tees.intel.names import TcbStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regalia.appraisal.field_kinds import Switch
    from regalia.appraisal.finding import Finding
    from regalia.tees.intel.claims import IntelClaims

# Statuses that a policy may accept. Revoked is refused by the verifier, and by no word accepted.
ACCEPTABLE_STATUSES = tuple(s.value for s in TcbStatus if s is not TcbStatus.REVOKED)
# Statuses for which Intel knows of no update that the platform lacks.
NOT_OUT_OF_DATE = (
    TcbStatus.UP_TO_DATE.value,
    TcbStatus.SW_HARDENING_NEEDED.value,
    TcbStatus.CONFIGURATION_NEEDED.value,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED.value,
)
_OUT_OF_DATE = (
    TcbStatus.OUT_OF_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.TD_RELAUNCH_ADVISED,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
)
_ADVISORY = re.compile(r"INTEL-SA-[0-9]{5}")


def _status(value: str, path: str) -> None:
    if value not in ACCEPTABLE_STATUSES:
        known = ", ".join(ACCEPTABLE_STATUSES)
        raise bad(path, f"{value[:WORD_MAX]!r} is no status to accept; known are {known}")


def _advisory(value: str, path: str) -> None:
    if _ADVISORY.fullmatch(value) is None:
        raise bad(path, f"{value[:WORD_MAX]!r} is not written like INTEL-SA-00615")


def _statuses(values: Sequence[str], claims: IntelClaims, path: str) -> Iterator[Finding]:
    """Intel's word on the platform's security versions: with the TDX module that launched the TD,
    and with the one that runs now.
    """
    if not values:
        yield empty(path)
        return
    for status in dict.fromkeys((claims.tcb_status, claims.current_tcb_status)):
        if status.value in values:
            continue
        code = (
            PolicyCode.TCB_OUT_OF_DATE if status in _OUT_OF_DATE else PolicyCode.TCB_STATUS_DENIED
        )
        yield finding(
            code,
            f"TCB status {status.value} (level of {claims.tcb_date}); accepted: {listing(values)}",
        )


def _advisories(values: Sequence[str], claims: IntelClaims, _: str) -> Iterator[Finding]:
    for name in values:
        if name in claims.advisory_ids:
            yield finding(PolicyCode.ADVISORY_DENIED, f"{name} applies to this platform")


def _flag(
    name: str, have: Callable[[IntelClaims], bool | None], content: str, allowed: str, denied: str
) -> Field[IntelClaims, Switch]:
    """What the platform was certified with. Certificates of single-package platforms do not say;
    only ``allow`` accepts what is not known.
    """

    def what(claims: IntelClaims) -> str:
        state = "on" if have(claims) else "not stated in the platform's certificate"
        return f"{name} is {state}"

    return allow_or_deny(
        name,
        absent=lambda claims: have(claims) is False,
        code=PolicyCode.PLATFORM_FLAG_MISSING,
        what=what,
        allowed=allowed,
        denied=denied,
        content=content,
    )


def intel_fields(noun: str) -> tuple[Field[IntelClaims, Any], ...]:
    """The fields in the words of one section: ``TDs`` or ``enclaves``."""
    return (
        Field(
            name="tcb_statuses",
            type="list of words",
            content="accepted statuses, of platform, TDX module and quoting enclave together:"
            f" {', '.join(ACCEPTABLE_STATUSES)}. Revoked is refused by the verifier, and no word"
            " accepts it",
            required=accepted(f"TCB statuses of {noun}"),
            check=lambda values, path: each(values, path, _status),
            pin=lambda claims, _: sorted(
                {"UpToDate", claims.tcb_status.value, claims.current_tcb_status.value}
            ),
            # Intel itself lists what is wrong with platforms that are out of date.
            baseline=lambda _: list(NOT_OUT_OF_DATE),
            compare=_statuses,
        ),
        Field(
            name="advisories_denied",
            type="list of `INTEL-SA-` and five digits",
            content="refused if one applies, whatever the status. `[]` denies none, and counts as"
            " left open",
            required=lambda values: f"No platform may be subject to: {in_full(values)}.",
            unrestricted=f"No security advisory denies {noun} by itself.",
            risk="the statuses alone decide which known weaknesses are accepted.",
            open_value=[],
            check=lambda values, path: each(values, path, _advisory),
            pin=lambda _claims, _choices: [],
            baseline=lambda _: [],
            compare=_advisories,
        ),
        minimum(
            "tcb_evaluation_data_number_minimum",
            have=lambda claims: claims.tcb_evaluation_data_number,
            code=PolicyCode.TCB_EVALUATION_TOO_OLD,
            what=lambda have, least: (
                f"collateral of TCB evaluation data number {have}; at least {least}"
            ),
            required=f"Collateral about {noun} must have TCB evaluation data number {{}} or more.",
            content="of TCB info and QE identity. 0 demands nothing, and counts as left open",
            unrestricted=f"Collateral about {noun} of any TCB evaluation is accepted.",
            risk="collateral from before a weakness was published calls the platform healthy.",
        ),
        minimum(
            "quote_version_minimum",
            have=lambda claims: claims.quote_version,
            code=PolicyCode.REPORT_VERSION_TOO_OLD,
            what=lambda have, least: f"quote version {have}; at least {least}",
            required=f"Quotes of {noun} must be of version {{}} or later.",
            content="3 for SGX; 5 where TDX 1.5 fields such as MRSERVICETD must be there",
            fix="Let the platform's quoting service issue quotes of that version.",
        ),
        one_of(
            "ppids",
            entry=hex_entry(16),
            have=lambda claims: claims.ppid.hex(),
            code=PolicyCode.INSTANCE_NOT_ALLOWED,
            what=lambda have, values, _: f"PPID {have} is not among {len(values)} enrolled",
            fix=lambda have: (
                f"Run on an enrolled machine, or add {have} to ppids after checking where it"
                " stands."
            ),
            content="platforms, by their certificates' PPID",
            noun=f"platforms of {noun} (PPID)",
            unrestricted=f"Any platform of {noun} is accepted.",
            risk="a genuine platform in an attacker's hands, with an interposer on its bus,"
            " passes.",
            pinned="machine",
        ),
        _flag(
            "dynamic_platform",
            lambda claims: claims.dynamic_platform,
            "packages may be added without certifying the platform again. Certificates of"
            " single-package platforms do not say, which only `allow` accepts; likewise below",
            f"The platform of {noun} may be one that takes further packages.",
            f"The platform of {noun} must not be one that takes further packages.",
        ),
        _flag(
            "cached_keys",
            lambda claims: claims.cached_keys,
            "platform keys are stored with Intel's registration service",
            f"Keys of the platform of {noun} may be kept by Intel's registration service.",
            f"Keys of the platform of {noun} must not be kept by Intel's registration service.",
        ),
        _flag(
            "smt",
            lambda claims: claims.smt,
            "the platform runs with SMT",
            f"The platform of {noun} may run with SMT; another thread may share a core.",
            f"The platform of {noun} must run without SMT.",
        ),
        revocation_known(
            what="the certificates were not checked against CRLs",
            about=f" for {noun}",
            risk="a key that Intel has revoked after a leak still passes.",
            # Late collateral of Intel's still comes with CRLs, which were checked.
            pin=lambda claims, _: "any" if claims.revocation is Revocation.UNKNOWN else "required",
        ),
    )
