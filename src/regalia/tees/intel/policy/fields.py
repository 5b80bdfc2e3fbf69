"""The fields of the TDX and the SGX section, in the order of their structs."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from regalia.appraisal.claims import Revocation
from regalia.appraisal.field_kinds import (
    CONFIG_RISK,
    NUMBERS,
    Demand,
    Minimum,
    OneOf,
    Switch,
    any_config,
    revocation_known,
    seen,
)
from regalia.appraisal.finding import empty, finding, in_full, listing
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_field import Field, accepted
from regalia.appraisal.policy_words import WORD_MAX, bad, each, hex_entry, numbers
from regalia.core.bits import bit
from regalia.tees.intel.claims import IntelClaims, SgxClaims, TdxClaims
from regalia.tees.intel.names import SgxAttributeBit, TcbStatus, TdAttributeBit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.appraisal.policy_field import PinChoices

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
    name: str, have: Callable[[IntelClaims], bool | None], content: str, denied: str, allowed: str
) -> Field[IntelClaims, Any]:
    """What the platform was certified with. Certificates of single-package platforms do not say;
    only ``allow`` accepts what is not known.
    """

    def what(claims: IntelClaims) -> str:
        state = "on" if have(claims) else "not stated in the platform's certificate"
        return f"{name} is {state}"

    return Switch[IntelClaims](
        name, lambda claims: have(claims) is False, PolicyCode.PLATFORM_FLAG_MISSING
    ).words(content, what, denied, allowed)


_minimum = Minimum[IntelClaims]


def _platform(noun: str) -> tuple[Field[IntelClaims, Any], ...]:
    """The fields of both sections, in the words of one: ``TDs`` or ``enclaves``."""
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
        _minimum(
            "tcb_evaluation_data_number_minimum",
            lambda it: it.tcb_evaluation_data_number,
            PolicyCode.TCB_EVALUATION_TOO_OLD,
        ).words(
            "of TCB info and QE identity. 0 demands nothing, and counts as left open",
            f"Collateral about {noun} must have TCB evaluation data number {{}} or more.",
            "collateral of TCB evaluation data number {}; at least {}",
            unrestricted=f"Collateral about {noun} of any TCB evaluation is accepted.",
            risk="collateral from before a weakness was published calls the platform healthy.",
        ),
        _minimum(
            "quote_version_minimum",
            lambda it: it.quote_version,
            PolicyCode.REPORT_VERSION_TOO_OLD,
        ).words(
            "3 for SGX; 5 where TDX 1.5 fields such as MRSERVICETD must be there",
            f"Quotes of {noun} must be of version {{}} or later.",
            "quote version {}; at least {}",
            fix="Let the platform's quoting service issue quotes of that version.",
        ),
        OneOf[IntelClaims]
        .machines(
            "ppids",
            hex_entry(16),
            lambda it: it.ppid.hex(),
            lambda have, values, _: f"PPID {have} is not among {len(values)} enrolled",
        )
        .words(
            "platforms, by their certificates' PPID",
            f"platforms of {noun} (PPID)",
            f"Any platform of {noun} is accepted.",
            "a genuine platform in an attacker's hands, with an interposer on its bus, passes.",
        ),
        _flag(
            "dynamic_platform",
            lambda it: it.dynamic_platform,
            "packages may be added without certifying the platform again. Certificates of"
            " single-package platforms do not say, which only `allow` accepts; likewise below",
            f"The platform of {noun} must not be one that takes further packages.",
            f"The platform of {noun} may be one that takes further packages.",
        ),
        _flag(
            "cached_keys",
            lambda it: it.cached_keys,
            "platform keys are stored with Intel's registration service",
            f"Keys of the platform of {noun} must not be kept by Intel's registration service.",
            f"Keys of the platform of {noun} may be kept by Intel's registration service.",
        ),
        _flag(
            "smt",
            lambda it: it.smt,
            "the platform runs with SMT",
            f"The platform of {noun} must run without SMT.",
            f"The platform of {noun} may run with SMT; another thread may share a core.",
        ),
        revocation_known(
            "the certificates were not checked against CRLs",
            "a key that Intel has revoked after a leak still passes.",
            about=f" for {noun}",
            # Late collateral of Intel's still comes with CRLs, which were checked.
            pin=lambda claims, _: "any" if claims.revocation is Revocation.UNKNOWN else "required",
        ),
    )


# -- TDX ------------------------------------------------------------------------------------------

_register = partial(OneOf[TdxClaims].digests, size=48, noun="of {}")
_td_demand, _td_switch = Demand[TdxClaims], Switch[TdxClaims]


def _rtmr(
    number: int, noun: str, pin: Callable[[TdxClaims, PinChoices], Any] | None = None
) -> Field[TdxClaims, Any]:
    name, code = f"rtmrs.rtmr{number}", PolicyCode.MEASUREMENT_UNKNOWN
    return _register(name, lambda td: td.rtmrs[number], code, pin=pin).words(
        noun,
        f"values of RTMR{number} ({noun})",
        f"Any value of RTMR{number} is accepted.",
        f"{noun} may be anybody's.",
    )


def _pin_rtmr3(claims: TdxClaims, _: PinChoices) -> list[str] | Unrestricted:
    """It grows while the TD runs, so only zeros are pinned."""
    return "any" if any(claims.rtmr3) else [claims.rtmr3.hex()]


_ATTRIBUTES_FIX = "Start the TD with the attributes that the policy names."


def _attribute(index: TdAttributeBit, text: str) -> Field[TdxClaims, Any]:
    return _td_switch(
        f"attributes.{index.name.lower()}",
        lambda td: not bit(td.td_attributes, index),
        PolicyCode.POLICY_BIT,
    ).words(
        f"bit {index.value} of TDATTRIBUTES",
        lambda claims: (
            f"TDATTRIBUTES {claims.td_attributes:#x}: {index.name} is set (bit {index.value})"
        ),
        f"The TD must not {text}.",
        f"The TD may {text}.",
        fix=_ATTRIBUTES_FIX,
    )


def _service_td(claims: TdxClaims) -> bytes:
    return claims.mr_service_td or b""


def _event_log_missing(claims: TdxClaims) -> str:
    if claims.event_log is None:
        return "no event log came along"
    return f"{claims.event_log.unknown} events are of unknown type"


REGISTERS: tuple[Field[TdxClaims, Any], ...] = (
    _register("mrtd", lambda td: td.mr_td, PolicyCode.MEASUREMENT_UNKNOWN).words(
        "MRTD: the TD's firmware",
        "TD measurements (MRTD)",
        risk="other firmware than yours may start, with any kernel.",
    ),
    _rtmr(0, "firmware configuration"),
    _rtmr(1, "boot loader and kernel"),
    _rtmr(2, "command line and initrd"),
    _rtmr(3, "what runs after the boot", _pin_rtmr3),
    _register(
        "mr_config_id", lambda td: td.mr_config_id, PolicyCode.HOST_DATA_UNKNOWN, pinned="config"
    ).words(
        "MRCONFIGID: SHA-384 of accepted runtime configurations",
        "runtime configurations of TDs (SHA-384)",
        any_config(" of a TD"),
        CONFIG_RISK,
    ),
    _register("mr_owner", lambda td: td.mr_owner, PolicyCode.TD_OWNER_UNKNOWN).words(
        "MROWNER", "TD owners (MROWNER)", risk="whoever launched the TD is not checked."
    ),
    _register("mr_owner_config", lambda td: td.mr_owner_config, PolicyCode.TD_OWNER_UNKNOWN).words(
        "MROWNERCONFIG",
        "owner configurations (MROWNERCONFIG)",
        risk="what the TD's owner configured is not checked.",
    ),
    _register("mr_seam", lambda td: td.mr_seam, PolicyCode.TDX_MODULE_DENIED, pinned="never").words(
        "MRSEAM: the TDX module, beyond what Intel's own list says",
        "TDX modules (MRSEAM)",
        risk="any module that Intel lists is accepted, as far as the statuses let it.",
    ),
    _register("mr_signer_seam", lambda td: td.mr_signer_seam, PolicyCode.TDX_MODULE_DENIED).words(
        "MRSIGNERSEAM, likewise",
        "TDX module signers (MRSIGNERSEAM)",
        risk="the signer is held against Intel's own list only.",
    ),
)

ATTRIBUTES: tuple[Field[TdxClaims, Any], ...] = (
    _td_demand(
        "attributes.sept_ve_disable",
        lambda td: bit(td.td_attributes, TdAttributeBit.SEPT_VE_DISABLE),
        PolicyCode.POLICY_BIT,
        baseline=lambda _: "required",
    ).words(
        "bit 28 of TDATTRIBUTES",
        lambda claims: (
            f"TDATTRIBUTES {claims.td_attributes:#x}: SEPT_VE_DISABLE is not set (bit 28)"
        ),
        "SEPT_VE_DISABLE must be set.",
        "SEPT_VE_DISABLE may be clear.",
        "the host can inject exceptions into the TD by taking memory away.",
        fix=_ATTRIBUTES_FIX,
    ),
    _attribute(TdAttributeBit.PERFMON, "use performance counters (PERFMON)"),
    _attribute(TdAttributeBit.PKS, "use supervisor protection keys (PKS)"),
    _attribute(TdAttributeBit.KL, "use Key Locker (KL)"),
    _attribute(TdAttributeBit.LASS, "use linear address space separation (LASS)"),
    _attribute(TdAttributeBit.ICSSD, "have ICSSD set"),
    _attribute(TdAttributeBit.TPA, "be a TDX provisioning agent (TPA)"),
)

TDX_FIELDS: tuple[Field[TdxClaims, Any], ...] = (
    *_platform("TDs"),
    *REGISTERS,
    _register(
        "xfam", lambda td: td.xfam.to_bytes(8, "little"), PolicyCode.POLICY_BIT, size=8
    ).words(
        "extended features that the TD may use",
        "sets of extended features (XFAM)",
        "Any set of extended features is accepted.",
        "features with side channels of their own may be on.",
    ),
    *ATTRIBUTES,
    _td_switch(
        "service_td",
        lambda td: not any(_service_td(td)),
        PolicyCode.SERVICE_TD_DENIED,
        baseline=lambda _: "deny",
    ).words(
        "whether MRSERVICETD may be other than zero. Bodies of TDX 1.0 do not have it",
        lambda claims: f"MRSERVICETD is {_service_td(claims).hex()}, want zero",
        "No service TD may be bound to the TD.",
        "Service TDs may be bound to the TD.",
    ),
    _td_demand(
        "event_log",
        lambda td: td.event_log is not None and not td.event_log.unknown,
        PolicyCode.EVENT_LOG_INSUFFICIENT,
    ).words(
        "a log came along that leads to RTMR0 to RTMR3, without events of unknown type",
        _event_log_missing,
        "An event log must come along that leads to the RTMRs.",
        "No event log is demanded.",
        "register values that you did not compute yourself say nothing.",
    ),
)


# -- SGX ------------------------------------------------------------------------------------------

_enclave_digests = partial(OneOf[SgxClaims].digests, noun="of {}")
_enclave_minimum = Minimum[SgxClaims]

SGX_FIELDS: tuple[Field[SgxClaims, Any], ...] = (
    *_platform("enclaves"),
    _enclave_digests(
        "mrenclaves", lambda it: it.mr_enclave, PolicyCode.MEASUREMENT_UNKNOWN, 32
    ).words(
        "MRENCLAVE",
        "enclave measurements (MRENCLAVE)",
        "Any enclave measurement is accepted.",
        "whatever an accepted signer signs gets the key, as far as mrsigners lets it.",
    ),
    _enclave_digests("mrsigners", lambda it: it.mr_signer, PolicyCode.ID_KEY_UNKNOWN, 32).words(
        "MRSIGNER",
        "enclave signers (MRSIGNER)",
        "Any enclave signer is accepted.",
        "who signed the enclave is not checked; the measurement alone says what runs.",
    ),
    OneOf[SgxClaims](
        "isv_prod_ids",
        numbers(NUMBERS),
        lambda it: it.isv_prod_id,
        PolicyCode.ENCLAVE_VERSION_DENIED,
        seen("ISVPRODID {}"),
    ).words(
        "ISVPRODID",
        "enclave products (ISVPRODID)",
        "Any product of an enclave's signer is accepted.",
        "another enclave of the same signer may get the key.",
    ),
    _enclave_minimum(
        "isv_svn_minimum", lambda it: it.isv_svn, PolicyCode.ENCLAVE_VERSION_DENIED
    ).words(
        "ISVSVN",
        "The enclave's security version (ISVSVN) must be at least {}.",
        "ISVSVN {} is below {}",
    ),
    _enclave_digests(
        "config_ids", lambda it: it.config_id, PolicyCode.HOST_DATA_UNKNOWN, 64, pinned="config"
    ).words(
        "CONFIGID: SHA-512 of accepted runtime configurations",
        "runtime configurations of enclaves (SHA-512)",
        any_config(" of an enclave"),
        CONFIG_RISK,
    ),
    _enclave_minimum(
        "config_svn_minimum", lambda it: it.config_svn, PolicyCode.ENCLAVE_VERSION_DENIED
    ).words(
        "CONFIGSVN",
        "The configuration's security version (CONFIGSVN) must be at least {}.",
        "CONFIGSVN {} is below {}",
    ),
    _enclave_digests(
        "xfrm", lambda it: it.xfrm.to_bytes(8, "little"), PolicyCode.POLICY_BIT, 8
    ).words(
        "extended features that the enclave may use",
        "sets of extended features (XFRM)",
        "Any set of extended features of an enclave is accepted.",
        "features with side channels of their own may be on.",
    ),
    Switch[SgxClaims](
        "provision_key",
        lambda it: not bit(it.attributes, SgxAttributeBit.PROVISIONKEY),
        PolicyCode.POLICY_BIT,
    ).words(
        "ATTRIBUTES bit 4: keys that name the platform",
        lambda claims: f"ATTRIBUTES {claims.attributes:#x}: PROVISIONKEY is set (bit 4)",
        "The enclave must not use provisioning keys, which name the platform.",
        "The enclave may use provisioning keys, which name the platform.",
        fix="Sign and start the enclave without the provisioning attribute.",
    ),
)
