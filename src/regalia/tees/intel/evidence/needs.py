"""What collateral a TDX or SGX quote needs, and which of it is at hand. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraisal.collateral import provided
from regalia.appraisal.pki import issuer_names, parse_certificate, parse_pem_certificates
from regalia.tees.intel.evidence.anchors import ROOT_NAME
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.chain import CHAIN_SIZE, TCB_SIGNING_NAME
from regalia.tees.intel.evidence.documents import (
    EnclaveId,
    TcbInfoId,
    parse_identity,
    parse_tcb_info,
)
from regalia.tees.intel.evidence.pck import read_pck
from regalia.tees.intel.evidence.vendor import collateral_of
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral, Need
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.intel.evidence.wire import QuoteParts
    from regalia.wire.evidence import Evidence


@dataclass(frozen=True, slots=True)
class IntelPlatform:
    """Which collateral a quote needs, by its own untrusted word."""

    fmspc: bytes  # 6
    authority: str  # common name of the PCK CA


def intel_platform(pck_chain: bytes) -> IntelPlatform:
    """Read the PCK certificate of a quote.

    Args:
        pck_chain: PEM, as it stands in the quote.

    Raises:
        ParseError: the chain is malformed.
        AttestationError: LEAF_BINDING_MISMATCH, the certificate names no platform.
    """
    chain = parse_pem_certificates(pck_chain, count_max=CHAIN_SIZE, what="PCK chain")
    leaf = parse_certificate(chain[0], what="PCK certificate")
    return IntelPlatform(read_pck(leaf).fmspc, leaf.issuer_common_name)


def needs(parsed: Parsed[Evidence, QuoteParts], have: GivenCollateral) -> Iterator[Need]:
    """Documents of the platform and of its quoting enclave, their signers, and lists.

    Raises:
        ParseError, AttestationError: as ``intel_platform``.
    """
    platform = intel_platform(parsed.report.read().pck_chain)
    tdx = isinstance(parsed.report.body, TdReport)
    kind = TcbInfoId.TDX if tdx else TcbInfoId.SGX
    enclave = EnclaveId.TD_QE if tdx else EnclaveId.QE
    given = collateral_of(have)
    infos = [parse_tcb_info(each.body) for each in given.tcb_infos]
    identities = [parse_identity(each.body) for each in given.identities]
    names = {parse_certificate(c, what="collateral").common_name for c in have.certificates}
    lists = {name for der in have.crls for name in issuer_names(der)}
    info = any((i.id, i.fmspc) == (kind, platform.fmspc) for i in infos)
    identity = any(each.id is enclave for each in identities)
    yield provided(CollateralKind.TCB_INFO, f"{kind} {platform.fmspc.hex()}", have=info)
    yield provided(CollateralKind.QE_IDENTITY, enclave.value, have=identity)
    for name in (TCB_SIGNING_NAME, ROOT_NAME):
        yield provided(CollateralKind.CERTIFICATE, name, have=name in names)
    for name in (platform.authority, ROOT_NAME):
        yield provided(CollateralKind.CRL, f"list of {name}", have=name in lists)
