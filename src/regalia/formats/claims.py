"""Claims: what a verifier found to be true of an attester.

Raw evidence turns into claims in ``regalia.attest`` only. Whether the claims are acceptable is
for ``regalia.policy``, which never sees the evidence.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from regalia.formats.evidence import Tee

if TYPE_CHECKING:
    from regalia.core.types import Digest

# The token catches honest mistakes (a test or service that builds Claims by hand). It is no
# wall against hostile code in the same process, which could read it here.
MINT = object()


class Hardware(StrEnum):
    """Whose signature stands at the root of the evidence."""

    GENUINE = "genuine"
    SIMULATED = "simulated"


class Revocation(StrEnum):
    """What is known of the certificates' revocation."""

    CHECKED = "checked"  # a CRL, signed by the root and in date, does not list them
    UNKNOWN = "unknown"  # the relying party wrote that it may be left unknown


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
    tee: Tee = field(default=Tee.SEV_SNP, init=False)

    def __post_init__(self, mint: object) -> None:
        if mint is not MINT:
            raise TypeError("claims come from a verifier in regalia.attest")
