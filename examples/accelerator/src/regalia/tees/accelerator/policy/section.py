"""The accelerator's section of a policy. Spec: docs/spec/accelerator-appraisal.md, section 4."""

from __future__ import annotations

from regalia.appraisal.policy_doc import Count, Doc, Listed, Requirement


class Accelerator(Doc, frozen=True, kw_only=True):
    """What a chip must be. A list of accepted values that is empty denies."""

    measurements: Listed  # digests of accepted programs
    configs: Listed  # digests of accepted runtime configurations
    firmware_minimum: Count
    chip_ids: Listed
    revocation: Requirement
