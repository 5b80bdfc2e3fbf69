"""The AWS Nitro section of a policy. Spec: docs/spec/policy.md, section "platform.nitro"."""

from __future__ import annotations

from typing import Annotated

import msgspec

from regalia.appraisal.policy_doc import Doc, Listed, Requirement


class Nitro(Doc, frozen=True, kw_only=True):
    """What an enclave must be. A list of accepted values that is empty denies.

    PCRs are 48 bytes each.
    """

    pcr0: Listed  # the enclave image file
    pcr1: Listed  # kernel and boot ramdisk
    pcr2: Listed  # application
    pcr3: Listed  # the IAM role of the parent instance
    pcr8: Listed  # the certificate that signed the image
    pcr16: Listed  # the runtime configuration
    instances: Listed  # ids of parent instances
    document_max_age_s: Annotated[int, msgspec.Meta(ge=1, le=3 * 3600)]
    revocation: Requirement
