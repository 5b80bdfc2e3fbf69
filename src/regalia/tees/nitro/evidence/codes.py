"""Codes of the Nitro verifier."""

from __future__ import annotations

from regalia.core.errors import Code


class NitroCode(Code):
    """Refusals of attestation documents that no other TEE's evidence can earn."""

    DOCUMENT_FROM_FUTURE = (
        "A document that is dated later than its appraisal would look fresh for too long.",
        "Check the verifier's clock.",
    )
