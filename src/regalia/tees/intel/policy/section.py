"""The TDX and SGX sections of a policy. Spec: docs/spec/policy.md, section 2.8.

Bytes are lower-case hex in the order of the quote. In lists of accepted register values nothing is
implied: a register that must be zero is written as zeros.
"""

from __future__ import annotations

import re
from typing import Literal

from regalia.appraisal.policy_doc import Count, Doc, Unrestricted
from regalia.appraisal.policy_words import WORD_MAX, any_number, bad, each, hex_bytes
from regalia.tees.intel.names import TcbStatus

TDX_PATH = "platform.tdx"
SGX_PATH = "platform.sgx"
# Statuses that a policy may accept. Revoked is refused by the verifier, and by no word accepted.
ACCEPTABLE_STATUSES = tuple(s.value for s in TcbStatus if s is not TcbStatus.REVOKED)
# Statuses for which Intel knows of no update that the platform lacks.
NOT_OUT_OF_DATE = (
    TcbStatus.UP_TO_DATE.value,
    TcbStatus.SW_HARDENING_NEEDED.value,
    TcbStatus.CONFIGURATION_NEEDED.value,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED.value,
)

Switch = Literal["allow", "deny"]
_ADVISORY = re.compile(r"INTEL-SA-[0-9]{5}")


class IntelSection(Doc, frozen=True, kw_only=True):
    """What TDX and SGX have in common: the platform below, and collateral about it."""

    tcb_statuses: list[str]
    advisories_denied: list[str]  # INTEL-SA-...; a platform that one applies to is refused
    tcb_evaluation_data_number_minimum: Count  # of TCB info and QE identity
    quote_version_minimum: Count
    ppids: list[str] | Unrestricted  # 16 bytes each
    dynamic_platform: Switch  # packages may be added without certifying the platform again
    cached_keys: Switch  # platform keys are stored with Intel's registration service
    smt: Switch
    revocation: Literal["required", "any"]


class Rtmrs(Doc, frozen=True, kw_only=True):
    """Run-time measurement registers, 48 bytes each."""

    rtmr0: list[str] | Unrestricted
    rtmr1: list[str] | Unrestricted
    rtmr2: list[str] | Unrestricted
    rtmr3: list[str] | Unrestricted


class TdAttributes(Doc, frozen=True, kw_only=True):
    """TDATTRIBUTES. The group TUD and MIGRATABLE have no words here: they are always refused."""

    sept_ve_disable: Literal["required", "any"]
    perfmon: Switch
    pks: Switch
    kl: Switch
    lass: Switch
    icssd: Switch
    tpa: Switch


class Tdx(IntelSection, frozen=True, kw_only=True):
    """What a TD and its platform must be. A list of accepted values that is empty denies."""

    mrtd: list[str] | Unrestricted  # 48 bytes each, like all that begin with mr
    rtmrs: Rtmrs
    mr_config_id: list[str] | Unrestricted  # SHA-384 of the accepted runtime configurations
    mr_owner: list[str] | Unrestricted
    mr_owner_config: list[str] | Unrestricted
    mr_seam: list[str] | Unrestricted
    mr_signer_seam: list[str] | Unrestricted
    xfam: list[str] | Unrestricted  # 8 bytes each
    attributes: TdAttributes
    service_td: Switch  # MRSERVICETD; bodies of TDX 1.0 do not have it
    event_log: Literal["required", "any"]


class Sgx(IntelSection, frozen=True, kw_only=True):
    """What an enclave and its platform must be. A list of accepted values that is empty denies."""

    mrenclaves: list[str] | Unrestricted  # 32 bytes each
    mrsigners: list[str] | Unrestricted  # 32 bytes each
    isv_prod_ids: list[Count] | Unrestricted
    isv_svn_minimum: Count
    config_ids: (
        list[str] | Unrestricted
    )  # 64 bytes each; SHA-512 of the accepted runtime configurations
    config_svn_minimum: Count
    xfrm: list[str] | Unrestricted  # 8 bytes each
    provision_key: Switch  # the enclave may derive keys that name the platform


def check_tdx(tdx: Tdx, path: str = TDX_PATH) -> None:
    """Raise ParseError MALFORMED at the first rule that the section breaks."""
    _check_common(tdx, path)
    for name in ("mrtd", "mr_config_id", "mr_owner", "mr_owner_config", "mr_seam"):
        each(getattr(tdx, name), f"{path}.{name}", hex_bytes(48))
    each(tdx.mr_signer_seam, f"{path}.mr_signer_seam", hex_bytes(48))
    for name in Rtmrs.__struct_fields__:
        each(getattr(tdx.rtmrs, name), f"{path}.rtmrs.{name}", hex_bytes(48))
    each(tdx.xfam, f"{path}.xfam", hex_bytes(8))


def check_sgx(sgx: Sgx, path: str = SGX_PATH) -> None:
    """Raise ParseError MALFORMED at the first rule that the section breaks."""
    _check_common(sgx, path)
    each(sgx.mrenclaves, f"{path}.mrenclaves", hex_bytes(32))
    each(sgx.mrsigners, f"{path}.mrsigners", hex_bytes(32))
    each(sgx.isv_prod_ids, f"{path}.isv_prod_ids", any_number)
    each(sgx.config_ids, f"{path}.config_ids", hex_bytes(64))
    each(sgx.xfrm, f"{path}.xfrm", hex_bytes(8))


def _check_common(section: IntelSection, path: str) -> None:
    each(section.tcb_statuses, f"{path}.tcb_statuses", _status)
    each(section.advisories_denied, f"{path}.advisories_denied", _advisory)
    each(section.ppids, f"{path}.ppids", hex_bytes(16))


def _status(value: str, path: str) -> None:
    if value not in ACCEPTABLE_STATUSES:
        known = ", ".join(ACCEPTABLE_STATUSES)
        raise bad(path, f"{value[:WORD_MAX]!r} is no status to accept; known are {known}")


def _advisory(value: str, path: str) -> None:
    if _ADVISORY.fullmatch(value) is None:
        raise bad(path, f"{value[:WORD_MAX]!r} is not written like INTEL-SA-00615")
