"""What each vendor's services have for one piece of evidence, by file name. All of it is verified
before it is returned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from regalia.host.fetch import VendorService
    from regalia.tees.intel.fetch import Pcs
    from regalia.tees.snp.evidence.wire import Product, SnpReport
    from regalia.tees.snp.fetch import Kds
    from regalia.verifier.anchors import TrustAnchors
    from regalia.wire.evidence import DeviceEvidence, Evidence


@dataclass(frozen=True, slots=True)
class Trust:
    """What answers are verified against."""

    anchors: TrustAnchors
    now: datetime


def fetch_snp(evidence: Evidence, kds: Kds, trust: Trust) -> dict[str, bytes]:
    """The chain of one report's key. The report's own signature proves that it is the right one.

    Args:
        evidence: raw, untrusted; says which chip.
        kds: AMD's service.
        trust: what the answer must verify under.

    Raises:
        AttestationError: ROOT_UNTRUSTED or COLLATERAL_MISSING; or AMD did not sign the answer.
    """
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.codes import AttestCode
    from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
    from regalia.appraisal.pki import Cache
    from regalia.tees.snp.evidence import verify_genuine
    from regalia.tees.snp.evidence.wire import (
        CHIP_ID_SIZE,
        TURIN_CHIP_ID_SIZE,
        EndorsementKeyKind,
        Product,
        decode_tcb,
        parse_report,
    )
    from regalia.verifier.collateral import parse_collateral

    if trust.anchors.snp is None:
        raise AttestationError(AttestCode.ROOT_UNTRUSTED, "no root of AMD's is trusted")
    report = parse_report(evidence.report)
    product = _product(report, evidence)
    vlek = report.signing_key == EndorsementKeyKind.VLEK
    kind = "vlek" if vlek else "vcek"
    files = {
        f"amd-{product}-{kind}-chain.pem": kds.chain(product, kind),
        f"amd-{product}-{kind}.crl": kds.crl(product, kind),
    }
    if not vlek:  # a VLEK is handed out by the cloud, and comes with the evidence
        size = TURIN_CHIP_ID_SIZE if product is Product.TURIN else CHIP_ID_SIZE
        hwid, tcb = report.chip_id[:size], decode_tcb(report.reported_tcb, product)
        name = f"amd-{product}-vcek-{hwid[:8].hex()}-{report.reported_tcb.hex()}.der"
        files[name] = kds.vcek(product, hwid, tcb)
        evidence = replace(evidence, endorsements=())
    found = parse_collateral(files)
    rule = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
    verify_genuine(
        evidence,
        anchors=trust.anchors.snp,
        collateral=found.snp(evidence.report),
        at=AppraisalContext(now=trust.now, rule=rule, cache=Cache()),
    )
    return files


def _product(report: SnpReport, evidence: Evidence) -> Product:
    """The product line, as the report tells it or, before version 3, a certificate beside it.

    Raises:
        AttestationError: COLLATERAL_MISSING, nothing tells it.
    """
    from regalia.appraisal.codes import AttestCode
    from regalia.appraisal.pki import parse_certificate
    from regalia.tees.snp.evidence.products import product_of_cpuid
    from regalia.tees.snp.evidence.wire import CPUID_SINCE_VERSION
    from regalia.verifier.collateral.items import snp_leaf

    if report.version >= CPUID_SINCE_VERSION:
        return product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)
    for der in evidence.endorsements:
        found = snp_leaf(parse_certificate(der, what="endorsement"))
        if found is not None:
            return found[1]
    raise AttestationError(
        AttestCode.COLLATERAL_MISSING,
        f"a report of version {report.version} does not tell its product line, and no certificate "
        "beside it does",
    )


def fetch_intel(
    evidence: Evidence, pcs: Pcs, certificates: VendorService, trust: Trust
) -> dict[str, bytes]:
    """Intel's documents and lists for the platform of one quote.

    Args:
        evidence: raw, untrusted; says which platform.
        pcs: Intel's service, or a cache of it.
        certificates: Intel's service for root certificates and lists.
        trust: what the answers must verify under.

    Raises:
        UnavailableError: a service does not answer.
        ParseError, AttestationError: what it answered is not signed by Intel, or out of date.
    """
    from regalia.appraisal.codes import AttestCode
    from regalia.appraisal.pki import Cache
    from regalia.tees.intel.evidence.verified_collateral import prepare
    from regalia.tees.intel.fetch import root_crl
    from regalia.verifier.collateral import parse_collateral, sort_files
    from regalia.verifier.collateral.dates import dates_of
    from regalia.verifier.collateral.needs import intel_platform
    from regalia.wire.evidence import Tee

    if trust.anchors.intel is None:
        raise AttestationError(AttestCode.ROOT_UNTRUSTED, "no root of Intel's is trusted")
    platform = intel_platform(evidence)
    kind = "sgx" if evidence.tee is Tee.SGX else "tdx"
    authority = "processor" if "Processor" in platform.authority else "platform"
    info, identity = pcs.tcb_info(kind, platform.fmspc), pcs.identity(kind)
    crl = pcs.pck_crl(authority)
    files = {
        f"intel-{kind}-tcb-{platform.fmspc.hex()}.json": info.body,
        f"intel-{kind}-qe-identity.json": identity.body,
        "intel-tcb-signing.pem": info.chain,
        "intel-qe-identity-signing.pem": identity.chain,
        f"intel-pck-{authority}.crl": crl.body,
        f"intel-pck-{authority}-ca.pem": crl.chain,
        "intel-root.crl": root_crl(certificates),
    }
    prepare(parse_collateral(files).intel, anchors=trust.anchors.intel, cache=Cache())
    stale = [item for item in sort_files(files) if dates_of(item, trust.now).is_stale]
    if stale:
        names = ", ".join(f"{item.kind} {item.name}" for item in stale)
        raise AttestationError(
            AttestCode.COLLATERAL_STALE, f"served out of date at {rfc3339(trust.now)}: {names}"
        )
    return files


def fetch_rims(
    devices: Iterable[DeviceEvidence], service: VendorService, trust: Trust
) -> dict[str, bytes]:
    """Reference values of the devices' firmware: NVIDIA's XML is verified, and ours is kept.

    Args:
        devices: raw, untrusted; say which firmware.
        service: NVIDIA's.
        trust: what the answers must verify under.

    Raises:
        UsageError: the extra that reads NVIDIA's XML is not installed.
        UnavailableError: the service does not answer.
        ParseError, AttestationError: what it answered is not signed by NVIDIA.
    """
    from regalia.cli.collateral.input import ingest_xml
    from regalia.tees.nvidia.fetch import fetch_rim
    from regalia.verifier.collateral.needs import device_rims

    wanted = dict.fromkeys(name for device in devices for name in device_rims(device))
    return {
        f"{name}.json": ingest_xml(fetch_rim(service, name), rim_id=name, now=trust.now)
        for name in wanted
    }
