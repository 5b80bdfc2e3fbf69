"""The policy half of AMD SEV-SNP."""

from __future__ import annotations

from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import PolicyPlugin
from regalia.tees.snp.claims import SnpClaims
from regalia.tees.snp.policy.conditions import CONDITIONS, LEFT_OUT
from regalia.tees.snp.policy.fields import FIELDS, GUEST_POLICY
from regalia.tees.snp.policy.rules import (
    csp_id,
    firmware,
    guest_policy_shape,
    id_block,
    mitigations,
    platform_info,
    product,
    tcb,
    workload,
)
from regalia.tees.snp.policy.section import Snp
from regalia.wire.evidence import Tee

SNP = PolicyPlugin(
    tee=Tee.SEV_SNP,
    name="snp",
    section=Snp,
    claims=SnpClaims,
    fields=FIELDS,
    order=(
        guest_policy_shape,
        *(field.name for field in GUEST_POLICY if field.compare is not None),
        product,
        "report_version_minimum",
        "signing_keys",
        csp_id,
        "revocation",
        "chip_ids",
        tcb,
        firmware,
        "provisional_firmware",
        mitigations,
        platform_info,
        "vmpl",
        workload,
        "measurements",
        id_block,
        "host_data",
    ),
    conditions=CONDITIONS,
    left_out=LEFT_OUT,
    machines="chip_ids",
    binding=BINDINGS[Tee.SEV_SNP],
)
