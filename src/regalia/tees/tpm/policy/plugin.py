"""The policy half of machines with a TPM."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING, Any

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
from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import PolicyPlugin, judges
from regalia.tees.boot.policy.plugin import BOOT_CONDITIONS, workload_findings
from regalia.tees.boot.policy.section import PCR_COUNT
from regalia.tees.tpm.claims import TpmClaims
from regalia.tees.tpm.policy.fields import BOOT, FIELDS
from regalia.tees.tpm.policy.section import Tpm
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_plugin import RuleInput


@judges("pcrs", "boot.boot_images")
def workload(case: RuleInput[Tpm, TpmClaims]) -> Iterator[Finding]:
    """What booted must be held to something."""
    return workload_findings(case.section.pcrs, case.section.boot)


LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("differs with every quote", "extra_data", "clock"),
    **because("same_boot says what it is for", "enrolled_reset_count"),
    **because("more than a number of conditions may hold; read below as hex", "firmware_version"),
}
_READINGS = {
    "AkBinding": TEXT,
    "Mapping[int, bytes]": registers(range(PCR_COUNT), getitem),
    "BootFacts | None": BOOT_CONDITIONS,
}
_FIRMWARE_VERSION: Reading[int] = Reading("text", "{:016x}".format)
_CONDITIONS: dict[str, Reading[Any]] = {
    **derived(TpmClaims, left_out=LEFT_OUT, readings=_READINGS),
    "firmware_version": _FIRMWARE_VERSION.of(lambda claims: claims.firmware_version),
    "same_boot": READINGS["bool"].of(lambda claims: claims.same_boot),
    "measurement": READINGS["bytes"].of(lambda claims: claims.measurement),
}

TPM = PolicyPlugin(
    tee=Tee.TPM,
    name="tpm",
    section=Tpm,
    claims=TpmClaims,
    fields=FIELDS,
    order=(
        *("bindings", "revocation", "eks", "manufacturers", "firmware_minimum", "same_boot"),
        workload,
        *("pcrs", BOOT),
    ),
    conditions={"tpm": record_of(_CONDITIONS)},
    left_out=LEFT_OUT,
    machines="eks",
    binding=BINDINGS[Tee.TPM],
    isolated=False,
)
