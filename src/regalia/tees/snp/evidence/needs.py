"""What collateral an SEV-SNP report needs, and which of it is at hand. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.collateral import Need, provided
from regalia.appraisal.pki import issuer_names, parse_certificate
from regalia.tees.snp.evidence.leaf import leaf_of
from regalia.tees.snp.evidence.products import intermediate_name, product_of_cpuid, root_name
from regalia.tees.snp.evidence.vendor import collateral_of
from regalia.tees.snp.evidence.wire import CPUID_SINCE_VERSION, EndorsementKeyKind
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.appraisal.pki import Certificate
    from regalia.tees.snp.evidence.wire import Product, SnpReport
    from regalia.wire.evidence import Evidence


def needs(parsed: Parsed[Evidence, SnpReport], have: GivenCollateral) -> Iterator[Need]:
    """Leaf, intermediate, root and list.

    Args:
        parsed: untrusted.
        have: what the verifier's operator provides, by kind.

    Raises:
        ParseError: a certificate is malformed.
        AttestationError: ROOT_UNTRUSTED, no root is pinned for such a CPU.
    """
    report = parsed.report
    signing_key = (
        EndorsementKeyKind.VLEK
        if report.signing_key == EndorsementKeyKind.VLEK
        else EndorsementKeyKind.VCEK
    )
    given = collateral_of(have).for_report(report).intermediates
    came = [parse_certificate(der, what="endorsement") for der in parsed.raw.endorsements]
    pool = [parse_certificate(der, what="collateral") for der in given]
    places = (("evidence", came), ("collateral", pool))
    leaf, product = _leaf(report, signing_key, places)
    yield Need(CollateralKind.CERTIFICATE, _leaf_text(report, signing_key), leaf)
    if product is None:
        return
    for name in (intermediate_name(product, signing_key), root_name(product)):
        found = [where for where, pool in places if any(c.common_name == name for c in pool)]
        yield Need(CollateralKind.CERTIFICATE, name, found[0] if found else "")
    lists = any(root_name(product) in issuer_names(der) for der in have.crls)
    yield provided(CollateralKind.CRL, f"list of {root_name(product)}", have=lists)


def _leaf(
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
            found = leaf_of(certificate)
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
