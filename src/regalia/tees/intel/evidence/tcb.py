"""TCB levels: which one a platform, its TDX module and its quoting enclave reach.

Intel PCS API version 4, "Get TCB Info", and the evaluation in Intel's quote verification library
(4.1.2.5): a level is reached when no component is below it; the first of the list that is reached
counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import ge
from typing import TYPE_CHECKING

from regalia.core.errors import AttestationError
from regalia.tees.intel.evidence.codes import IntelCode
from regalia.tees.intel.names import TcbStatus

if TYPE_CHECKING:
    from regalia.tees.intel.evidence.bodies import TdReport
    from regalia.tees.intel.evidence.documents import IsvLevel, ModuleIdentity, TcbInfo, TcbLevel
    from regalia.tees.intel.evidence.pck import PckFacts

_MODULE_SVN, _MODULE_VERSION = 0, 1  # bytes of TEE_TCB_SVN
_SVNS_OF_MODULE = 2  # components at its start that the module's identity judges instead

_UP_TO_DATE = (TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED)
_CONFIGURATION = (
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
)
_CONFIGURATION_NEEDED = (*_CONFIGURATION, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED)
_OUT_OF_DATE = (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a platform stands, by Intel's word, under one TDX module.

    Attributes:
        status: of platform, module and quoting enclave together.
        module: None for SGX, and for TDX modules of version 0.
        advisories: of all three, sorted.
    """

    status: TcbStatus
    platform: TcbLevel
    module: IsvLevel | None
    qe: IsvLevel
    advisories: tuple[str, ...]


def standing(
    info: TcbInfo, facts: PckFacts, td: TdReport | None, qe: IsvLevel
) -> tuple[Standing, TcbStatus]:
    """Match the platform, and put the statuses together.

    Args:
        info: verified, for this platform.
        facts: what the verified PCK certificate says of the platform.
        td: body of the verified quote; None for SGX.
        qe: level of the quoting enclave.

    Returns:
        How it stands under the TDX module that launched the TD, and the status under the one
        that runs now (TEE_TCB_SVN_2). Without a second one the two are the same.

    Raises:
        AttestationError: TCB_NO_MATCH, TDX_MODULE_MISMATCH or TCB_REVOKED, for either.
    """
    launch = _evaluate(info, facts, None if td is None else td.tee_tcb_svn, qe)
    if td is None or td.later is None or td.later.tee_tcb_svn_2 == td.tee_tcb_svn:
        return launch, launch.status
    return launch, _evaluate(info, facts, td.later.tee_tcb_svn_2, qe).status


def relaunch(launch: TcbStatus, now: TcbStatus) -> TcbStatus:
    """A TD launched under an old module that has been updated since need only be launched again.

    Args:
        launch: status under the TDX module that launched the TD.
        now: status under the TDX module that runs now.
    """
    if launch not in _OUT_OF_DATE or now not in (*_UP_TO_DATE, *_CONFIGURATION):
        return launch
    if launch in _CONFIGURATION_NEEDED or now in _CONFIGURATION_NEEDED:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def require_module(info: TcbInfo, td: TdReport) -> None:
    """The TDX module that launched the TD is one that Intel lists and signed.

    Args:
        info: verified, for this platform.
        td: body of the verified quote.

    Raises:
        AttestationError: TDX_MODULE_MISMATCH.
    """
    version = td.tee_tcb_svn[_MODULE_VERSION]
    identity = _module_identity(info, version) if version else info.module
    if identity is None:
        raise _module_mismatch("the TCB info has no tdxModule")
    if td.mr_signer_seam != identity.mr_signer:
        raise _module_mismatch(
            f"MRSIGNERSEAM is {td.mr_signer_seam.hex()}, want {identity.mr_signer.hex()}"
        )
    seen = int.from_bytes(td.seam_attributes, "little")
    mask = int.from_bytes(identity.attributes_mask, "little")
    # A production module has none, whatever the mask leaves open.
    if seen or seen & mask != int.from_bytes(identity.attributes, "little"):
        raise _module_mismatch(f"SEAMATTRIBUTES is {td.seam_attributes.hex()}, want zero")


