"""AMD's key distribution service (AMD 57230, VCEK and VLEK certificates and KDS interface)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache, parse_certificate
from regalia.core.errors import AttestationError
from regalia.tees.snp.evidence import parse, verify_genuine
from regalia.tees.snp.evidence.leaf import leaf_of
from regalia.tees.snp.evidence.online import KDS
from regalia.tees.snp.evidence.products import product_of_cpuid
from regalia.tees.snp.evidence.vendor import collateral_of
from regalia.tees.snp.evidence.wire import (
    CHIP_ID_SIZE,
    CPUID_SINCE_VERSION,
    TURIN_CHIP_ID_SIZE,
    EndorsementKeyKind,
    Product,
    decode_tcb,
    parse_report,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.online_collateral import FetchContext
    from regalia.host.fetch import VendorService
    from regalia.tees.snp.claims import Tcb
    from regalia.tees.snp.evidence import SnpAnchors
    from regalia.tees.snp.evidence.wire import SnpReport
    from regalia.wire.evidence import Evidence

_SPL = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}


class Kds:
    """One instance of the service, AMD's or a mirror. Everything that it answers is untrusted."""

    def __init__(self, service: VendorService) -> None:
        self._service = service

    def vcek(self, product: Product, hwid: bytes, tcb: Tcb) -> bytes:
        """The VCEK of one chip at one TCB, DER. Raises UnavailableError.

        Args:
            product: product line of the chip.
            hwid: of the chip, 64 bytes, or 8 on Turin.
            tcb: that the key was derived with.
        """
        components = tcb.components()
        spls = dict(_SPL) if product is not Product.TURIN else {"fmc": "fmcSPL", **_SPL}
        params = {name: f"{components[component]:02}" for component, name in spls.items()}
        return self._service.get(f"/vcek/v1/{product}/{hwid.hex()}", params).body

    def chain(self, product: Product, kind: str) -> bytes:
        """ASK or ASVK, then ARK, PEM. Raises UnavailableError.

        Args:
            product: product line of the chips.
            kind: ``vcek`` or ``vlek``.
        """
        return self._service.get(f"/{kind}/v1/{product}/cert_chain").body

    def crl(self, product: Product, kind: str) -> bytes:
        """The ARK's revocation list, DER. Raises UnavailableError.

        Args:
            product: product line of the chips.
            kind: ``vcek`` or ``vlek``.
        """
        return self._service.get(f"/{kind}/v1/{product}/crl").body


def fetch(every: Sequence[Evidence], at: FetchContext[SnpAnchors]) -> dict[str, bytes]:
    """The chain of each report's key. The report's own signature proves that it is the right one.

    Args:
        every: evidence, raw, untrusted; says which chip.
        at: whom to ask, and what the answer must verify under.

    Raises:
        UsageError: no address is given.
        UnavailableError: the service does not answer.
        ParseError: an answer is malformed.
        AttestationError: ROOT_UNTRUSTED or COLLATERAL_MISSING; or AMD did not sign the answer.
    """
    kds = Kds(at.ask(KDS))
    if at.anchors is None:
        raise AttestationError(AttestCode.ROOT_UNTRUSTED, "no root of AMD's is trusted")
    files: dict[str, bytes] = {}
    for evidence in every:
        found = _chain_of(evidence, kds)
        _require_genuine(evidence, found, at.anchors, at)
        files |= found
    return files


def _chain_of(evidence: Evidence, kds: Kds) -> dict[str, bytes]:
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
    return files


def _require_genuine(
    evidence: Evidence, files: dict[str, bytes], anchors: SnpAnchors, at: FetchContext[SnpAnchors]
) -> None:
    """Verify the report with what was fetched, and not with what came beside the evidence."""
    if parse_report(evidence.report).signing_key != EndorsementKeyKind.VLEK:
        evidence = replace(evidence, endorsements=())
    rule = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
    verify_genuine(
        parse(evidence),
        anchors=anchors,
        collateral=collateral_of(at.read(files)),
        at=AppraisalContext(now=at.now, rule=rule, cache=Cache()),
    )


def _product(report: SnpReport, evidence: Evidence) -> Product:
    """The product line, as the report tells it or, before version 3, a certificate beside it.

    Raises:
        AttestationError: COLLATERAL_MISSING, nothing tells it.
    """
    if report.version >= CPUID_SINCE_VERSION:
        return product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)
    for der in evidence.endorsements:
        found = leaf_of(parse_certificate(der, what="endorsement"))
        if found is not None:
            return found[1]
    raise AttestationError(
        AttestCode.COLLATERAL_MISSING,
        f"a report of version {report.version} does not tell its product line, and no certificate "
        "beside it does",
    )
