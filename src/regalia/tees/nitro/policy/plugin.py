"""The policy half of AWS Nitro enclaves."""

from __future__ import annotations

from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.policy_plugin import PolicyPlugin
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.policy.conditions import CONDITIONS, LEFT_OUT
from regalia.tees.nitro.policy.fields import FIELDS
from regalia.tees.nitro.policy.rules import workload
from regalia.tees.nitro.policy.section import Nitro
from regalia.wire.evidence import Tee

NITRO = PolicyPlugin(
    tee=Tee.NITRO,
    name="nitro",
    section=Nitro,
    claims=NitroClaims,
    fields=FIELDS,
    order=(
        "revocation",
        "document_max_age_s",
        "instances",
        workload,
        "pcr0",
        "pcr1",
        "pcr2",
        "pcr8",
        "pcr3",
        "pcr16",
    ),
    conditions=CONDITIONS,
    left_out=LEFT_OUT,
    machines="instances",
    binding=BINDINGS[Tee.NITRO],
)
