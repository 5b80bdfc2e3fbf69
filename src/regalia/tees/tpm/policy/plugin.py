"""The policy half of machines with a TPM."""

from __future__ import annotations

from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import PolicyPlugin, rules_within
from regalia.tees.boot.policy.plugin import BOOT
from regalia.tees.tpm.claims import TpmClaims
from regalia.tees.tpm.policy.conditions import CONDITIONS, LEFT_OUT
from regalia.tees.tpm.policy.fields import FIELDS
from regalia.tees.tpm.policy.rules import workload
from regalia.tees.tpm.policy.section import Tpm
from regalia.wire.evidence import Tee

TPM = PolicyPlugin(
    tee=Tee.TPM,
    name="tpm",
    section=Tpm,
    claims=TpmClaims,
    fields=FIELDS,
    order=(
        "bindings",
        "revocation",
        "eks",
        "manufacturers",
        "firmware_minimum",
        "same_boot",
        workload,
        "pcrs",
        rules_within("boot", BOOT, lambda section: section.boot, lambda claims: claims.boot),
    ),
    cross_check=lambda section, path: BOOT.cross_check(section.boot, f"{path}.boot"),
    conditions=CONDITIONS,
    left_out=LEFT_OUT,
    machines="eks",
    binding=BINDINGS[Tee.TPM],
    isolated=False,
)
