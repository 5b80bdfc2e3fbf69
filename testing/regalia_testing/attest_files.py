"""Evidence of every kind of TEE as files, and the command that verifies it."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from regalia.core.clock import rfc3339
from regalia.wire.evidence import Tee
from regalia_testing.accepted_evidence import NOW
from regalia_testing.relying_party import REPORT_DATA, issuing
from regalia_testing.tees.azure.defects import AzureDefects
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.intel.defects import IntelDefects
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.defects import NitroDefects
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.snp.defects import SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import TpmSimulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from regalia.wire.evidence import Evidence
    from regalia_testing.accepted_evidence import Simulated

CHALLENGE = REPORT_DATA.hex()
WHEN = rfc3339(NOW)
QUALIFIED = hashlib.sha256(REPORT_DATA).hexdigest()  # what a TPM quotes


@dataclass(frozen=True)
class Kind:
    """Evidence of one kind of TEE in a folder: healthy, debug if there is such a thing.

    Attributes:
        anchor: file of the simulated root; empty for TPMs, whose roots are collateral.
        revocation: the word that a platform of this kind needs.
    """

    tee: str
    anchor: str
    status: int
    revocation: str = "required"
    challenge: str = CHALLENGE

    def command(self, evidence: str = "healthy", *more: str, **words: str) -> list[str]:
        """``attest verify`` of one piece of it; ``words`` are options that differ."""
        given = {"challenge": self.challenge, "now": WHEN, "revocation": self.revocation} | words
        options = [part for name, value in given.items() for part in (f"--{name}", value)]
        if self.anchor:
            options += ["--dangerous-simulated-anchor", f"{self.tee}/{self.anchor}"]
        command = ["attest", "verify", f"{self.tee}/{evidence}.json", "--policy", "baseline"]
        return [*command, "--collateral", f"{self.tee}/collateral", *options, *more]


KINDS = {
    kind.tee: kind
    for kind in (
        Kind("sev-snp", "collateral/ark.der", 11),
        Kind("tdx", "collateral/root.der", 11),
        Kind("sgx", "collateral/root.der", 11),
        Kind("aws-nitro", "collateral/root.der", 11, "any"),
        Kind("az-snp-vtpm", "collateral/ark.der", 11, challenge=QUALIFIED),
        Kind("az-tdx-vtpm", "collateral/root.der", 11, challenge=QUALIFIED),
        Kind("tpm", "", 11, challenge=QUALIFIED),
    )
}


_CREATE: Mapping[str, Callable[[Path], Simulated]] = MappingProxyType(
    {
        "sev-snp": lambda folder: SnpSimulator.create(folder, now=NOW),
        "tdx": lambda folder: IntelSimulator.create(folder, now=NOW),
        "sgx": lambda folder: IntelSimulator.create(folder, now=NOW),
        "aws-nitro": lambda folder: NitroSimulator.create(folder, clock=lambda: NOW),
        "az-snp-vtpm": lambda folder: AzureSimulator.create(folder, Tee.AZURE_SNP, now=NOW),
        "az-tdx-vtpm": lambda folder: AzureSimulator.create(folder, Tee.AZURE_TDX, now=NOW),
    }
)
_HEALTHY: Mapping[str, Any] = MappingProxyType(
    {
        "sev-snp": SnpDefects(),
        "tdx": IntelDefects(),
        "sgx": IntelDefects(version=3),
        "aws-nitro": NitroDefects(),
        "az-snp-vtpm": AzureDefects(),
        "az-tdx-vtpm": AzureDefects(),
    }
)


def _tpm(folder: Path) -> dict[str, Evidence]:
    authority = TpmAuthority.create(now=NOW)
    tpm = TpmSimulator.create(authority)
    collateral = folder / "collateral"
    collateral.mkdir()
    (collateral / "tpm-ek-root.der").write_bytes(authority.root())
    (collateral / "issuer.der").write_bytes(authority.issuer())
    (collateral / "enrolment.json").write_bytes(tpm.enrolment(NOW).encode())
    for number, crl in enumerate(authority.crls()):
        (collateral / f"{number}.crl").write_bytes(crl)
    return {"healthy": tpm.evidence(REPORT_DATA)}


def make(folder: Path, tee: str) -> dict[str, Evidence]:
    """Evidence by name; what verifies it lies in ``folder/collateral``."""
    if tee == "tpm":
        return _tpm(folder)
    platform = _CREATE[tee](folder / "platform")
    shutil.copytree(platform.collateral_directory, folder / "collateral")
    issue: Callable[..., Evidence] = getattr(platform, f"{tee}_evidence", platform.evidence)
    state = issuing(issue, _HEALTHY[tee])
    return {"healthy": state(), "debug": state(debug=True)}
