"""What collateral one piece of evidence needs, and which of it is at hand. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.x509.oid import NameOID

from regalia.appraisal.pki import parse_certificate, parse_crl, parse_pem_certificates
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.intel.evidence.anchors import ROOT_NAME
from regalia.tees.intel.evidence.chain import CHAIN_SIZE, TCB_SIGNING_NAME
from regalia.tees.intel.evidence.documents import (
    EnclaveId,
    TcbInfoId,
    parse_identity,
    parse_tcb_info,
)
from regalia.tees.intel.evidence.pck import read_pck
from regalia.tees.intel.evidence.wire import parse_quote
from regalia.tees.nvidia.evidence.models import MODELS, wanted_rims
from regalia.tees.nvidia.evidence.rims import parse_rim
from regalia.tees.nvidia.evidence.spdm import parse_report as parse_spdm
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.tees.snp.evidence.products import intermediate_name, product_of_cpuid, root_name
from regalia.tees.snp.evidence.wire import CPUID_SINCE_VERSION, EndorsementKeyKind, parse_report
from regalia.verifier.collateral.items import snp_leaf
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import DeviceKind, Tee

if TYPE_CHECKING:
    from regalia.appraisal.pki import Certificate
    from regalia.tees.snp.evidence.wire import Product, SnpReport
    from regalia.verifier.collateral.collection import CollateralSet
    from regalia.wire.evidence import DeviceEvidence, Evidence


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a verifier will look for.

    Attributes:
        what: for people, with the chip, TCB or product that it must be for.
        where: ``evidence`` or ``collateral``; empty if it is missing.
    """

    kind: CollateralKind
    what: str
    where: str


def needs_of(evidence: Evidence, collateral: CollateralSet) -> tuple[Need, ...]:
    """What appraising ``evidence`` takes, its devices included.

    Args:
        evidence: raw, untrusted: it may ask for what does not exist.
        collateral: what is at hand.

    Raises:
        ParseError: the evidence is malformed, or of a TEE whose needs are not known here.
        AttestationError: ROOT_UNTRUSTED, no root is pinned for such a CPU; or as ``read_pck``.
    """
    match evidence.tee:
        case Tee.SEV_SNP:
            needs = _snp(evidence, collateral)
        case Tee.TDX | Tee.SGX:
            needs = _intel(evidence, collateral)
        case Tee.NITRO:
            needs = ()  # the document carries its chain, and the root is pinned
        case _:
            raise ParseError(
                CoreCode.MALFORMED, f"what {evidence.tee} evidence needs is not known here"
            )
    return needs + tuple(need for d in evidence.devices for need in _nvidia(d, collateral))


def _snp(evidence: Evidence, collateral: CollateralSet) -> tuple[Need, ...]:
    report = parse_report(evidence.report)
    signing_key = (
        EndorsementKeyKind.VLEK
        if report.signing_key == EndorsementKeyKind.VLEK
        else EndorsementKeyKind.VCEK
    )
    came = [parse_certificate(der, what="endorsement") for der in evidence.endorsements]
    have = [
        parse_certificate(der, what="collateral")
        for der in collateral.snp.for_report(report).intermediates
    ]
    places = (("evidence", came), ("collateral", have))
    leaf, product = _snp_leaf(report, signing_key, places)
    needs = [Need(CollateralKind.CERTIFICATE, _leaf_text(report, signing_key), leaf)]
    if product is None:
        return tuple(needs)
    for name in (intermediate_name(product, signing_key), root_name(product)):
        found = [where for where, pool in places if any(c.common_name == name for c in pool)]
        needs.append(Need(CollateralKind.CERTIFICATE, name, found[0] if found else ""))
    lists = any(root_name(product) in _issuer_names(der) for der in collateral.crls)
    needs.append(
        Need(CollateralKind.CRL, f"list of {root_name(product)}", "collateral" if lists else "")
    )
    return tuple(needs)


