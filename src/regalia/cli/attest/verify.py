"""The work of ``regalia attest verify``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from regalia.appraisal.check_log import CheckLog
from regalia.appraisal.collateral_rule import CollateralRule
from regalia.cli.attest.input import (
    read_challenge,
    read_endorsements,
    read_evidence_file,
    read_rules,
    read_time,
)
from regalia.cli.attest.output import show_result, write_ear
from regalia.cli.attest.result import Question
from regalia.cli.policy.input import must_be_new, read_anchors
from regalia.client.collateral import load_collateral
from regalia.core.errors import AttestationError, CoreCode, ParseError, UsageError
from regalia.policy.documents import collateral_words
from regalia.tees.tpm.evidence import TpmCode
from regalia.tees.tpm.evidence.checks import AK_BOUND
from regalia.verifier.composite import join_unbound, require_distinct
from regalia.verifier.genuine import GenuineOnly
from regalia.verifier.verifier import Verifier
from regalia.wire.evidence import CHALLENGE_SIZE, Tee
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.appraisal.unbound import Unbound
    from regalia.cli.attest.result import Result
    from regalia.client.collateral import BundleSource

C = TypeVar("C")

_REFUSALS = frozenset({EvidenceCode.TRAILING_DATA, EvidenceCode.RESERVED_BIT_SET})


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """The command line, as ``regalia.cli.attest.command`` names and explains its options."""

    evidence: Path
    policy: str
    challenge: str
    now: str
    collateral: Path | BundleSource | None
    endorsements: tuple[Path, ...]
    dangerous_simulated_anchor: Path | None
    revocation: str | None
    machines: tuple[str, ...]
    signers: tuple[str, ...]
    ear_out: Path | None
    sign_with: Path | None
    passphrase_file: Path | None
    explain: bool
    as_json: bool


def verify_file(options: VerifyOptions) -> int:
    """Appraise, show, write; returns the exit status."""
    if options.ear_out is not None:
        must_be_new(options.ear_out)
    elif options.sign_with is not None:
        raise UsageError(CoreCode.BAD_USAGE, "--sign-with signs an EAR: say --ear FILE as well")
    now = read_time(options.now)
    challenge = read_challenge(options.challenge)
    rules = read_rules(
        options.policy,
        signers=options.signers,
        revocation=options.revocation,
        machines=options.machines,
        simulated=options.dangerous_simulated_anchor is not None,
    )
    found, loose = read_endorsements(
        options.endorsements, read_evidence_file(options.evidence), now
    )
    provided = load_collateral(options.collateral, clock=lambda: now)
    verifier = Verifier(
        read_anchors(options.dangerous_simulated_anchor), provided.with_loose(loose)
    )
    question = Question(found=found, rules=rules, challenge=challenge, now=now)
    result = appraise(question, verifier)
    if options.ear_out is not None:
        write_ear(options.ear_out, result, options.sign_with, options.passphrase_file)
    show_result(result, explain=options.explain, as_json=options.as_json)
    return result.exit_status


def appraise(question: Question, verifier: Verifier) -> Result:
    """One file of evidence against one policy. Raises ParseError if it is not readable."""
    check_log = CheckLog()
    try:
        return _appraise(question, verifier, check_log)
    except AttestationError as error:
        return question.refused(check_log.failed(error), error)
    except ParseError as error:
        # Evidence of a known kind whose very bytes say no is refused, not unreadable.
        if error.code not in _REFUSALS:
            raise
        return question.refused(check_log.failed(error), error)


def _appraise(question: Question, verifier: Verifier, check_log: CheckLog) -> Result:
    found, challenge = question.found, question.challenge
    tee = Tee.SEV_SNP if found.evidence is None else found.evidence.tee
    rule = CollateralRule.of_words(*collateral_words(question.rules.applied.platform, tee))
    genuine = GenuineOnly(verifier=verifier, rule=rule, now=question.now, check_log=check_log)
    if found.bare_quote is not None:
        check_log.begin(
            AK_BOUND, "a bare public key", "an enrolment, a certificate, or a TEE report"
        )
        raise AttestationError(
            TpmCode.AK_UNBOUND, "the quote comes with a bare public key, which could be anybody's"
        )
    if found.evidence is None:
        devices = tuple(
            _fresh(genuine.device(device), challenge, check_log) for device in found.devices
        )
        if not question.rules.applied.built_in:  # which judges no set, only every device
            require_distinct(devices)
        return question.judged_devices(check_log.steps(), devices)
    if found.serving is not None and challenge is not None:
        if len(challenge) != CHALLENGE_SIZE:
            raise UsageError(
                CoreCode.BAD_USAGE,
                f"--challenge has {len(challenge)} bytes; a runtime is asked with {CHALLENGE_SIZE}",
            )
        expected = found.serving.binding(challenge)
        claims = verifier.verify(
            found.evidence, expected=expected, rule=rule, now=question.now, check_log=check_log
        )
    else:
        claims = _fresh(genuine.cpu(found.evidence), challenge, check_log)
        if found.evidence.devices:
            # What their nonce must be only a runtime's whole answer says.
            beside = (genuine.device(device) for device in found.evidence.devices)
            devices = tuple(each.dangerous_without_freshness() for each in beside)
            claims = join_unbound(claims, devices, check_log)
    return question.judged(check_log.steps(), claims)


def _fresh(found: Unbound[C], challenge: bytes | None, check_log: CheckLog) -> C:
    if challenge is None:
        return found.dangerous_without_freshness()
    return found.fresh(challenge, check_log)
