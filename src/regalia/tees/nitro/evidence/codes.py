"""Codes of the Nitro verifier."""

from __future__ import annotations

from regalia.core.errors import Code


class NitroCode(Code):
    """Refusals of attestation documents that no other TEE's evidence can earn."""

    DOCUMENT_KEY_OTHER = (
        "AWS KMS would encrypt the model key to the key in the document, and to no other.",
        "Have the runtime make its evidence anew; nobody else may choose the key in it.",
    )
    DOCUMENT_FROM_FUTURE = (
        "A document that is dated later than its appraisal would look fresh for too long.",
        "Check the verifier's clock.",
    )
