"""The policy half of AWS Nitro enclaves.

Letters in the docstrings are the checks of docs/spec/policy.md, section "Nitro enclaves".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regalia.appraisal.condition_types import (
    READINGS,
    SAID_FOR_ALL,
    because,
    derived,
    record_of,
    registers,
)
from regalia.appraisal.config_binding import BINDINGS
from regalia.appraisal.finding import finding
from regalia.appraisal.policy_codes import PolicyCode
from regalia.appraisal.policy_plugin import PolicyPlugin, judges
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.names import PCR_INDICES
from regalia.tees.nitro.policy.fields import FIELDS
from regalia.tees.nitro.policy.section import Nitro
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.appraisal.condition_types import (
        Reading,
    )
    from regalia.appraisal.finding import Finding
    from regalia.appraisal.policy_plugin import RuleInput


@judges("pcr0", "pcr8")
def workload(case: RuleInput[Nitro, NitroClaims]) -> Iterator[Finding]:
    """(d) What runs: the image, or whoever signed it. Neither is no policy."""
    if case.section.pcr0 == "any" and case.section.pcr8 == "any":
        yield finding(
            PolicyCode.WORKLOAD_UNPINNED,
            "pcr0 is open, and no listed signer of the image (pcr8) takes its place",
        )


LEFT_OUT = {
    **SAID_FOR_ALL,
    **because("read below, with its unit in its name", "timestamp"),
}
# A register that is not locked is in no document, and empty here.
_PCRS = registers(PCR_INDICES, lambda pcrs, index: pcrs.get(index, b""))
_CONDITIONS: dict[str, Reading[Any]] = {
    **derived(NitroClaims, left_out=LEFT_OUT, readings={"Mapping[int, bytes]": _PCRS}),
    "timestamp_ms": READINGS["int"].of(lambda claims: claims.timestamp),
    "instance": READINGS["str"].of(lambda claims: claims.instance.decode("ascii", "replace")),
}

NITRO = PolicyPlugin(
    tee=Tee.NITRO,
    name="nitro",
    section=Nitro,
    claims=NitroClaims,
    fields=FIELDS,
    order=(
        *("revocation", "document_max_age_s", "instances"),
        workload,
        *("pcr0", "pcr1", "pcr2", "pcr8", "pcr3", "pcr16"),
    ),
    conditions={"nitro": record_of(_CONDITIONS)},
    left_out=LEFT_OUT,
    machines="instances",
    binding=BINDINGS[Tee.NITRO],
)
