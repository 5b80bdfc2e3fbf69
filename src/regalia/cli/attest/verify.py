"""The work of ``regalia attest verify``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.appraise.recorded import appraise_file
from regalia.cli.attest.input import (
    read_endorsements,
    read_evidence_file,
    read_rules,
    read_time,
)
from regalia.cli.attest.output import show_result, write_ear
from regalia.cli.attest.result import Question
from regalia.cli.challenge import expected_of, read_challenge
from regalia.cli.new_files import must_be_new
from regalia.cli.policy.input import read_anchors
from regalia.client.collateral import load_collateral
from regalia.core.errors import CoreCode, UsageError
from regalia.verifier.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.cli.attest.result import Result
    from regalia.client.collateral import BundleSource


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
    """Appraise, show, write; returns the exit status.

    Raises:
        UsageError: options do not fit together.
    """
    if options.ear_out is not None:
        must_be_new(options.ear_out)
    elif options.sign_with is not None:
        raise UsageError(CoreCode.BAD_USAGE, "--sign signs an EAR: say --ear FILE as well")
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
    """One file of evidence against one policy.

    Args:
        question: evidence, rules, challenge and time.
        verifier: with anchors and collateral.

    Raises:
        ParseError: it is not readable.
        UsageError: the challenge has a size that such evidence never carries.
    """
    found = appraise_file(
        question.found,
        question.rules.applied,
        verifier,
        expected=expected_of(question.found, question.challenge),
        now=question.now,
    )
    return question.answered(found)
