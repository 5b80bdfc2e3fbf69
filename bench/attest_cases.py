"""The rows of ``attest_cost``: evidence of every kind, and what its verifier knows beforehand."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.tees.boot.evidence import require_rtmrs
from regalia.tees.boot.evidence.log import parse_event_log
from regalia.tees.intel.claims import TdxClaims
from regalia.tees.intel.evidence.bodies import TdReport
from regalia.tees.intel.evidence.claims_of import event_log_claims
from regalia.tees.intel.evidence.wire import parse_quote
from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral, parse, verify_genuine
from regalia.tees.snp.evidence.wire import Product
from regalia.tees.tpm.claims import TpmClaims
from regalia.tees.tpm.evidence.boot import verify_boot
from regalia.tees.tpm.evidence.document import parse_tpm_quote
from regalia.verifier.collateral import parse_roots
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import Evidence, Tee, device_nonce, parse_evidence
from regalia_testing.accepted_evidence import (
    ACCEPTED_EVIDENCE,
    GPUS,
    NO_LISTS,
    NOW,
    accepted_of,
    accepted_snp,
    accepted_tpm,
)
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.tpm.authority import TpmAuthority
from regalia_testing.tees.tpm.simulator import TpmSimulator

if TYPE_CHECKING:
    from regalia_testing.accepted_evidence import AcceptedEvidence

# Microseconds of CPU time for one report, beyond its signatures and, if new, its event log.
GOAL_KNOWN = 60
GOAL_NEW = 150
VECTORS = Path(__file__).parents[2] / "shared" / "vectors"
RECORDED = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        verify: one whole verification, from parsed envelope to claims.
        rest: what to do, unmeasured, before each of them.
        contains: what is verified, and what the verifier knew before.
        goal_us: how long each report may take beyond its signatures and the event log.
        reports: of CPU and devices, each with a signature of its own.
        log: the work on the event log alone, where the log is new to the verifier: parsing,
            replay, digests of the events, and what is concluded from them.
    """

    verify: Callable[[], object]
    rest: Callable[[], None]
    contains: str
    goal_us: int = GOAL_KNOWN
    reports: int = 1
    log: Callable[[], object] | None = None


Make = Callable[[Path], Case | None]  # from an absent directory
Verify = Callable[[Verifier, Evidence], object]
LogWork = Callable[[bytes], object]  # from a log, raw, to what a verifier concludes from it


class _Arriving:
    """A sample's evidence as a service gets it: parsed anew, so that nothing hangs on its bytes.

    (Python remembers the hash of a bytes object, which makes looking it up again cheaper.)
    """

    def __init__(self, accepted: AcceptedEvidence, verify: Verify) -> None:
        self._sample, self._verify = accepted, verify
        self._encoded, self._evidence = accepted.evidence.encode(), accepted.evidence
        self._verifier = accepted.verifier

    def arrive(self) -> None:
        """For the verifier that there is."""
        self._evidence = parse_evidence(self._encoded)

    def arrive_after(self, before: Evidence) -> None:
        """For a new verifier, which has seen other evidence and nothing else."""
        given = self._sample.verifier
        self._verifier = Verifier(given.anchors, given.collateral)
        self._verify(self._verifier, before)
        self.arrive()

    def verify(self) -> object:
        """What is measured."""
        return self._verify(self._verifier, self._evidence)

    def read_log(self, work: LogWork) -> object:
        """The part of it that is the event log's."""
        return work(self._evidence.event_log)


def _again(accepted: AcceptedEvidence, verify: Verify, contains: str, reports: int = 1) -> Case:
    """The same evidence again and again, as when a lease is renewed."""
    arriving = _Arriving(accepted, verify)
    return Case(arriving.verify, arriving.arrive, contains, reports=reports)


def _after(
    before: Evidence,
    accepted: AcceptedEvidence,
    verify: Verify,
    contains: str,
    goal_us: int = GOAL_NEW,
) -> Case:
    """Evidence of something new, each time for a verifier that has seen ``before``."""
    arriving = _Arriving(accepted, verify)
    work = log_work(accepted)
    return Case(
        arriving.verify,
        lambda: arriving.arrive_after(before),
        contains,
        goal_us,
        log=work and partial(arriving.read_log, work),
    )


