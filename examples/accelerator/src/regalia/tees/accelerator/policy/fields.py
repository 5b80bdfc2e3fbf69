"""The fields of the accelerator's section, in the order of its struct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.field_kinds import minimum, not_among, one_of, revocation_known
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_words import hex_entry
from regalia.tees.accelerator.names import CHIP_ID_SIZE, MEASUREMENT_SIZE

if TYPE_CHECKING:
    from regalia.appraisal.policy_field import Field
    from regalia.tees.accelerator.claims import AcceleratorClaims

FIELDS: tuple[Field[AcceleratorClaims, Any], ...] = (
    one_of(
        "measurements",
        entry=hex_entry(MEASUREMENT_SIZE),
        have=lambda claims: claims.measurement.hex(),
        code=PolicyCode.MEASUREMENT_UNKNOWN,
        what=not_among("programs"),
        content="the loaded program",
        noun="programs",
        unrestricted="Any program is accepted.",
        risk="whatever the host loads gets the key; the rule on workloads refuses such a policy.",
    ),
    one_of(
        "configs",
        entry=hex_entry(MEASUREMENT_SIZE),
        have=lambda claims: claims.config.hex(),
        code=PolicyCode.HOST_DATA_UNKNOWN,
        what=not_among("runtime configurations"),
        content="accepted runtime configurations, as SHA-384",
        noun="runtime configurations",
        unrestricted="Any runtime configuration is accepted that meets the rules below.",
        risk="the operator may change placement and egress as far as the other rules let them.",
        pinned="config",
    ),
    minimum(
        "firmware_minimum",
        have=lambda claims: claims.firmware,
        code=PolicyCode.FIRMWARE_BELOW_MINIMUM,
        what=lambda value, least: f"firmware {value}; at least {least}",
        required="The firmware's security version must be at least {}.",
        content="security version of the firmware",
        fix="Update the chip's firmware.",
    ),
    one_of(
        "chip_ids",
        entry=hex_entry(CHIP_ID_SIZE),
        have=lambda claims: claims.chip_id.hex(),
        code=PolicyCode.INSTANCE_NOT_ALLOWED,
        what=not_among("chips"),
        content="ids of accepted chips",
        noun="chips",
        unrestricted="Any chip of the vendor is accepted.",
        risk="the program may run in somebody else's machine.",
        pinned="machine",
    ),
    revocation_known(
        what="the chip's certificates were not checked against the vendor's lists",
        risk="a chip that the vendor has withdrawn passes.",
    ),
)
