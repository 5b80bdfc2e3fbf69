"""What collateral a Nitro document needs: it carries its chain, and the root is pinned."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from regalia.appraisal.collateral import Need, provided
from regalia.appraisal.pki import issuer_names, parse_certificate
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.nitro.evidence.wire import NitroEvidence
    from regalia.wire.evidence import Evidence


def needs(parsed: Parsed[Evidence, NitroEvidence], have: GivenCollateral) -> Iterator[Need]:
    """Its authorities, and a list of each that says where it publishes one.

    Args:
        parsed: untrusted.
        have: what the verifier's operator provides, by kind.

    Raises:
        ParseError: a certificate or list is malformed.
    """
    document = parsed.report.document
    ders = (*document.cabundle, document.certificate)
    chain = [parse_certificate(der, what="cabundle") for der in ders]
    lists = {name for der in have.crls for name in issuer_names(der)}
    for issuer, child in pairwise(chain):
        yield Need(CollateralKind.CERTIFICATE, issuer.common_name, "evidence")
        if child.names_crls:
            name = issuer.common_name
            yield provided(CollateralKind.CRL, f"list of {name}", have=name in lists)
