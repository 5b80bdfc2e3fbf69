"""The numbered checks of the Nitro verifier, for check logs and for `regalia attest verify`."""

from __future__ import annotations

from regalia.appraisal.check import Check, Source

PARSE = Check(
    "nitro/parse",
    "The document is COSE_Sign1 around a map in strict CBOR, with all its fields",
    "Two readers that understand the same bytes differently can be played against each other.",
    Source.HARDWARE_PROVEN,
)
ALGORITHM = Check(
    "nitro/algorithm",
    "The document says that it is signed with ES384",
    "A signer's choice of algorithm is an attacker's choice if it is not fixed.",
    Source.HARDWARE_PROVEN,
)
CHAIN = Check(
    "nitro/chain",
    "The certificates lead from AWS's pinned root to the enclave's certificate",
    "Only AWS can then have issued the key that signed: with Nitro, AWS is the root of trust.",
    Source.HARDWARE_PROVEN,
)
REVOCATION = Check(
    "nitro/revocation",
    "No revocation list names a certificate of the chain",
    "A withdrawn authority could vouch for anything. AWS relies on short validity instead.",
    Source.VERIFIER_DERIVED,
)
SIGNATURE = Check(
    "nitro/signature",
    "The enclave's certificate signed the document",
    "Every field below is only as good as this signature.",
    Source.HARDWARE_PROVEN,
)
TIMESTAMP = Check(
    "nitro/timestamp",
    "The document is not from the future, and its certificate was valid when it was made",
    "The document's age counts from this time; a policy says how old it may be.",
    Source.HARDWARE_PROVEN,
)
NONCE = Check(
    "nitro/nonce",
    "The nonce is what the challenge, keys, model and policy of this exchange give",
    "An old document, or one made for somebody else, carries another nonce.",
    Source.HARDWARE_PROVEN,
)

# In the order in which they are made; the nonce comes last.
CHECKS = (PARSE, ALGORITHM, CHAIN, REVOCATION, SIGNATURE, TIMESTAMP, NONCE)