def _snp_leaf(
    report: SnpReport,
    signing_key: EndorsementKeyKind,
    places: tuple[tuple[str, list[Certificate]], ...],
) -> tuple[str, Product | None]:
    """Where the leaf for this chip and TCB is, and the product line, if anything tells it."""
    told = (
        product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)
        if report.version >= CPUID_SINCE_VERSION
        else None
    )
    for where, pool in places:
        for certificate in pool:
            found = snp_leaf(certificate)
            if found is None or found[0] is not signing_key:
                continue
            _, product, facts = found
            if facts.tcb == report.reported_tcb and report.chip_id.startswith(facts.hwid or b""):
                return where, told or product
    return "", told


def _leaf_text(report: SnpReport, signing_key: EndorsementKeyKind) -> str:
    chip = (
        "" if signing_key is EndorsementKeyKind.VLEK else f" for chip {report.chip_id[:8].hex()}..."
    )
    return f"{signing_key.name}{chip} at TCB {report.reported_tcb.hex()}"


def _intel(evidence: Evidence, collateral: CollateralSet) -> tuple[Need, ...]:
    platform = intel_platform(evidence)
    wanted = (TcbInfoId.TDX, EnclaveId.TD_QE)
    if evidence.tee is Tee.SGX:
        wanted = (TcbInfoId.SGX, EnclaveId.QE)
    infos = [parse_tcb_info(each.body) for each in collateral.tcb_infos]
    identities = [parse_identity(each.body) for each in collateral.qe_identities]
    names = {parse_certificate(c, what="collateral").common_name for c in collateral.certificates}
    lists = {name for der in collateral.crls for name in _issuer_names(der)}
    have = any((i.id, i.fmspc) == (wanted[0], platform.fmspc) for i in infos)
    return (
        _need(CollateralKind.TCB_INFO, f"{wanted[0]} {platform.fmspc.hex()}", have=have),
        _need(
            CollateralKind.QE_IDENTITY,
            wanted[1].value,
            have=any(each.id is wanted[1] for each in identities),
        ),
        *(
            _need(CollateralKind.CERTIFICATE, name, have=name in names)
            for name in (TCB_SIGNING_NAME, ROOT_NAME)
        ),
        *(
            _need(CollateralKind.CRL, f"list of {name}", have=name in lists)
            for name in (platform.authority, ROOT_NAME)
        ),
    )


@dataclass(frozen=True, slots=True)
class IntelPlatform:
    """Which collateral a quote needs, by its own untrusted word."""

    fmspc: bytes  # 6
    authority: str  # common name of the PCK CA


def intel_platform(evidence: Evidence) -> IntelPlatform:
    """Read the PCK certificate in a quote.

    Raises:
        ParseError: the quote or its PCK chain is malformed.
        AttestationError: LEAF_BINDING_MISMATCH, the certificate names no platform.
    """
    chain = parse_pem_certificates(
        parse_quote(evidence.report).qe.pck_chain, count_max=CHAIN_SIZE, what="PCK chain"
    )
    leaf = parse_certificate(chain[0], what="PCK certificate")
    return IntelPlatform(read_pck(leaf).fmspc, leaf.issuer_common_name)


def _nvidia(device: DeviceEvidence, collateral: CollateralSet) -> tuple[Need, ...]:
    have = {parse_rim(data).id for data in collateral.rims}
    return tuple(_need(CollateralKind.RIM, name, have=name in have) for name in device_rims(device))


def device_rims(device: DeviceEvidence) -> tuple[str, ...]:
    """Identifiers of the reference values that a device's report calls for; untrusted.

    Raises:
        ParseError: the report is malformed, or of a model that is not known.
    """
    switch = device.kind is DeviceKind.NVIDIA_SWITCH
    opaque = decode_opaque(parse_spdm(device.report), switch=switch)
    names = [parse_certificate(d, what="endorsement").common_name for d in device.endorsements]
    for model in MODELS.values():
        if model.kind is device.kind and any(model.name in name for name in names):
            return tuple(name for _, name, _ in wanted_rims(model, opaque))
    raise ParseError(CoreCode.MALFORMED, f"a {device.kind} of a model that is not known here")


def _need(kind: CollateralKind, what: str, *, have: bool) -> Need:
    return Need(kind, what, "collateral" if have else "")


def _issuer_names(der: bytes) -> list[str]:
    names = parse_crl(der).revoked.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [str(name.value) for name in names]
