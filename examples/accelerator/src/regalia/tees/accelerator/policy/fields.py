"""The fields of the accelerator's section, in the order of its struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import (
    CONFIG_RISK,
    Minimum,
    OneOf,
    any_config,
    revocation_known,
    seen,
)
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_words import hex_entry
from regalia.tees.accelerator.claims import AcceleratorClaims
from regalia.tees.accelerator.names import CHIP_ID_SIZE, MEASUREMENT_SIZE

if TYPE_CHECKING:
    from regalia.appraisal.policy_field import Field

_one_of = OneOf[AcceleratorClaims]

FIELDS: tuple[Field[AcceleratorClaims, Any], ...] = (
    _one_of.digests(
        "measurements",
        lambda claims: claims.measurement,
        PolicyCode.MEASUREMENT_UNKNOWN,
        MEASUREMENT_SIZE,
    ).words(
        "the loaded program",
        "programs",
        "Any program is accepted.",
        "whatever the host loads gets the key; the rule on workloads refuses such a policy.",
    ),
    _one_of.digests(
        "configs",
        lambda claims: claims.config,
        PolicyCode.HOST_DATA_UNKNOWN,
        MEASUREMENT_SIZE,
        pinned="config",
    ).words(
        "accepted runtime configurations, as SHA-384",
        "runtime configurations",
        any_config(),
        CONFIG_RISK,
    ),
    Minimum[AcceleratorClaims](
        "firmware_minimum", lambda claims: claims.firmware, PolicyCode.FIRMWARE_BELOW_MINIMUM
    ).words(
        "security version of the firmware",
        "The firmware's security version must be at least {}.",
        "firmware {}; at least {}",
        fix="Update the chip's firmware.",
        unrestricted="Any firmware of the chip is accepted.",
        risk="a chip whose firmware has known weaknesses passes.",
    ),
    _one_of.machines(
        "chip_ids", hex_entry(CHIP_ID_SIZE), lambda claims: claims.chip_id.hex(), seen("chip {}")
    ).words(
        "ids of accepted chips",
        "chips",
        "Any chip of the vendor is accepted.",
        "the program may run in somebody else's machine.",
    ),
    revocation_known(
        "the chip's certificates were not checked against the vendor's lists",
        "a chip that the vendor has withdrawn passes.",
    ),
)
