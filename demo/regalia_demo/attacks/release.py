"""Thefts of the model key: every one of them knocks at the broker as a runtime would."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import regalia
from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.errors import PolicyDenied, RegaliaError
from regalia.core.types import Digest
from regalia.host.clock import system_clock
from regalia.runtime.keys import generate_keys
from regalia.tees.snp.evidence.plugin import SNP
from regalia.wire.evidence import NO_DEVICES, Binding, Role
from regalia_demo.lab import challenge_of
from regalia_demo.outcome import REFUSED, Side, refused_with, stolen_if
from regalia_demo.processes import free_address
from regalia_testing.anchors import simulated_snp_anchors
from regalia_testing.tees.snp.defects import HEALTHY, SnpDefects
from regalia_testing.tees.snp.simulator import SimulatedPlatform, measure_code
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.secret import SecretBytes
    from regalia.runtime.keys import RuntimeKeys
    from regalia.wire.evidence import Evidence
    from regalia.wire.release import ChallengeResponse
    from regalia_demo.lab import Lab

PACKAGE = Path(regalia.__file__).parent
LEAK = "\n# A line that the owner never saw. It could send the weights anywhere.\n"


@dataclass(frozen=True, slots=True)
class Guise:
    """What the thief's machine shows; the default is an honest one."""

    defects: SnpDefects = HEALTHY
    package: Path = PACKAGE
    platform: SimulatedPlatform | None = None


HONEST = Guise()


def _evidence(
    lab: Lab, keys: RuntimeKeys, asked: ChallengeResponse, guise: Guise = HONEST
) -> Evidence:
    challenge, audience, policy_id = challenge_of(asked)
    binding = Binding(
        role=Role.RELEASE,
        audience=audience,
        challenge=challenge,
        hpke_public_key=keys.release.public_key,
        wrap_public_key=keys.wrap_public,
        model_id=lab.model_id,
        policy_id=policy_id,
        device_evidence=Digest(NO_DEVICES),
    )
    return (guise.platform or lab.platform).evidence(
        binding.report_data(),
        measurement=measure_code(guise.package),
        runtime_config=lab.measured(),
        defects=guise.defects,
    )


def _naive(lab: Lab, take: Callable[[], SecretBytes], gap: str) -> Side:
    """The control side: the thief gets the key, and it opens the model."""
    with take() as key:
        return stolen_if(
            lab.opens_model(key),
            f"a broker that does not check {gap} gave the key; it opens the model",
        )


def _real(take: Callable[[], SecretBytes]) -> Side:
    """Regalia's side: the broker's refusal, as the thief reads it."""
    try:
        with take():
            return refused_with(None, "the broker released the key")
    except PolicyDenied as denied:
        # All reasons are in the answer and in the log; the first is shown.
        codes = [code.name for code, _ in denied.reasons]
        return Side(REFUSED, denied.reasons[0][1], "+".join(codes))
    except RegaliaError as error:
        return Side(REFUSED, error.what, error.code.name)


def debug_naive(lab: Lab) -> Side:
    """A report with the DEBUG bit is signed as well as any other."""
    keys = generate_keys()
    make = partial(_evidence, lab, keys, guise=Guise(defects=SnpDefects(debug=True)))
    return _naive(lab, lambda: lab.ask(lab.naive, keys, make), "the debug bit")


def debug(lab: Lab) -> Side:
    """In debug mode the host reads the guest's memory, so no key comes out."""
    keys = generate_keys()
    make = partial(_evidence, lab, keys, guise=Guise(defects=SnpDefects(debug=True)))
    return _real(lambda: lab.ask(lab.real, keys, make))


def _recorded(lab: Lab) -> Evidence:
    """Genuine evidence of the honest runtime, as somebody in the path recorded it."""
    return _evidence(lab, generate_keys(), lab.real.challenge(lab.model_id))


def replay_naive(lab: Lab) -> Side:
    """Old evidence never gets older if nobody compares the challenge."""
    evidence, keys = _recorded(lab), generate_keys()
    return _naive(lab, lambda: lab.ask(lab.naive, keys, lambda _: evidence), "freshness")


def replay(lab: Lab) -> Side:
    """The report data holds yesterday's challenge."""
    evidence, keys = _recorded(lab), generate_keys()
    return _real(lambda: lab.ask(lab.real, keys, lambda _: evidence))


