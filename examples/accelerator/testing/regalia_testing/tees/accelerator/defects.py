"""What can be wrong with a simulated accelerator, one field for each defect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorDefects:
    """A chip's state. The default is a healthy chip; each field is one defect or choice."""

    # The chip, as it runs.
    debug: bool = False
    wrong_measurement: bool = False
    wrong_config: bool = False
    firmware: int = 7

    # The request.
    stale_nonce: bool = False
    short_nonce: bool = False

    # Forgeries and accidents. They are signed by the right key unless they are about signing.
    other_chip: bool = False  # the document names a chip that the certificate is not for
    bad_signature: bool = False
    other_signer: bool = False  # signed by a key that the certificate does not hold
    short_signature: bool = False
    algorithm: int = -35
    other_format: bool = False
    unknown_field: bool = False
    missing_field: bool = False
    trailing_byte: bool = False
    tagged: bool = False
    stranger_root: bool = False
    chain_of_one: bool = False
    leaf_expired: bool = False
    leaf_not_yet_valid: bool = False
    leaf_is_ca: bool = False
    leaf_may_not_sign: bool = False
    leaf_of_p256: bool = False
    authority_is_leaf: bool = False


HEALTHY = AcceleratorDefects()
