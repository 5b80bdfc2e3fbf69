"""The policy half of the example accelerator."""

from __future__ import annotations

from regalia.appraisal.condition_types import SAID_FOR_ALL, derived, record_of
from regalia.appraisal.policy_plugin import PolicyPlugin
from regalia.tees.accelerator.claims import AcceleratorClaims
from regalia.tees.accelerator.names import CONFIG_BINDING
from regalia.tees.accelerator.policy.fields import FIELDS
from regalia.tees.accelerator.policy.rules import workload
from regalia.tees.accelerator.policy.section import Accelerator
from regalia.wire.evidence import Tee

ACCELERATOR = PolicyPlugin(
    tee=Tee.EXAMPLE_ACCELERATOR,
    name="accelerator",
    section=Accelerator,
    claims=AcceleratorClaims,
    fields=FIELDS,
    order=("revocation", "chip_ids", "firmware_minimum", workload, "measurements", "configs"),
    # Every claim, under its own name, but for those that all TEEs have.
    conditions={"accelerator": record_of(derived(AcceleratorClaims, left_out=SAID_FOR_ALL))},
    left_out=SAID_FOR_ALL,
    machines="chip_ids",
    binding=CONFIG_BINDING,
)
