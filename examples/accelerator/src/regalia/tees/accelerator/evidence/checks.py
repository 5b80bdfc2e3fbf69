"""The numbered checks of the accelerator's verifier, for check logs and `regalia attest verify`."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source

PARSE = Check(
    "accelerator/parse",
    "The document is COSE_Sign1 around a map in strict CBOR, with exactly its fields",
    "Two readers that understand the same bytes differently can be played against each other.",
    Source.HARDWARE_PROVEN,
)
ALGORITHM = Check(
    "accelerator/algorithm",
    "The document says that it is signed with ES384",
    "A signer's choice of algorithm is an attacker's choice if it is not fixed.",
    Source.HARDWARE_PROVEN,
)
CHAIN = Check(
    "accelerator/chain",
    "The certificates lead from the vendor's pinned root to the chip's certificate",
    "Only the vendor can then have certified the key that signed.",
    Source.HARDWARE_PROVEN,
)
REVOCATION = Check(
    "accelerator/revocation",
    "No revocation list names a certificate of the chain",
    "A chip whose key was extracted could say anything of itself.",
    Source.VERIFIER_DERIVED,
)
CHIP = Check(
    "accelerator/chip",
    "The chip's certificate is for the chip that the document names",
    "Otherwise one chip could speak in the name of another that a policy lists.",
    Source.HARDWARE_PROVEN,
)
SIGNATURE = Check(
    "accelerator/signature",
    "The chip's key signed the document",
    "Every field is only as good as this signature.",
    Source.HARDWARE_PROVEN,
)
NONCE = Check(
    "accelerator/nonce",
    "The nonce is what the challenge, keys, model and policy of this exchange give",
    "An old document, or one made for somebody else, carries another nonce.",
    Source.HARDWARE_PROVEN,
)

# In the order in which they are made; the nonce comes last.
CHECKS = (PARSE, ALGORITHM, CHAIN, REVOCATION, CHIP, SIGNATURE, NONCE)
