"""Claims: what a verifier found to be true of an attester.

Raw evidence turns into claims in ``regalia.attest`` only. Whether the claims are acceptable is
for ``regalia.policy``, which never sees the evidence.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from regalia.formats.evidence import Tee
from regalia.formats.snp_names import GuestPolicyBit, bit

if TYPE_CHECKING:
    from regalia.core.types import Digest
    from regalia.formats.evidence import DeviceKind

# The token catches honest mistakes (a test or service that builds Claims by hand). It is no
# wall against hostile code in the same process, which could read it here.
MINT = object()


def require_mint(mint: object) -> None:
    """Raise TypeError unless a verifier made the claims."""
    if mint is not MINT:
        raise TypeError("claims come from a verifier in regalia.attest")


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
    def config_slot(self) -> bytes:
        """What the hardware recorded of the runtime configuration (``formats.config_slot``)."""

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


@dataclass(frozen=True, slots=True)
class Tcb:
    """Security version numbers of one TCB_VERSION, by component. ``fmc`` is 0 before Turin."""

    fmc: int
    bootloader: int
    tee: int
    snp: int
    microcode: int

    def components(self) -> dict[str, int]:
        """By name, in the order of the SNP ABI."""
        return {
            "fmc": self.fmc,
            "bootloader": self.bootloader,
            "tee": self.tee,
            "snp": self.snp,
            "microcode": self.microcode,
        }


@dataclass(frozen=True, slots=True)
class Firmware:
    """SEV firmware version."""

    major: int
    minor: int
    build: int


@dataclass(frozen=True, slots=True)
class SnpClaims:
    """A genuine, fresh SEV-SNP report whose report data is what the verifier expected.

    Field names follow the SEV-SNP firmware ABI, ATTESTATION_REPORT.
    """

    hardware: Hardware
    product: str  # Milan, Genoa, Turin
    revocation: Revocation
    evidence_digest: Digest
    report_version: int
    guest_svn: int
    policy: int  # guest POLICY, 64 bits
    family_id: bytes  # 16
    image_id: bytes  # 16
    vmpl: int
    signing_key: str  # "vcek" or "vlek"
    csp_id: str | None  # VLEK only
    platform_info: int
    report_data: bytes  # 64
    measurement: bytes  # 48
    host_data: bytes  # 32
    id_key_digest: bytes  # 48
    author_key_digest: bytes  # 48
    report_id: bytes  # 32
    chip_id: bytes  # 64; zero for VLEK
    current_tcb: Tcb
    reported_tcb: Tcb
    committed_tcb: Tcb
    launch_tcb: Tcb
    current_firmware: Firmware
    committed_firmware: Firmware
    launch_mit_vector: int
    current_mit_vector: int
    mint: InitVar[object]
    devices: tuple[DeviceClaims, ...] = ()
    tee: Tee = field(default=Tee.SEV_SNP, init=False)

    def __post_init__(self, mint: object) -> None:
        require_mint(mint)

    @property
    def instance(self) -> bytes:
        """CHIP_ID."""
        return self.chip_id

    @property
    def guest(self) -> bytes:
        """REPORT_ID: drawn at launch."""
        return self.report_id

    @property
    def config_slot(self) -> bytes:
        """HOST_DATA."""
        return self.host_data

    @property
    def tcb(self) -> dict[str, int | str]:
        """REPORTED_TCB."""
        return dict(self.reported_tcb.components())

    @property
    def debug(self) -> bool:
        """Guest policy bit 19."""
        return bit(self.policy, GuestPolicyBit.DEBUG)

    @property
    def migratable(self) -> bool:
        """Guest policy bit 18."""
        return bit(self.policy, GuestPolicyBit.MIGRATE_MA)
