"""The rows of ``attest_cost``: evidence of every kind, and what its verifier knows beforehand."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.attest.collateral import CollateralSet, parse_roots
from regalia.attest.pki import Cache
from regalia.attest.snp import Anchors, verify_genuine
from regalia.formats.evidence import Evidence, Tee, device_nonce, parse_evidence
from regalia.formats.snp import Product
from regalia.testing.samples import GPUS, NO_LISTS, NOW, SAMPLES, snp_sample
from regalia.testing.snp import SimulatedPlatform

if TYPE_CHECKING:
    from regalia.testing.samples import Sample

GOAL = 1.3  # times the bare checks
GOAL_COMPOSITE = 1.1  # of a CPU with all its GPUs
VECTORS = Path(__file__).parents[2] / "shared" / "vectors"
RECORDED = datetime(2026, 3, 1, tzinfo=UTC)
NEW_MACHINES = 64


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        verify: one whole verification, from parsed envelope to claims.
        rest: what to do, unmeasured, before each of them.
        contains: what is verified, and what the verifier knew before.
        goal: how many times the bare checks it may take.
    """

    verify: Callable[[], object]
    rest: Callable[[], None]
    contains: str
    goal: float = GOAL


Make = Callable[[Path], Case | None]  # from an absent directory


class _Arriving:
    """A sample's evidence as a service gets it: parsed anew, so that nothing hangs on its bytes.

    (Python remembers the hash of a bytes object, which makes looking it up again cheaper.)
    """

    def __init__(self, sample: Sample, *, log: bool, known_boot: bool = True) -> None:
        kept = sample.evidence if log else replace(sample.evidence, event_log=b"")
        self._sample, self._encoded, self._known_boot = sample, kept.encode(), known_boot
        self._evidence = kept

    def parse(self) -> None:
        """Let the evidence arrive."""
        self._evidence = parse_evidence(self._encoded)
        if not self._known_boot:
            table = self._sample.verifier.cache._replays  # noqa: SLF001
            table.known.clear()
            table.size = 0

    def verify(self) -> object:
        """Appraise it."""
        return self._sample.verify(self._evidence)


def known_machine(
    name: str, contains: str, *, log: bool = True, known_boot: bool = True, goal: float = GOAL
) -> Make:
    """The sample again and again, as when a lease is renewed."""

    def make(folder: Path) -> Case:
        arriving = _Arriving(SAMPLES[name](folder), log=log, known_boot=known_boot)
        return Case(arriving.verify, arriving.parse, contains, goal)

    return make


def new_machine(folder: Path) -> Case:
    """SEV-SNP: each verification is of a chip that this verifier never saw."""
    platform = SimulatedPlatform.create(folder, Product.GENOA, now=NOW)
    chips = [
        replace(platform, hwid=secrets.token_bytes(64), secret=secrets.token_bytes(32))
        for _ in range(NEW_MACHINES)
    ]
    samples = [snp_sample(chip) for chip in chips]
    machines = itertools.cycle(sample.evidence.encode() for sample in samples)
    first = samples[0]
    cache, authorities = first.verifier.cache, set(first.verifier.collateral.certificates)
    leaves = {der for sample in samples for der in sample.evidence.endorsements} - authorities
    arrived: list[Evidence] = []

    def forget() -> None:
        """Leaves and what followed from them; the authorities stay known."""
        derived = cache._derived.known  # noqa: SLF001
        for key in [each for each in derived if not leaves.isdisjoint(each[1])]:
            del derived[key]
        for der in leaves & set(cache._parsed):  # noqa: SLF001
            del cache._parsed[der]  # noqa: SLF001
        for pair in [each for each in cache._signed if each[0] in leaves]:  # noqa: SLF001
            cache._signed.remove(pair)  # noqa: SLF001
        arrived[:] = [parse_evidence(next(machines))]

    return Case(
        lambda: first.verify(arrived[0]),
        forget,
        "report and a VCEK never seen before, whose key OpenSSL must import",
    )


