"""AMD: its roots, and its part of the collateral."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.collateral import LeafName
from regalia.appraisal.evidence_plugin import Vendor, ready
from regalia.appraisal.pki import parse_certificate
from regalia.core.errors import ParseError
from regalia.tees.snp.evidence.anchors import SnpAnchors, SnpCollateral
from regalia.tees.snp.evidence.certificate_table import parse_certificate_table
from regalia.tees.snp.evidence.leaf import leaf_of
from regalia.tees.snp.evidence.wire import EndorsementKeyKind

if TYPE_CHECKING:
    from regalia.appraisal.collateral import GivenCollateral
    from regalia.appraisal.pki import Certificate

_SHORT = 16  # hex digits of a chip in a name


def collateral_of(given: GivenCollateral) -> SnpCollateral:
    """Certificates, lists, and the fleet's VCEKs by chip and TCB; of two for one, the first.

    Raises:
        ParseError: a leaf is malformed.
    """
    vceks: dict[tuple[bytes, bytes], bytes] = {}
    for der in given.leaves:
        found = leaf_of(parse_certificate(der, what="leaf"))
        if found is not None and found[2].hwid is not None:
            vceks.setdefault((found[2].hwid, found[2].tcb), der)
    return SnpCollateral(given.certificates, given.crls, vceks)


def leaf_name(certificate: Certificate) -> LeafName | None:
    """Chip and TCB of a VCEK, cloud and TCB of a VLEK."""
    found = leaf_of(certificate)
    if found is None:
        return None
    signing_key, product, facts = found
    whose = facts.csp_id if facts.hwid is None else f"chip {facts.hwid.hex()[:_SHORT]}"
    machine = signing_key is EndorsementKeyKind.VCEK and facts.hwid is not None
    return LeafName(f"{signing_key.name} {product} {whose} TCB {facts.tcb.hex()}", machine)


def read_table(data: bytes) -> tuple[bytes, ...]:
    """Certificates of the table that a host hands to a guest; none if the file is no such table.

    Args:
        data: raw, untrusted.
    """
    try:
        return parse_certificate_table(data)
    except ParseError:
        return ()


AMD = Vendor(
    name="snp",
    anchors=SnpAnchors,
    prepare=lambda given: ready(collateral_of(given)),
    read_table=read_table,
    leaf_name=leaf_name,
)
