"""The work of ``regalia policy explain``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from regalia.appraise.exchange import judge
from regalia.cli.output import show_json
from regalia.cli.policy.evidence import ANY, make_appraiser, read_given
from regalia.cli.policy.input import key_fingerprint, read_policy
from regalia.cli.policy.output import finding_json, policy_facts, show_headline
from regalia.core.types import ModelId
from regalia.host.clock import system_clock
from regalia.policy.context import ReleaseContext
from regalia.policy.documents import collateral_rule
from regalia.policy.explain import explain_policy, explain_verdict, statements
from regalia.policy.verdict import Allow, Deny

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.cli.policy.evidence import Appraiser
    from regalia.cli.policy.input import PolicyFile
    from regalia.client.collateral import BundleSource
    from regalia.policy.documents import ClientPolicy, ReleasePolicy
    from regalia.policy.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainOptions:
    """The command line, as ``regalia.cli.policy.command`` names and explains its options."""

    file: Path
    signers: tuple[str, ...]
    threshold: int
    evidence: tuple[Path, ...]
    report_data: str | None
    challenge: str | None
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
    verdicts = _verdicts(options, found.policy)
    allowed = all(isinstance(verdict, Allow) for _, verdict in verdicts)
    if options.as_json:
        show_json({**_json(options, found, verdicts), "ok": allowed})
        return allowed
    show_headline(options.file, found)
    for sentence in explain_policy(found.policy):
        click.echo(sentence)
    for path, verdict in verdicts:
        click.echo(click.style(f"\n{path}", bold=True))
        for sentence in explain_verdict(verdict):
            click.echo(sentence)
    return allowed


def _verdicts(
    options: ExplainOptions, policy: ReleasePolicy | ClientPolicy
) -> list[tuple[Path, Verdict]]:
    if not options.evidence:
        return []
    appraiser = make_appraiser(
        options.dangerous_simulated_anchor, options.collateral, now=system_clock()
    )
    return [(path, _verdict(options, policy, appraiser, path)) for path in options.evidence]


def _verdict(
    options: ExplainOptions, policy: ReleasePolicy | ClientPolicy, appraiser: Appraiser, path: Path
) -> Verdict:
    # Nothing is released here, so report data may be unknown; read_given warns of it.
    unknown = options.report_data is None and options.challenge is None
    given = read_given(
        path, report_data=ANY if unknown else options.report_data, challenge=options.challenge
    )
    rule = collateral_rule(policy.platform, given.evidence.tee)
    claims, config = appraiser.claims(given, rule), given.config()
    version = options.model_version
    context = ReleaseContext(
        now=appraiser.now,
        challenge_age_s=0,  # recorded evidence has no age, so assume zero, as the help says
        runtime_config=config,
        model_id=ModelId.parse(policy.model.id),
        model_version=policy.model.version_minimum if version is None else version,
        active_holders=options.holders,
        approvals=frozenset(str(key_fingerprint(word)) for word in options.approvals),
        custody=options.custody,
    )
    return judge(policy, claims, context)


def _json(
    options: ExplainOptions, found: PolicyFile, verdicts: list[tuple[Path, Verdict]]
) -> dict[str, object]:
    return {
        **policy_facts(options.file, found),
        "statements": [
            {"path": each.path, "value": each.value, "says": each.says, "risk": each.risk}
            for each in statements(found.policy)
        ],
        "verdicts": [_verdict_json(path, verdict) for path, verdict in verdicts],
    }


def _verdict_json(path: Path, verdict: Verdict) -> dict[str, object]:
    reasons = verdict.reasons if isinstance(verdict, Deny) else ()
    return {
        "evidence": str(path),
        "decision": "deny" if reasons else "allow",
        "hardware": str(verdict.hardware),
        "wildcards": list(verdict.wildcards),
        "reasons": [finding_json(each) for each in reasons],
    }
