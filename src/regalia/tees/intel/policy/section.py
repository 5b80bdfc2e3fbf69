"""The TDX and SGX sections of a policy. Spec: docs/spec/policy.md, section 2.8.

Bytes are lower-case hex in the order of the quote. In lists of accepted register values nothing is
implied: a register that must be zero is written as zeros.
"""

from __future__ import annotations

from typing import Literal

from regalia.appraisal.policy_doc import Count, Doc, Unrestricted

Switch = Literal["allow", "deny"]


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
