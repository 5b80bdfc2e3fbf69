"""What can be wrong with a simulated Intel platform, one field for each defect."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

Level = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
    "below",
]
IsvLevel = Literal["UpToDate", "OutOfDate", "Revoked", "below"]

# Security versions that reach each level of the simulated collateral.
PLATFORM_SVN: Mapping[str, int] = MappingProxyType(
    {name: 9 - index for index, name in enumerate(get_args(Level))}
)
ISV_SVN: Mapping[str, int] = MappingProxyType(
    {"UpToDate": 8, "OutOfDate": 6, "Revoked": 4, "below": 3}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelDefects:
    """A platform's state. The default is a healthy platform; each field is one defect or choice.

    Plain booleans, integers and words, so that they can stand in a configuration file.
    """

    # The workload, as launched.
    debug: bool = False
    profiling: bool = False  # TDX: PERF_PROF, another bit of TUD
    migratable: bool = False  # TDX
    sept_ve_disable: bool = True  # TDX
    perfmon: bool = False  # TDX, like the next three
    pks: bool = False
    kl: bool = False
    lass: bool = False
    xfam: int = 0x61AE7  # TDX; also XFRM of the enclave
    service_td: bool = False  # TDX 1.5
    wrong_measurement: bool = False
    wrong_config: bool = False
    wrong_event_log: bool = False

    # The quote.
    version: int = 5  # TDX: 4 or 5; SGX: 3 or 5
    body_type: int = 3  # of a TD in version 5: 2, 3 or 4
    trailing_zeros: int = 0
    stale_nonce: bool = False
    zero_report_data: bool = False

    # The platform.
    level: Level = "UpToDate"
    low_pce_svn: bool = False
    low_tdx_svn: bool = False
    module: IsvLevel = "UpToDate"
    module_updated: bool = False  # since the launch, to one that is up to date; TDX 1.5
    module_version: int = 1  # 0: the module that tdxModule describes; 1 and 3 are listed
    module_signer: bool = True  # False: MRSIGNERSEAM is somebody's
    module_attributes: int = 0
    qe: IsvLevel = "UpToDate"
    qe_debug: bool = False
    qe_signer: bool = True  # False: MRSIGNER is somebody's
    qe_prod_id: int = -1  # -1: the right one
    qe_misc_select: int = 0
    processor_ca: bool = False  # a single-package platform

    # Forgeries and accidents. They are signed by the right key unless they are about signing.
    attributes_reserved: bool = False
    xfam_reserved: bool = False
    qe_attributes_reserved: bool = False
    not_initialized: bool = False  # SGX: INIT is zero
    qe_report_data_tail: bool = False  # the zeros behind the digest are none
    other_attestation_key: bool = False  # the quote is signed with a key the QE does not name
    bad_signature: bool = False
    bad_qe_signature: bool = False
    trailing_byte: bool = False
    truncated: bool = False
    key_type: int = 2
    vendor: bool = True
    certification_type: int = 5
    pck_expired: bool = False
    other_fmspc: bool = False  # the PCK is for another kind of platform than the TCB info
    other_pce_id: bool = False


HEALTHY = IntelDefects()