def other_key_naive(lab: Lab) -> Side:
    """Fresh and genuine, and the key beside it is the thief's."""
    honest, thief = generate_keys(), generate_keys()
    make = partial(_evidence, lab, honest)
    return _naive(lab, lambda: lab.ask(lab.naive, thief, make), "whose key is bound")


def other_key(lab: Lab) -> Side:
    """The report data commits to the honest runtime's key."""
    honest, thief = generate_keys(), generate_keys()
    make = partial(_evidence, lab, honest)
    return _real(lambda: lab.ask(lab.real, thief, make))


def own_root_naive(lab: Lab) -> Side:
    """A verifier that takes the root certificate from the evidence trusts everybody's root."""
    keys, forged = generate_keys(), _forger(lab)
    evidence = _evidence(lab, keys, lab.real.challenge(lab.model_id), Guise(platform=forged))
    anchors = simulated_snp_anchors(evidence.endorsements[-1])
    rule = CollateralRule(RevocationRule.REQUIRED, NO_GRACE)
    claims = verify_fresh(
        SNP,
        evidence,
        anchors=anchors,
        collateral=forged.collateral(),
        report_data=_report_data(evidence),
        at=AppraisalContext(now=system_clock(), rule=rule, cache=Cache()),
    )
    return stolen_if(
        claims.report_data == _report_data(evidence),
        "a verifier that takes the root from the evidence accepted it",
    )


def own_root(lab: Lab) -> Side:
    """The broker pins its root."""
    keys, forged = generate_keys(), _forger(lab)
    make = partial(_evidence, lab, keys, guise=Guise(platform=forged))
    return _real(lambda: lab.ask(lab.real, keys, make))


def _report_data(evidence: Evidence) -> bytes:
    return evidence.report[0x50:0x90]


def _forger(lab: Lab) -> SimulatedPlatform:
    folder = lab.world.root / "forger"
    if folder.exists():
        return SimulatedPlatform.open(folder)
    return SimulatedPlatform.create(folder)


def _changed_package(lab: Lab) -> Path:
    """A copy of the runtime's code with one more line in the engine."""
    source = lab.world.root / "changed"
    if not source.exists():
        shutil.copytree(PACKAGE, source / "regalia", ignore=shutil.ignore_patterns("__pycache__"))
        with (source / "regalia" / "engines" / "transformers.py").open("a") as file:
            file.write(LEAK)
    return source


def changed_runtime_naive(lab: Lab) -> Side:
    """Its measurement is honest about the change; nobody looks."""
    package = _changed_package(lab) / "regalia"
    keys = generate_keys()
    make = partial(_evidence, lab, keys, guise=Guise(package=package))
    return _naive(lab, lambda: lab.ask(lab.naive, keys, make), "the measurement")


def changed_runtime(lab: Lab) -> Side:
    """A real process runs the changed code, attests, and asks."""
    address = free_address()
    service = lab.world.spawn(
        "changed-runtime",
        ["serve", "--config", "runtime/runtime.toml", "--listen", address],
        address,
        source=_changed_package(lab),
    )
    with service:
        status = service.wait_exit()
    code = "MEASUREMENT_UNKNOWN"
    said = code if code in service.output() and status == PolicyDenied.exit_status else None
    return refused_with(said, f"the changed runtime ended with exit status {status}, without a key")


def silent_log_naive(lab: Lab) -> Side:
    """It logs what it can, and releases anyway."""
    keys = generate_keys()
    make = partial(_evidence, lab, keys)
    return _naive(lab, lambda: lab.ask(lab.naive, keys, make), "that the release was logged")


def silent_log(lab: Lab) -> Side:
    """An insider with root makes the log's table refuse entries, then asks with good evidence."""
    keys = generate_keys()
    make = partial(_evidence, lab, keys)
    with _log_refuses(lab.world.root / "broker" / "log.db"):
        return _real(lambda: lab.ask(lab.real, keys, make))


@contextmanager
def _log_refuses(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(
            "CREATE TRIGGER no_log BEFORE INSERT ON tlog_entries"
            " BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
        try:
            yield
        finally:
            connection.execute("DROP TRIGGER no_log")
