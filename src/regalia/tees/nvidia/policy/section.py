"""The device set of a policy. Spec: docs/spec/policy.md, section "platform.devices"."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from regalia.appraisal.policy_doc import Doc, Listed, Requirement, Unrestricted

COUNT_MAX = 64


class Device(Doc, frozen=True, kw_only=True):
    """So many devices of these models, each of which must be like this."""

    kind: Literal["nvidia-gpu", "nvidia-switch"]
    count: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)]  # exactly
    models: list[str]  # e.g. GH100, GB100, LS_10; a model stands in one entry only
    features: list[Literal["SPT", "MPT", "PPCIE"]] | Unrestricted  # FEATURE_FLAG of a GPU
    driver_versions: Listed  # of a GPU
    driver_minimum: str | Unrestricted  # of a GPU, compared number by number
    vbios_versions: Listed
    identities: Listed  # serial numbers of the devices' own certificates, hex
    rim: Requirement  # whether measurements must match reference values
    revocation: Requirement
