"""The AWS Nitro section of a policy. Spec: docs/spec/policy.md, section "platform.nitro"."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from regalia.appraisal.policy_doc import Doc, Unrestricted
from regalia.appraisal.policy_words import each, hex_bytes, word

PATH = "platform.nitro"
PCR_SIZE = 48  # bytes


class Nitro(Doc, frozen=True, kw_only=True):
    """What an enclave must be. A list of accepted values that is empty denies.

    PCRs are 48 bytes each.
    """

    pcr0: list[str] | Unrestricted  # the enclave image file
    pcr1: list[str] | Unrestricted  # kernel and boot ramdisk
    pcr2: list[str] | Unrestricted  # application
    pcr3: list[str] | Unrestricted  # the IAM role of the parent instance
    pcr8: list[str] | Unrestricted  # the certificate that signed the image
    pcr16: list[str] | Unrestricted  # the runtime configuration
    instances: list[str] | Unrestricted  # ids of parent instances
    document_max_age_s: Annotated[int, msgspec.Meta(ge=1, le=3 * 3600)]
    revocation: Literal["required", "any"]


def check_nitro(nitro: Nitro, path: str = PATH) -> None:
    """Raise ParseError MALFORMED at the first rule that the section breaks."""
    for name in ("pcr0", "pcr1", "pcr2", "pcr3", "pcr8", "pcr16"):
        each(getattr(nitro, name), f"{path}.{name}", hex_bytes(PCR_SIZE))
    each(nitro.instances, f"{path}.instances", word)