def isv_level(levels: tuple[IsvLevel, ...], svn: int, *, what: str) -> IsvLevel:
    """The first level that ``svn`` is not below. Raises AttestationError TCB_NO_MATCH.

    Args:
        levels: of a verified document, best first.
        svn: security version number of the enclave or module.
        what: names the value in the error.
    """
    for level in levels:
        if svn >= level.isv_svn:
            return level
    raise AttestationError(
        IntelCode.TCB_NO_MATCH, f"{what} has the security version {svn}, below every listed one"
    )


def _evaluate(info: TcbInfo, facts: PckFacts, tee_tcb_svn: bytes | None, qe: IsvLevel) -> Standing:
    platform = _platform_level(info, facts, tee_tcb_svn)
    module = None
    if tee_tcb_svn is not None and tee_tcb_svn[_MODULE_VERSION]:
        identity = _module_identity(info, tee_tcb_svn[_MODULE_VERSION])
        svn = tee_tcb_svn[_MODULE_SVN]
        module = isv_level(identity.levels, svn, what=f"the TDX module {identity.name}")
    parts = (platform, qe) if module is None else (platform, module, qe)
    statuses = [part.status for part in parts]
    if TcbStatus.REVOKED in statuses:
        raise AttestationError(
            IntelCode.TCB_REVOKED,
            f"the level of {platform.date} is {platform.status}, the quoting enclave "
            f"{qe.status}, the TDX module {'not listed' if module is None else module.status}",
        )
    advisories = {advisory for part in parts for advisory in part.advisories}
    status = _converge(platform.status, statuses[1:])
    return Standing(status, platform, module, qe, tuple(sorted(advisories)))


def _platform_level(info: TcbInfo, facts: PckFacts, tee_tcb_svn: bytes | None) -> TcbLevel:
    """The first level that no component of the platform is below."""
    tdx = () if tee_tcb_svn is None else tuple(tee_tcb_svn)
    skip = _SVNS_OF_MODULE if tdx and tdx[_MODULE_VERSION] else 0
    for level in info.levels:
        if (
            facts.pce_svn >= level.pce_svn
            and _reaches(facts.svns, level.sgx_svns)
            and _reaches(tdx[skip:], level.tdx_svns[skip:])
        ):
            return level
    raise AttestationError(
        IntelCode.TCB_NO_MATCH,
        f"CPUSVN {facts.cpu_svn.hex()}, PCESVN {facts.pce_svn}"
        + (f", TEE_TCB_SVN {tee_tcb_svn.hex()}" if tee_tcb_svn is not None else "")
        + f" is below all {len(info.levels)} levels of the TCB info for {info.fmspc.hex()}",
    )


def _module_identity(info: TcbInfo, version: int) -> ModuleIdentity:
    name = f"TDX_{version:02X}"
    for identity in info.module_identities:
        if identity.name == name:
            return identity
    known = ", ".join(identity.name for identity in info.module_identities)
    raise _module_mismatch(f"the TD runs on a {name}, the TCB info lists {known or 'none'}")


def _reaches(svns: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(svns) == len(wanted) and all(map(ge, svns, wanted))


def _converge(platform: TcbStatus, others: list[TcbStatus]) -> TcbStatus:
    """What a platform's status becomes when its module or quoting enclave is out of date."""
    if TcbStatus.OUT_OF_DATE not in others:
        return platform
    if platform in _UP_TO_DATE:
        return TcbStatus.OUT_OF_DATE
    return TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED if platform in _CONFIGURATION else platform


def _module_mismatch(what: str) -> AttestationError:
    return AttestationError(IntelCode.TDX_MODULE_MISMATCH, what)
