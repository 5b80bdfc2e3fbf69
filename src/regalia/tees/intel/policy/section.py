"""The TDX and SGX sections of a policy. Spec: docs/spec/policy.md, section 2.8.

Bytes are lower-case hex in the order of the quote. In lists of accepted register values nothing is
implied: a register that must be zero is written as zeros.
"""

from __future__ import annotations

from regalia.appraisal.policy_doc import Count, Doc, Listed, Requirement, Switch, Unrestricted


class IntelSection(Doc, frozen=True, kw_only=True):
    """What TDX and SGX have in common: the platform below, and collateral about it."""

    tcb_statuses: list[str]
    advisories_denied: list[str]  # INTEL-SA-...; a platform that one applies to is refused
    tcb_evaluation_data_number_minimum: Count  # of TCB info and QE identity
    quote_version_minimum: Count
    ppids: Listed  # 16 bytes each
    dynamic_platform: Switch  # packages may be added without certifying the platform again
    cached_keys: Switch  # platform keys are stored with Intel's registration service
    smt: Switch
    revocation: Requirement


class Rtmrs(Doc, frozen=True, kw_only=True):
    """Run-time measurement registers, 48 bytes each."""

    rtmr0: Listed
    rtmr1: Listed
    rtmr2: Listed
    rtmr3: Listed


class TdAttributes(Doc, frozen=True, kw_only=True):
    """TDATTRIBUTES. The group TUD and MIGRATABLE have no words here: they are always refused."""

    sept_ve_disable: Requirement
    perfmon: Switch
    pks: Switch
    kl: Switch
    lass: Switch
    icssd: Switch
    tpa: Switch


class Tdx(IntelSection, frozen=True, kw_only=True):
    """What a TD and its platform must be. A list of accepted values that is empty denies."""

    mrtd: Listed  # 48 bytes each, like all that begin with mr
    rtmrs: Rtmrs
    mr_config_id: Listed  # SHA-384 of the accepted runtime configurations
    mr_owner: Listed
    mr_owner_config: Listed
    mr_seam: Listed
    mr_signer_seam: Listed
    xfam: Listed  # 8 bytes each
    attributes: TdAttributes
    service_td: Switch  # MRSERVICETD; bodies of TDX 1.0 do not have it
    event_log: Requirement


class Sgx(IntelSection, frozen=True, kw_only=True):
    """What an enclave and its platform must be. A list of accepted values that is empty denies."""

    mrenclaves: Listed  # 32 bytes each
    mrsigners: Listed  # 32 bytes each
    isv_prod_ids: list[Count] | Unrestricted
    isv_svn_minimum: Count
    config_ids: Listed  # 64 bytes each; SHA-512 of the accepted runtime configurations
    config_svn_minimum: Count
    xfrm: Listed  # 8 bytes each
    provision_key: Switch  # the enclave may derive keys that name the platform
