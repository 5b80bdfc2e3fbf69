"""What the policy commands print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from regalia.cli.output import show_facts, warn
from regalia.core.types import PolicyId

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.cli.policy.input import PolicyFile
    from regalia.policy.documents import ClientPolicy, ReleasePolicy
    from regalia.policy.explain import Statement


def policy_id(policy: ReleasePolicy | ClientPolicy) -> str:
    """SHA-256 of the canonical payload; for a draft the id that it will have when signed."""
    return str(PolicyId.of(policy.encode()))


def policy_document(policy: ReleasePolicy | ClientPolicy) -> object:
    """The policy as a program reads it."""
    document: object = json.loads(policy.encode())
    return document


def policy_facts(path: Path, found: PolicyFile) -> dict[str, object]:
    """What is known of a policy file, for programs.

    Args:
        path: of the file.
        found: what it holds.
    """
    from regalia.policy.wildcards import wildcards

    return {
        "ok": True,
        "file": str(path),
        "format": found.policy.format,
        "policy_id": policy_id(found.policy),
        "signed_by": list(found.signed_by),
        "signature_checked": found.checked,
        "wildcards": list(wildcards(found.policy)),
    }


def show_headline(path: Path, found: PolicyFile) -> None:
    """What is known of a policy file, for a person.

    Args:
        path: of the file.
        found: what it holds.
    """
    facts = [
        ("name", found.policy.name),
        ("format", found.policy.format),
        ("policy id", policy_id(found.policy)),
        ("signature", found.signature()),
    ]
    show_facts(str(path), facts)


def show_open(policy: ReleasePolicy | ClientPolicy) -> None:
    """Print every rule that demands nothing, with its risk. Loud, on standard error."""
    show_statements(open_statements(policy))


def show_statements(left_open: tuple[Statement, ...]) -> None:
    """As ``show_open``."""
    if not left_open:
        click.echo("Nothing is left open.", err=True)
    for each in left_open:
        warn(f"OPEN {each.path} = {each.value}: {each.risk}")


def open_statements(policy: ReleasePolicy | ClientPolicy) -> tuple[Statement, ...]:
    """Statements about the rules that are left open."""
    from regalia.policy.explain import statements

    return tuple(each for each in statements(policy) if each.risk is not None)
