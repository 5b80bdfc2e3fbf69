"""What collateral a TPM's quote needs: somebody who vouches for its AK. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.collateral import provided
from regalia.appraisal.pki import issuer_names, parse_certificate
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.evidence.vendor import collateral_of
from regalia.wire.collateral import CollateralKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral, Need
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.tpm.evidence.document import TpmQuote
    from regalia.wire.evidence import Evidence


def needs(parsed: Parsed[Evidence, TpmQuote], have: GivenCollateral) -> Iterator[Need]:
    """An enrolment and a root of its EK, or a root of the AK certificate that came along; a list.

    Args:
        parsed: untrusted.
        have: what the verifier's operator provides, by kind.

    Raises:
        ParseError: a certificate, a list, the AK or an enrolment is malformed.
    """
    name = parse_public(parsed.report.ak_public).name
    enrolment = collateral_of(have).prepare().enrolments.get(name)
    came = parsed.raw.endorsements
    if enrolment is None and came and have.of(CollateralKind.AK_ROOT):
        yield provided(CollateralKind.AK_ROOT, "root of the AK's certificate", have=True)
        leaf = came[0]
    else:
        known = enrolment is not None
        yield provided(CollateralKind.ENROLMENT, f"AK {name.hex()}", have=known)
        roots = bool(have.of(CollateralKind.EK_ROOT))
        yield provided(CollateralKind.EK_ROOT, "root of the EK's certificate", have=roots)
        leaf = enrolment.ek_certificates[0] if enrolment is not None else b""
    if leaf:
        issuer = parse_certificate(leaf, what="TPM certificate").issuer_common_name
        lists = any(issuer in issuer_names(der) for der in have.crls)
        yield provided(CollateralKind.CRL, f"list of {issuer}", have=lists)
