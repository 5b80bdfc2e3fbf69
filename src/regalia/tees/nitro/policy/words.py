"""One sentence for every field of the Nitro section, closed and open."""

from __future__ import annotations

from regalia.appraisal.explanation import Sentence, accepted

_NITRO = "platform.nitro"

SENTENCES: tuple[Sentence, ...] = (
    Sentence(
        f"{_NITRO}.pcr0",
        accepted("enclave images (PCR0)"),
        "Any enclave image is accepted.",
        "other software than yours may get the key, as far as pcr8 lets it.",
    ),
    Sentence(
        f"{_NITRO}.pcr1",
        accepted("kernels and boot ramdisks (PCR1)"),
        "Any kernel and boot ramdisk is accepted.",
        "another kernel may run below your application, as far as pcr0 lets it.",
    ),
    Sentence(
        f"{_NITRO}.pcr2",
        accepted("applications (PCR2)"),
        "Any application is accepted.",
        "another application may run on your kernel, as far as pcr0 lets it.",
    ),
    Sentence(
        f"{_NITRO}.pcr3",
        accepted("IAM roles of the parent instance (PCR3)"),
        "The parent instance may have any IAM role.",
        "whoever may start instances in any account can start this enclave.",
    ),
    Sentence(
        f"{_NITRO}.pcr8",
        accepted("signers of the image (PCR8)"),
        "The image may be signed by anybody, or by nobody.",
        "who released the image is not checked; pcr0 alone says what runs.",
    ),
    Sentence(
        f"{_NITRO}.pcr16",
        accepted("runtime configurations (PCR16)"),
        "Any runtime configuration is accepted that meets the rules below.",
        "the operator may change placement and egress as far as the other rules let them.",
    ),
    Sentence(
        f"{_NITRO}.instances",
        accepted("parent instances"),
        "Any parent instance is accepted.",
        "the enclave may run in anybody's AWS account.",
    ),
    Sentence(
        f"{_NITRO}.document_max_age_s", "The document must have been made at most {} s ago.".format
    ),
    Sentence(
        f"{_NITRO}.revocation",
        "It must be known that no certificate is revoked.".format,
        "Certificates need not be checked for revocation.",
        "an authority that AWS has revoked passes until its certificate expires, days later.",
    ),
)
