"""Reason codes of the key store ``aws-kms``."""

from __future__ import annotations

from regalia.core.errors import Code


class AwsKmsCode(Code):
    """Refusals around keys in AWS KMS."""

    KMS_PLAINTEXT_RETURNED = (
        "A service that answers with the model key in clear has not verified the enclave.",
        "Check that the address is that of AWS KMS, and no emulator or proxy before it.",
    )
    KEK_MADE_ELSEWHERE = (
        "A key of AWS KMS is worth what its key policy says, which names the enclaves.",
        "Make the key and its alias with AWS's tools, as docs/howto/aws-kms.md shows.",
    )
    KEY_SERVICE_CLOCK = (
        "Requests are signed with the time, and the service's clock and this one disagree.",
        "Set this machine's clock.",
    )