def log_work(accepted: AcceptedEvidence) -> LogWork | None:
    """What the verifier of a TDX or TPM sample does with its event log; None if it has no log.

    Raises:
        RuntimeError: the claims of the sample hold something else, so this is not that work.
    """
    if not accepted.evidence.event_log:
        return None
    claims = accepted.verify(accepted.evidence)
    found: object
    match claims:
        case TdxClaims():
            work, found = _ccel_work(accepted.evidence.report), claims.event_log
        case TpmClaims():
            work, found = _boot_work(accepted.evidence.report), claims.boot
        case _:
            raise RuntimeError(f"no work on the event log of {claims.tee} is known")
    if work(accepted.evidence.event_log) != found:
        raise RuntimeError(f"the verifier of {claims.tee} does something else with an event log")
    return work


def _ccel_work(quote: bytes) -> LogWork:
    td = parse_quote(quote).body
    if not isinstance(td, TdReport):
        raise TypeError("an enclave has no event log")
    rtmrs = dict(enumerate((td.rtmr0, td.rtmr1, td.rtmr2, td.rtmr3)))
    return lambda log: event_log_claims(require_rtmrs(parse_event_log(log), rtmrs))


def _boot_work(document: bytes) -> LogWork:
    ((bank, pcrs),) = parse_tpm_quote(document).pcrs.items()
    return lambda log: verify_boot(log, pcrs, bank)


def _whole(accepted: AcceptedEvidence) -> Verify:
    def verify(verifier: Verifier, evidence: Evidence) -> object:
        return verifier.verify(
            evidence, expected=accepted.binding, rule=accepted.rule, now=accepted.now
        )

    return verify


def same_machine(name: str, contains: str, *, log: bool = True) -> Make:
    """The verifier knows the machine and its boot."""

    def make(folder: Path) -> Case:
        accepted = ACCEPTED_EVIDENCE[name](folder)
        if not log:
            accepted = replace(accepted, evidence=_without_log(accepted.evidence))
        return _again(accepted, _whole(accepted), contains, 1 + len(accepted.evidence.devices))

    return make


def new_boot(name: str, contains: str) -> Make:
    """The machine is known, and the log of its boot is not."""

    def make(folder: Path) -> Case:
        accepted = ACCEPTED_EVIDENCE[name](folder)
        before = _without_log(accepted.evidence)
        return _after(before, accepted, _whole(accepted), contains, GOAL_KNOWN)

    return make


def _without_log(evidence: Evidence) -> Evidence:
    return replace(evidence, event_log=b"")


def new_machine(pair: Callable[[Path], tuple[AcceptedEvidence, Evidence]], contains: str) -> Make:
    """The verifier has seen another machine of the same vendor: its authorities are known."""

    def make(folder: Path) -> Case:
        accepted, other = pair(folder)
        return _after(other, accepted, _whole(accepted), contains)

    return make


def _snp_pair(folder: Path) -> tuple[AcceptedEvidence, Evidence]:
    platform = SnpSimulator.create(folder, Product.GENOA, now=NOW)
    other = replace(platform, hwid=secrets.token_bytes(64), secret=secrets.token_bytes(32))
    return accepted_snp(platform), accepted_snp(other).evidence


def _tdx_pair(folder: Path) -> tuple[AcceptedEvidence, Evidence]:
    platform = IntelSimulator.create(folder, now=NOW)
    other = replace(platform, ppid=secrets.token_bytes(16))
    return accepted_of(platform), _without_log(accepted_of(other).evidence)


def _nitro_pair(folder: Path) -> tuple[AcceptedEvidence, Evidence]:
    platform = NitroSimulator.create(folder, clock=lambda: NOW)
    one, other = (accepted_of(platform, rule=NO_LISTS) for _ in range(2))
    return one, other.evidence  # enclaves have keys of their own


