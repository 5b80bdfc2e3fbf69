"""The accelerator's section of a policy. Spec: docs/spec/accelerator-appraisal.md, section 4."""

from __future__ import annotations

from typing import Literal

from regalia.appraisal.policy_doc import Count, Doc, Unrestricted


class Accelerator(Doc, frozen=True, kw_only=True):
    """What a chip must be. A list of accepted values that is empty denies."""

    measurements: list[str] | Unrestricted  # digests of accepted programs
    configs: list[str] | Unrestricted  # digests of accepted runtime configurations
    firmware_minimum: Count
    chip_ids: list[str] | Unrestricted
    revocation: Literal["required", "any"]
