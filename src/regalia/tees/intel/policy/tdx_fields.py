"""The fields of the TDX section, in the order of its struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import allow_or_deny, not_among, one_of, required_or_any
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_words import hex_entry
from regalia.core.bits import bit
from regalia.tees.intel.names import TdAttributeBit
from regalia.tees.intel.policy.fields import intel_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.appraisal.field_kinds import Pinned, Switch
    from regalia.appraisal.policy_doc import Unrestricted
    from regalia.appraisal.policy_field import Field, PinChoices
    from regalia.tees.intel.claims import TdxClaims


def _register(  # noqa: PLR0913 - all are named
    name: str,
    *,
    have: Callable[[TdxClaims], bytes],
    code: PolicyCode,
    noun: str,
    risk: str,
    content: str,
    unrestricted: str = "",
    pinned: Pinned = "always",
    pin: Callable[[TdxClaims, PinChoices], list[str] | Unrestricted] | None = None,
) -> Field[TdxClaims, Any]:
    """A register of 48 bytes that must hold an accepted value."""
    return one_of(
        name,
        entry=hex_entry(48),
        have=lambda claims: have(claims).hex(),
        code=code,
        what=not_among(f"of {name.rpartition('.')[2]}"),
        content=content,
        noun=noun,
        unrestricted=unrestricted or f"Any {noun} are accepted.",
        risk=risk,
        pinned=pinned,
        pin=pin,
    )


def _rtmr(
    number: int,
    noun: str,
    pin: Callable[[TdxClaims, PinChoices], list[str] | Unrestricted] | None = None,
) -> Field[TdxClaims, Any]:
    return _register(
        f"rtmrs.rtmr{number}",
        have=lambda claims: claims.rtmrs[number],
        code=PolicyCode.MEASUREMENT_UNKNOWN,
        noun=f"values of RTMR{number} ({noun})",
        unrestricted=f"Any value of RTMR{number} is accepted.",
        risk=f"{noun} may be anybody's.",
        content=noun,
        pin=pin,
    )


def _pin_rtmr3(claims: TdxClaims, _: PinChoices) -> list[str] | Unrestricted:
    """It grows while the TD runs, so only zeros are pinned."""
    return "any" if any(claims.rtmr3) else [claims.rtmr3.hex()]


_ATTRIBUTES_FIX = "Start the TD with the attributes that the policy names."


def _attribute(index: TdAttributeBit, text: str) -> Field[TdxClaims, Switch]:
    return allow_or_deny(
        f"attributes.{index.name.lower()}",
        absent=lambda claims: not bit(claims.td_attributes, index),
        code=PolicyCode.POLICY_BIT,
        what=lambda claims: (
            f"TDATTRIBUTES {claims.td_attributes:#x}: {index.name} is set (bit {index.value})"
        ),
        fix=_ATTRIBUTES_FIX,
        allowed=f"The TD may {text}.",
        denied=f"The TD must not {text}.",
        content=f"bit {index.value} of TDATTRIBUTES",
    )


def _service_td(claims: TdxClaims) -> bytes:
    return claims.mr_service_td or b""


def _event_log_missing(claims: TdxClaims) -> str:
    if claims.event_log is None:
        return "no event log came along"
    return f"{claims.event_log.unknown} events are of unknown type"


REGISTERS: tuple[Field[TdxClaims, Any], ...] = (
    _register(
        "mrtd",
        have=lambda claims: claims.mr_td,
        code=PolicyCode.MEASUREMENT_UNKNOWN,
        noun="TD measurements (MRTD)",
        risk="other firmware than yours may start, with any kernel.",
        content="MRTD: the TD's firmware",
    ),
    _rtmr(0, "firmware configuration"),
    _rtmr(1, "boot loader and kernel"),
    _rtmr(2, "command line and initrd"),
    _rtmr(3, "what runs after the boot", _pin_rtmr3),
    _register(
        "mr_config_id",
        have=lambda claims: claims.mr_config_id,
        code=PolicyCode.HOST_DATA_UNKNOWN,
        noun="runtime configurations of TDs (SHA-384)",
        unrestricted="Any runtime configuration of a TD is accepted that meets the rules below.",
        risk="the operator may change placement and egress as far as the other rules let them.",
        content="MRCONFIGID: SHA-384 of accepted runtime configurations",
        pinned="config",
    ),
    _register(
        "mr_owner",
        have=lambda claims: claims.mr_owner,
        code=PolicyCode.TD_OWNER_UNKNOWN,
        noun="TD owners (MROWNER)",
        risk="whoever launched the TD is not checked.",
        content="MROWNER",
    ),
    _register(
        "mr_owner_config",
        have=lambda claims: claims.mr_owner_config,
        code=PolicyCode.TD_OWNER_UNKNOWN,
        noun="owner configurations (MROWNERCONFIG)",
        risk="what the TD's owner configured is not checked.",
        content="MROWNERCONFIG",
    ),
    _register(
        "mr_seam",
        have=lambda claims: claims.mr_seam,
        code=PolicyCode.TDX_MODULE_DENIED,
        noun="TDX modules (MRSEAM)",
        risk="any module that Intel lists is accepted, as far as the statuses let it.",
        content="MRSEAM: the TDX module, beyond what Intel's own list says",
        pinned="never",
    ),
    _register(
        "mr_signer_seam",
        have=lambda claims: claims.mr_signer_seam,
        code=PolicyCode.TDX_MODULE_DENIED,
        noun="TDX module signers (MRSIGNERSEAM)",
        risk="the signer is held against Intel's own list only.",
        content="MRSIGNERSEAM, likewise",
    ),
)

ATTRIBUTES: tuple[Field[TdxClaims, Any], ...] = (
    required_or_any(
        "attributes.sept_ve_disable",
        met=lambda claims: bit(claims.td_attributes, TdAttributeBit.SEPT_VE_DISABLE),
        code=PolicyCode.POLICY_BIT,
        what=lambda claims: (
            f"TDATTRIBUTES {claims.td_attributes:#x}: SEPT_VE_DISABLE is not set (bit 28)"
        ),
        fix=_ATTRIBUTES_FIX,
        required="SEPT_VE_DISABLE must be set.",
        unrestricted="SEPT_VE_DISABLE may be clear.",
        risk="the host can inject exceptions into the TD by taking memory away.",
        content="bit 28 of TDATTRIBUTES",
        baseline=lambda _: "required",
    ),
    _attribute(TdAttributeBit.PERFMON, "use performance counters (PERFMON)"),
    _attribute(TdAttributeBit.PKS, "use supervisor protection keys (PKS)"),
    _attribute(TdAttributeBit.KL, "use Key Locker (KL)"),
    _attribute(TdAttributeBit.LASS, "use linear address space separation (LASS)"),
    _attribute(TdAttributeBit.ICSSD, "have ICSSD set"),
    _attribute(TdAttributeBit.TPA, "be a TDX provisioning agent (TPA)"),
)

TDX_FIELDS: tuple[Field[TdxClaims, Any], ...] = (
    *intel_fields("TDs"),
    *REGISTERS,
    one_of(
        "xfam",
        entry=hex_entry(8),
        have=lambda claims: claims.xfam.to_bytes(8, "little").hex(),
        code=PolicyCode.POLICY_BIT,
        what=not_among("of xfam"),
        noun="sets of extended features (XFAM)",
        unrestricted="Any set of extended features is accepted.",
        risk="features with side channels of their own may be on.",
        content="extended features that the TD may use",
    ),
    *ATTRIBUTES,
    allow_or_deny(
        "service_td",
        absent=lambda claims: not any(_service_td(claims)),
        code=PolicyCode.SERVICE_TD_DENIED,
        what=lambda claims: f"MRSERVICETD is {_service_td(claims).hex()}, want zero",
        allowed="Service TDs may be bound to the TD.",
        denied="No service TD may be bound to the TD.",
        content="whether MRSERVICETD may be other than zero. Bodies of TDX 1.0 do not have it",
        baseline=lambda _: "deny",
    ),
    required_or_any(
        "event_log",
        met=lambda claims: claims.event_log is not None and not claims.event_log.unknown,
        code=PolicyCode.EVENT_LOG_INSUFFICIENT,
        what=_event_log_missing,
        required="An event log must come along that leads to the RTMRs.",
        unrestricted="No event log is demanded.",
        risk="register values that you did not compute yourself say nothing.",
        content="a log came along that leads to RTMR0 to RTMR3, without events of unknown type",
    ),
)
