"""The Nitro section of a policy, from known-good claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from regalia.appraisal.claims import Revocation
from regalia.tees.nitro.policy.section import PCR_SIZE, Nitro

if TYPE_CHECKING:
    from regalia.tees.nitro.claims import NitroClaims

DOCUMENT_MAX_AGE_S = 300  # AWS's documents are made on demand


def pin_nitro(claims: NitroClaims, *, pin_machine: bool, pin_config: bool) -> Nitro:
    """The section that these claims meet."""

    def register(index: int) -> list[str] | Literal["any"]:
        """A register of zeros says nothing: the image has no signer, the instance no role."""
        value = claims.pcrs.get(index, b"")
        return [value.hex()] if any(value) and len(value) == PCR_SIZE else "any"

    return Nitro(
        pcr0=[claims.measurement.hex()],
        pcr1=register(1),
        pcr2=register(2),
        pcr3=register(3) if pin_machine else "any",
        pcr8=register(8),
        pcr16=register(16) if pin_config else "any",
        instances=[claims.instance.decode("ascii")] if pin_machine else "any",
        document_max_age_s=DOCUMENT_MAX_AGE_S,
        revocation="required" if claims.revocation is Revocation.CHECKED else "any",
    )
