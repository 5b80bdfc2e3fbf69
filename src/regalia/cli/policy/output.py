"""What the policy commands print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from regalia.cli.output import say, show_facts, warn
from regalia.core.types import PolicyId
from regalia.policy.condition_truth import cannot_fail
from regalia.policy.documents import Platform, platform_wildcards, wildcards
from regalia.policy.explain import statements

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.appraisal.finding import Finding
    from regalia.cli.policy.input import PolicyFile
    from regalia.policy.documents import ClientPolicy, ReleasePolicy
    from regalia.policy.explain import Statement


def policy_id(policy: ReleasePolicy | ClientPolicy | Platform) -> str:
    """SHA-256 of the canonical payload; for a draft the id that it will have when signed."""
    return str(PolicyId.of(policy.encode()))


def policy_document(policy: ReleasePolicy | ClientPolicy | Platform) -> object:
    """The policy as a program reads it."""
    document: object = json.loads(policy.encode())
    return document


def policy_facts(path: Path, found: PolicyFile) -> dict[str, object]:
    """What is known of a policy file, for programs.

    Args:
        path: of the file.
        found: what it holds.
    """
    return {
        "ok": True,
        "file": str(path),
        "kind": found.kind,
        "format": getattr(found.policy, "format", None),
        "policy_id": policy_id(found.policy),
        "signed_by": list(found.signed_by),
        "signature_checked": found.checked,
        "wildcards": list(open_paths(found.policy)),
    }


def finding_json(finding: Finding) -> dict[str, object]:
    """A rule that was not met, for programs."""
    code = finding.code
    return {"code": code.name, "what": finding.what, "why": code.why, "fix": finding.fix}


def show_headline(path: Path, found: PolicyFile) -> None:
    """What is known of a policy file, for a person.

    Args:
        path: of the file.
        found: what it holds.
    """
    facts: list[tuple[str, object]] = []
    if not isinstance(found.policy, Platform):
        facts += [("name", found.policy.name), ("format", found.policy.format)]
    facts += [
        ("kind", found.kind),
        ("policy id", policy_id(found.policy)),
        ("signature", found.signature()),
    ]
    show_facts(str(path), facts)


def open_paths(policy: ReleasePolicy | ClientPolicy | Platform) -> tuple[str, ...]:
    """Paths of the rules that are left open, conditions that cannot fail among them."""
    if isinstance(policy, Platform):
        return platform_wildcards(policy)
    empty = (
        f"conditions[{index}]"
        for index, source in enumerate(policy.conditions)
        if cannot_fail(source)
    )
    return (*wildcards(policy), *empty)


def show_open(policy: ReleasePolicy | ClientPolicy | Platform) -> None:
    """Print every rule that demands nothing, with its risk. Loud, on standard error."""
    show_statements(tuple(each for each in statements(policy) if each.risk is not None))


def show_statements(left_open: tuple[Statement, ...]) -> None:
    """Print statements about rules that demand nothing. As ``show_open``."""
    if not left_open:
        say("Nothing is left open.", err=True)
    for each in left_open:
        warn(f"OPEN {each.path} = {each.value}: {each.risk}")
