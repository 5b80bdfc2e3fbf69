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
from regalia_demo.attacker import challenge_of
from regalia_demo.outcome import REFUSED, Side, refused_with, stolen_if
from regalia_demo.processes import free_address
from regalia_testing.anchors import simulated_snp_anchors
from regalia_testing.tees.snp.defects import HEALTHY, SnpDefects
from regalia_testing.tees.snp.simulator import SnpSimulator, measure_code
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from regalia.core.secret import SecretBytes
    from regalia.runtime.keys import RuntimeKeys
    from regalia.wire.evidence import Evidence
    from regalia.wire.release import ChallengeResponse
    from regalia_demo.attacker import Attacker

PACKAGE = Path(regalia.__file__).parent
LEAK = "\n# A line that the owner never saw. It could send the weights anywhere.\n"


@dataclass(frozen=True, slots=True)
class Guise:
    """What the thief's machine shows; the default is an honest one."""

    defects: SnpDefects = HEALTHY
    package: Path = PACKAGE
    platform: SnpSimulator | None = None


HONEST = Guise()


def _evidence(
    attacker: Attacker, keys: RuntimeKeys, asked: ChallengeResponse, guise: Guise = HONEST
) -> Evidence:
    challenge, audience, policy_id = challenge_of(asked)
    binding = Binding(
        role=Role.RELEASE,
        audience=audience,
        challenge=challenge,
        hpke_public_key=keys.release.public_key,
        wrap_public_key=keys.wrap_public,
        model_id=attacker.model_id,
        policy_id=policy_id,
        device_evidence=Digest(NO_DEVICES),
    )
    return (guise.platform or attacker.platform).evidence(
        binding.report_data(),
        measurement=measure_code(guise.package),
        runtime_config=attacker.measured(),
        defects=guise.defects,
    )


def _naive(attacker: Attacker, take: Callable[[], SecretBytes], gap: str) -> Side:
    """The control side: the thief gets the key, and it opens the model."""
    with take() as key:
        return stolen_if(
            attacker.opens_model(key),
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


def debug_naive(attacker: Attacker) -> Side:
    """A report with the DEBUG bit is signed as well as any other."""
    keys = generate_keys()
    make = partial(_evidence, attacker, keys, guise=Guise(defects=SnpDefects(debug=True)))
    return _naive(attacker, lambda: attacker.ask(attacker.naive, keys, make), "the debug bit")


def debug(attacker: Attacker) -> Side:
    """In debug mode the host reads the guest's memory, so no key comes out."""
    keys = generate_keys()
    make = partial(_evidence, attacker, keys, guise=Guise(defects=SnpDefects(debug=True)))
    return _real(lambda: attacker.ask(attacker.real, keys, make))


def _recorded(attacker: Attacker) -> Evidence:
    """Genuine evidence of the honest runtime, as somebody in the path recorded it."""
    return _evidence(attacker, generate_keys(), attacker.real.challenge(attacker.model_id))


def replay_naive(attacker: Attacker) -> Side:
    """Old evidence never gets older if nobody compares the challenge."""
    evidence, keys = _recorded(attacker), generate_keys()
    return _naive(
        attacker, lambda: attacker.ask(attacker.naive, keys, lambda _: evidence), "freshness"
    )


def replay(attacker: Attacker) -> Side:
    """The report data holds yesterday's challenge."""
    evidence, keys = _recorded(attacker), generate_keys()
    return _real(lambda: attacker.ask(attacker.real, keys, lambda _: evidence))


def other_key_naive(attacker: Attacker) -> Side:
    """Fresh and genuine, and the key beside it is the thief's."""
    honest, thief = generate_keys(), generate_keys()
    make = partial(_evidence, attacker, honest)
    return _naive(attacker, lambda: attacker.ask(attacker.naive, thief, make), "whose key is bound")


def other_key(attacker: Attacker) -> Side:
    """The report data commits to the honest runtime's key."""
    honest, thief = generate_keys(), generate_keys()
    make = partial(_evidence, attacker, honest)
    return _real(lambda: attacker.ask(attacker.real, thief, make))


def own_root_naive(attacker: Attacker) -> Side:
    """A verifier that takes the root certificate from the evidence trusts everybody's root."""
    keys, forged = generate_keys(), _forger(attacker)
    evidence = _evidence(
        attacker, keys, attacker.real.challenge(attacker.model_id), Guise(platform=forged)
    )
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


def own_root(attacker: Attacker) -> Side:
    """The broker pins its root."""
    keys, forged = generate_keys(), _forger(attacker)
    make = partial(_evidence, attacker, keys, guise=Guise(platform=forged))
    return _real(lambda: attacker.ask(attacker.real, keys, make))


def _report_data(evidence: Evidence) -> bytes:
    return evidence.report[0x50:0x90]


def _forger(attacker: Attacker) -> SnpSimulator:
    folder = attacker.deployment.root / "forger"
    if folder.exists():
        return SnpSimulator.open(folder)
    return SnpSimulator.create(folder)


def _changed_package(attacker: Attacker) -> Path:
    """A copy of the runtime's code with one more line in the engine."""
    source = attacker.deployment.root / "changed"
    if not source.exists():
        shutil.copytree(PACKAGE, source / "regalia", ignore=shutil.ignore_patterns("__pycache__"))
        with (source / "regalia" / "engines" / "transformers.py").open("a") as file:
            file.write(LEAK)
    return source


def changed_runtime_naive(attacker: Attacker) -> Side:
    """Its measurement is honest about the change; nobody looks."""
    package = _changed_package(attacker) / "regalia"
    keys = generate_keys()
    make = partial(_evidence, attacker, keys, guise=Guise(package=package))
    return _naive(attacker, lambda: attacker.ask(attacker.naive, keys, make), "the measurement")


def changed_runtime(attacker: Attacker) -> Side:
    """A real process runs the changed code, attests, and asks."""
    address = free_address()
    service = attacker.deployment.spawn(
        "changed-runtime",
        ["serve", "--config", "runtime/runtime.toml", "--listen", address],
        address,
        source=_changed_package(attacker),
    )
    with service:
        status = service.wait_exit()
    code = "MEASUREMENT_UNKNOWN"
    said = code if code in service.output() and status == PolicyDenied.exit_status else None
    return refused_with(said, f"the changed runtime ended with exit status {status}, without a key")


def silent_log_naive(attacker: Attacker) -> Side:
    """It logs what it can, and releases anyway."""
    keys = generate_keys()
    make = partial(_evidence, attacker, keys)
    return _naive(
        attacker, lambda: attacker.ask(attacker.naive, keys, make), "that the release was logged"
    )


def silent_log(attacker: Attacker) -> Side:
    """An insider with root makes the log's table refuse entries, then asks with good evidence."""
    keys = generate_keys()
    make = partial(_evidence, attacker, keys)
    with _log_refuses(attacker.deployment.root / "broker" / "log.db"):
        return _real(lambda: attacker.ask(attacker.real, keys, make))


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
