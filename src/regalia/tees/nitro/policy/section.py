"""The AWS Nitro section of a policy. Spec: docs/spec/policy.md, section "platform.nitro"."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from regalia.appraisal.policy_doc import Doc, Unrestricted


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