def one_gpu(folder: Path) -> Case:
    """A device alone, against its nonce; beside a CPU it is the same for each."""
    sample = SAMPLES[f"SEV-SNP with {GPUS} GPUs"](folder)
    bound = sample.binding
    nonce = device_nonce(bound.role, bound.challenge, bound.hpke_public_key)
    encoded = sample.evidence.encode()
    arrived = [sample.evidence]

    def parse() -> None:
        arrived[:] = [parse_evidence(encoded)]

    return Case(
        lambda: sample.verifier.verify_device(
            arrived[0].devices[0], nonce=nonce, rule=sample.rule, now=sample.now
        ),
        parse,
        "SPDM report, certificates known, reference values of driver and VBIOS",
    )


def recorded_machine(_: Path) -> Case | None:
    """SEV-SNP: a real report of a Genoa, which is of unknown age. None: it is not here."""
    folder = Path(os.environ.get("REGALIA_VECTORS") or VECTORS) / "snp" / "genoa"
    if not folder.is_dir():
        return None
    leaf, ask, ark = (
        parse_roots((folder / f"{name}.pem").read_bytes(), what=name)[0]
        for name in ("ms-vcek", "ms-ask", "ark")
    )
    evidence = Evidence(Tee.SEV_SNP, (folder / "ms-report.bin").read_bytes(), (leaf,), b"")
    collateral = CollateralSet((ask, ark), ()).snp(NO_LISTS)
    anchors, cache = Anchors.production(), Cache()
    return Case(
        lambda: verify_genuine(
            evidence, anchors=anchors, collateral=collateral, now=RECORDED, cache=cache
        ),
        lambda: None,
        "a real Genoa's report, without claims, for comparison with the simulated ones",
    )


QUOTE = "quote, QE report; PCK chain, TCB info and QE identity known"
TPM_QUOTE = "quote of 24 PCRs by an enrolled AK; EK chain known"
AZURE = "and the vTPM's quote of 24 PCRs, runtime data, event log of a boot that is known"

CASES: dict[str, Make] = {
    "SEV-SNP, VCEK": known_machine("SEV-SNP, VCEK", "report; VCEK known"),
    "SEV-SNP, VLEK": known_machine("SEV-SNP, VLEK", "report; VLEK known"),
    "SEV-SNP, VCEK, new machine": new_machine,
    "SEV-SNP, real report": recorded_machine,
    "TDX, no event log": known_machine("TDX", QUOTE, log=False),
    "TDX, event log, first time": known_machine(
        "TDX", f"{QUOTE}; 30 events replayed into RTMR0 to RTMR3", known_boot=False
    ),
    "TDX, event log, same boot again": known_machine("TDX", f"{QUOTE}; the log known"),
    "SGX": known_machine("SGX", QUOTE),
    "Nitro": known_machine("Nitro", "attestation document in CBOR; certificates known"),
    "TPM, no event log": known_machine("TPM", TPM_QUOTE, log=False),
    "TPM, event log, first time": known_machine(
        "TPM", f"{TPM_QUOTE}; 31 events replayed, facts of the boot read", known_boot=False
    ),
    "TPM, event log, same boot again": known_machine("TPM", f"{TPM_QUOTE}; the log known"),
    "Azure, SEV-SNP": known_machine("Azure, SEV-SNP", f"report, VCEK known, {AZURE}"),
    "Azure, TDX": known_machine("Azure, TDX", f"TD quote and TD report, {AZURE}"),
    "NVIDIA GPU": one_gpu,
    f"SEV-SNP with {GPUS} GPUs": known_machine(
        f"SEV-SNP with {GPUS} GPUs",
        f"report of the CPU and of {GPUS} GPUs, bound together",
        goal=GOAL_COMPOSITE,
    ),
}
