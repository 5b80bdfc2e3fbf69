"""Claims: what a verifier found to be true of an attester.

Raw evidence turns into claims in ``regalia.verifier`` only. Whether the claims are acceptable is
for ``regalia.policy``, which never sees the evidence.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from regalia.core.types import Digest
    from regalia.wire.evidence import DeviceKind, Tee

# The token catches honest mistakes (a test or service that builds Claims by hand). It is no
# wall against hostile code in the same process, which could read it here.
MINT = object()


def require_mint(mint: object) -> None:
    """Raise TypeError unless a verifier made the claims."""
    if mint is not MINT:
        raise TypeError("claims come from regalia.verifier")


class Hardware(StrEnum):
    """Whose signature stands at the root of the evidence."""

    GENUINE = "genuine"
    SIMULATED = "simulated"


class Revocation(StrEnum):
    """What is known of the certificates' revocation."""

    CHECKED = "checked"  # a CRL, signed by the root and in date, does not list them
    GRACE = "grace"  # such a CRL, out of date by no more than the policy's grace
    UNKNOWN = "unknown"  # the relying party wrote that it may be left unknown


class DeviceClaims(Protocol):
    """What is known of a verified device, whatever its kind."""

    @property
    def kind(self) -> DeviceKind:
        """What it is."""

    @property
    def hardware(self) -> Hardware:
        """Whose root vouches for it."""

    @property
    def revocation(self) -> Revocation:
        """Of its certificates."""

    @property
    def identity(self) -> bytes:
        """What tells this device from all others. Never empty."""

    @property
    def nonce(self) -> bytes:
        """The verifier's nonce in the report, 32 bytes."""


class Claims(Protocol):
    """What is known of every verified attester, whatever its TEE.

    Each TEE has a class of its own with the fields of its specification; these are the ones
    that releases, leases, the log and the common rules of policies speak of.
    """

    @property
    def tee(self) -> Tee:
        """Which kind of TEE."""

    @property
    def hardware(self) -> Hardware:
        """Whose root vouches for it."""

    @property
    def product(self) -> str:
        """The vendor's name for the product line."""

    @property
    def revocation(self) -> Revocation:
        """Of the certificates that vouch for it."""

    @property
    def evidence_digest(self) -> Digest:
        """Names the evidence that the claims came from."""

    @property
    def report_data(self) -> bytes:
        """What the evidence is bound to, as its field for that holds it."""

    @property
    def measurement(self) -> bytes:
        """The principal launch measurement."""

    @property
    def instance(self) -> bytes:
        """What tells this machine from all others; empty or zero if evidence shows nothing."""

    @property
    def guest(self) -> bytes:
        """What tells this guest or boot from others on the machine; empty if nothing does."""

    @property
    def config_binding(self) -> bytes:
        """What the hardware recorded of the runtime configuration."""

    @property
    def debug(self) -> bool:
        """Whether the host can read the workload's memory by design."""

    @property
    def migratable(self) -> bool:
        """Whether somebody outside the measurement may carry the workload away."""

    @property
    def tcb(self) -> dict[str, int | str]:
        """Security versions of the platform, by the vendor's names."""

    @property
    def devices(self) -> tuple[DeviceClaims, ...]:
        """Verified devices whose evidence this evidence commits to; empty: the CPU alone."""
