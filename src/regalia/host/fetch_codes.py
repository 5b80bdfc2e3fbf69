"""Reason codes of fetching."""

from __future__ import annotations

from regalia.core.errors import Code


class FetchCode(Code):
    """A vendor's service does not give what was asked for."""

    COLLATERAL_NOT_SERVED = (
        "The service does not have this document, so evidence that needs it cannot be verified.",
        "Check that the evidence is of real hardware, and that the address is of its vendor.",
    )
    COLLATERAL_SERVICE_FAILED = (
        "The service answered with an error, or with more than a document of this kind can be.",
        "Try again later; vendors' services limit how often they may be asked.",
    )
