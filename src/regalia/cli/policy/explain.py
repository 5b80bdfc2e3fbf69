"""The work of ``regalia policy explain``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from regalia.appraise.exchange import judge
from regalia.cli.attest.input import read_endorsements, read_time
from regalia.cli.output import Styled, say, show_json
from regalia.cli.policy.evidence import make_appraiser, read_given
from regalia.cli.policy.input import key_fingerprint, read_policy
from regalia.cli.policy.output import finding_json, policy_facts, show_headline
from regalia.core.types import ModelId
from regalia.policy.context import ReleaseContext
from regalia.policy.documents import Platform, collateral_rule, wildcards_for
from regalia.policy.explain import explain_findings, explain_policy, statements
from regalia.policy.platform import PlatformRules
from regalia.policy.verdict import Deny

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.appraisal.claims import Hardware
    from regalia.appraisal.finding import Finding
    from regalia.cli.policy.evidence import Given
    from regalia.cli.policy.input import PolicyFile
    from regalia.client.collateral import BundleSource
    from regalia.policy.documents import ClientPolicy, ReleasePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions:
    """The command line, as ``regalia.cli.policy.command`` names and explains its options."""

    file: Path
    signers: tuple[str, ...]
    threshold: int
    evidence: tuple[Path, ...]
    challenge: str
    now: str
    endorsements: tuple[Path, ...]
    collateral: Path | BundleSource | None
    dangerous_simulated_anchor: Path | None
    model_version: int | None
    holders: int
    approvals: tuple[str, ...]
    custody: str
    as_json: bool


def explain_files(options: ExplainOptions) -> bool:
    """Print sentences; returns whether all of the evidence is allowed."""
    found = read_policy(options.file, options.signers, options.threshold)
    answers = _answers(options, found)
    allowed = not any(answer.reasons for answer in answers)
    if options.as_json:
        show_json({**_json(options, found, answers), "ok": allowed})
        return allowed
    show_headline(options.file, found)
    for sentence in explain_policy(found.policy):
        say(sentence)
    for each in answers:
        say()
        say(Styled(str(each.path), bold=True))
        for sentence in explain_findings(each.reasons, each.hardware, each.wildcards):
            say(sentence)
    return allowed


@dataclass(frozen=True, slots=True)
class Answer:
    """What the policy makes of one file of evidence.

    Attributes:
        path: of the evidence.
        hardware: genuine or simulated.
        wildcards: rules that were left open.
        reasons: rules that the claims do not meet.
    """

    path: Path
    hardware: Hardware
    wildcards: tuple[str, ...]
    reasons: tuple[Finding, ...]


def _answers(options: ExplainOptions, found: PolicyFile) -> list[Answer]:
    now = read_time(options.now)
    return [_answer(options, found, path, now) for path in options.evidence]


def _answer(options: ExplainOptions, file: PolicyFile, path: Path, now: datetime) -> Answer:
    # Nothing is released here, so the challenge may be unknown; read_given warns of it.
    given = read_given(path, options.challenge)
    found, loose = read_endorsements(options.endorsements, given.found, now)
    given = replace(given, found=found)
    appraiser = make_appraiser(
        options.dangerous_simulated_anchor, options.collateral, now=now, loose=loose
    )
    rule = collateral_rule(file.platform, given.evidence.tee)
    claims = appraiser.claims(given, rule)
    if isinstance(file.policy, Platform):
        judged = PlatformRules(file.policy, built_in=False).judge(claims)
        open_rules = wildcards_for(file.policy, claims.tee)
        return Answer(path, claims.hardware, open_rules, judged.findings)
    verdict = judge(file.policy, claims, _context(options, file.policy, given, now))
    reasons = verdict.reasons if isinstance(verdict, Deny) else ()
    return Answer(path, verdict.hardware, verdict.wildcards, reasons)


def _context(
    options: ExplainOptions, policy: ReleasePolicy | ClientPolicy, given: Given, now: datetime
) -> ReleaseContext:
    version = options.model_version
    return ReleaseContext(
        now=now,
        challenge_age_s=0,  # recorded evidence has no age, so assume zero, as the help says
        runtime_config=given.config(),
        model_id=ModelId.parse(policy.model.id),
        model_version=policy.model.version_minimum if version is None else version,
        active_holders=options.holders,
        approvals=frozenset(str(key_fingerprint(word)) for word in options.approvals),
        custody=options.custody,
    )


def _json(options: ExplainOptions, found: PolicyFile, answers: list[Answer]) -> dict[str, object]:
    return {
        **policy_facts(options.file, found),
        "statements": [
            {"path": each.path, "value": each.value, "says": each.says, "risk": each.risk}
            for each in statements(found.policy)
        ],
        "verdicts": [_answer_json(answer) for answer in answers],
    }


def _answer_json(answer: Answer) -> dict[str, object]:
    return {
        "evidence": str(answer.path),
        "decision": "deny" if answer.reasons else "allow",
        "hardware": str(answer.hardware),
        "wildcards": list(answer.wildcards),
        "reasons": [finding_json(each) for each in answer.reasons],
    }
