"""What can be wrong with a simulated enclave, one field for each defect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroDefects:
    """An enclave's state. The default is a healthy enclave; each field is one defect or choice."""

    # The enclave, as launched.
    debug: bool = False
    wrong_measurement: bool = False
    other_kernel: bool = False  # PCR1
    other_application: bool = False  # PCR2
    other_role: bool = False  # PCR3
    other_instance: bool = False  # PCR4
    unsigned_image: bool = False  # PCR8
    wrong_config: bool = False
    config_not_locked: bool = False  # PCR16 is extended, and missing from the document

    # The request.
    stale_nonce: bool = False
    zero_nonce: bool = False
    no_nonce: bool = False
    short_nonce: bool = False
    age_s: int = 0  # the document was made so many seconds ago; below zero: in the future

    # How a document is carried. Verifiers accept these.
    tagged: bool = False  # tag 18 before the message
    indefinite: bool = False  # the document is a map of indefinite length

    # Forgeries and accidents. They are signed by the right key unless they are about signing.
    bad_signature: bool = False
    other_signer: bool = False  # signed by a key that the certificate does not hold
    algorithm: int = -35
    unprotected_header: bool = False
    trailing_byte: bool = False
    truncated: bool = False
    duplicate_field: bool = False
    unknown_field: bool = False
    other_digest: bool = False
    stranger_root: bool = False
    leaf_expired: bool = False
    leaf_is_ca: bool = False
    leaf_after_document: bool = False  # its validity begins later than the document's time


HEALTHY = NitroDefects()