def _tpm_pair(_: Path) -> tuple[AcceptedEvidence, Evidence]:
    authority = TpmAuthority.create(now=NOW)
    tpm, other = TpmSimulator.create(authority), TpmSimulator.create(authority)
    return accepted_tpm(tpm, other), _without_log(accepted_tpm(other, tpm).evidence)


def gpu(contains: str, *, known: bool) -> Make:
    """A device alone, against its nonce; beside a CPU it is the same for each."""

    def make(folder: Path) -> Case:
        accepted = ACCEPTED_EVIDENCE[f"SEV-SNP with {GPUS} GPUs"](folder)
        bound = accepted.binding
        nonce = device_nonce(bound.role, bound.challenge, bound.hpke_public_key)

        def verify(verifier: Verifier, evidence: Evidence) -> object:
            return verifier.verify_device(
                evidence.devices[0], nonce=nonce, rule=accepted.rule, now=accepted.now
            )

        if known:
            return _again(accepted, verify, contains)
        others = replace(accepted.evidence, devices=accepted.evidence.devices[1:])
        return _after(others, accepted, verify, contains)

    return make


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
    collateral = SnpCollateral((ask, ark), ())
    anchors = SnpAnchors.production()
    at = AppraisalContext(now=RECORDED, rule=NO_LISTS, cache=Cache())
    return Case(
        lambda: verify_genuine(parse(evidence), anchors=anchors, collateral=collateral, at=at),
        lambda: None,
        "a real Genoa's report, without claims, for comparison with the simulated ones",
    )


QUOTE = "quote; QE report, PCK chain, TCB info and QE identity known"
TPM_QUOTE = "quote of 24 PCRs by an enrolled AK; EK chain known"
AZURE = "and the vTPM's quote of 24 PCRs, runtime data, event log of a boot that is known"

CASES: dict[str, Make] = {
    "SEV-SNP, VCEK": same_machine("SEV-SNP, VCEK", "report; VCEK known"),
    "SEV-SNP, VLEK": same_machine("SEV-SNP, VLEK", "report; VLEK known"),
    "SEV-SNP, VCEK, new machine": new_machine(_snp_pair, "report and its VCEK"),
    "SEV-SNP, real report": recorded_machine,
    "TDX, no event log": same_machine("TDX", QUOTE, log=False),
    "TDX, new machine and boot": new_machine(
        _tdx_pair, "quote, QE report, PCK in PEM; 30 events replayed into RTMR0 to RTMR3"
    ),
    "TDX, new boot": new_boot("TDX", f"{QUOTE}; 30 events replayed into RTMR0 to RTMR3"),
    "TDX, same boot again": same_machine("TDX", f"{QUOTE}; the log known"),
    "SGX": same_machine("SGX", QUOTE),
    "Nitro": same_machine("Nitro", "attestation document in CBOR; certificates known"),
    "Nitro, new enclave": new_machine(_nitro_pair, "attestation document and its certificate"),
    "TPM, no event log": same_machine("TPM", TPM_QUOTE, log=False),
    "TPM, new machine and boot": new_machine(
        _tpm_pair, "quote of 24 PCRs by an enrolled AK, EK certificate; 31 events replayed"
    ),
    "TPM, new boot": new_boot("TPM", f"{TPM_QUOTE}; 31 events replayed"),
    "TPM, same boot again": same_machine("TPM", f"{TPM_QUOTE}; the log known"),
    "Azure, SEV-SNP": same_machine("Azure, SEV-SNP", f"report, VCEK known, {AZURE}"),
    "Azure, TDX": same_machine("Azure, TDX", f"TD quote and TD report, {AZURE}"),
    "NVIDIA GPU": gpu(
        "SPDM report; certificates and reference values of its firmware known", known=True
    ),
    "NVIDIA GPU, new device": gpu(
        "SPDM report, certificates of leaf and device; the firmware known", known=False
    ),
    f"SEV-SNP with {GPUS} GPUs": same_machine(
        f"SEV-SNP with {GPUS} GPUs",
        f"reports of the CPU and of {GPUS} GPUs, bound together",
    ),
}
