"""What an Azure guest needs is what the hardware's report below its paravisor needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.tees.azure.evidence.verify import report_below, td_quote_below
from regalia.tees.intel.evidence import needs as intel
from regalia.tees.snp.evidence import needs as snp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.collateral import GivenCollateral, Need
    from regalia.appraisal.evidence_plugin import Parsed
    from regalia.tees.azure.evidence.guest import GuestParts
    from regalia.wire.evidence import Evidence


def needs_snp(parsed: Parsed[Evidence, GuestParts], have: GivenCollateral) -> Iterator[Need]:
    """As an SEV-SNP report. Raises ParseError or AttestationError as for one.

    Args:
        parsed: untrusted.
        have: what the verifier's operator provides, by kind.
    """
    return snp.needs(report_below(parsed), have)


def needs_tdx(parsed: Parsed[Evidence, GuestParts], have: GivenCollateral) -> Iterator[Need]:
    """As a TD quote. Raises ParseError or AttestationError as for one.

    Args:
        parsed: untrusted.
        have: what the verifier's operator provides, by kind.
    """
    return intel.needs(td_quote_below(parsed), have)
