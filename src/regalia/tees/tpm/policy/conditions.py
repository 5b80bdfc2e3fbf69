"""What conditions may say of a TPM's claims, under ``claims.tpm``."""

from __future__ import annotations

from operator import getitem
from typing import Any

from regalia.appraisal.condition_types import (
    READINGS,
    SAID_FOR_ALL,
    TEXT,
    Reading,
    because,
    derived,
    record_of,
    registers,
)
from regalia.tees.boot.policy.conditions import BOOT
from regalia.tees.boot.policy.section import PCR_COUNT
from regalia.tees.tpm.claims import TpmClaims

LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("differs with every quote", "extra_data", "clock"),
    **because("same_boot says what it is for", "enrolled_reset_count"),
    **because("more than a number of conditions may hold; read below as hex", "firmware_version"),
}
_FIRMWARE_VERSION: Reading[int] = Reading("text", "{:016x}".format)
_MEMBERS: dict[str, Reading[Any]] = {
    **derived(
        TpmClaims,
        left_out=LEFT_OUT,
        readings={
            "AkBinding": TEXT,
            "Mapping[int, bytes]": registers(range(PCR_COUNT), getitem),
            "BootFacts | None": BOOT,
        },
    ),
    "firmware_version": _FIRMWARE_VERSION.of(lambda claims: claims.firmware_version),
    "same_boot": READINGS["bool"].of(lambda claims: claims.same_boot),
    "measurement": READINGS["bytes"].of(lambda claims: claims.measurement),
}
CONDITIONS: dict[str, Reading[TpmClaims]] = {"tpm": record_of(_MEMBERS)}
