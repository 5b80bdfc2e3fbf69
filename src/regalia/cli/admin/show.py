"""Shows a chain of statements as a table, and what holds now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regalia.cli.admin.chains import now, read_chain
from regalia.cli.output import show_facts, show_json, show_table
from regalia.control.fold import settled
from regalia.control.sentences import sentences
from regalia.core.clock import rfc3339
from regalia.core.errors import CoreCode, UsageError
from regalia.wire.statement import Charter

if TYPE_CHECKING:
    from regalia.cli.admin.chains import Accepted
    from regalia.cli.admin.options import ChainOptions
    from regalia.control.state import ControlState

_HEADINGS = ("#", "accepted", "kind", "what", "signed by", "digest")


def show_chain(where: ChainOptions, *, as_json: bool) -> None:
    """Show a verified chain.

    Args:
        where: the chain.
        as_json: print for programs.

    Raises:
        RegaliaError: it cannot be read, or does not verify.
        UsageError: BAD_USAGE, there is none.
    """
    chain = read_chain(where)
    if chain.state is None:
        raise UsageError(CoreCode.BAD_USAGE, "there are no statements; give --chain or --url")
    state = settled(chain.state, now())
    names = _names(chain.accepted)
    if as_json:
        show_json(
            {
                "ok": True,
                **_holds(state),
                "statements": [
                    {
                        "accepted": rfc3339(each.at),
                        "digest": str(each.signed.digest),
                        "signed_by": _signed_by(each, names),
                        "statement": msgspec.to_builtins(each.signed.statement),
                    }
                    for each in chain.accepted
                ],
            }
        )
        return
    show_table(_HEADINGS, [_row(each, names) for each in chain.accepted])
    show_facts(f"{state.tenant} now", list(_holds(state).items()))


def _names(accepted: tuple[Accepted, ...]) -> dict[str, str]:
    """Names of all owners there ever were, by their keys."""
    actions = [each.signed.statement.action for each in accepted]
    charters = [action for action in actions if isinstance(action, Charter)]
    return {owner.fingerprint: owner.name for each in charters for owner in each.owners}


def _signed_by(each: Accepted, names: dict[str, str]) -> list[str]:
    return sorted(names.get(key, key) for key in each.signed.signers)


def _row(each: Accepted, names: dict[str, str]) -> tuple[str, ...]:
    statement = each.signed.statement
    return (
        str(statement.sequence),
        rfc3339(each.at),
        statement.kind,
        sentences(statement)[1],
        ", ".join(_signed_by(each, names)),
        str(each.signed.digest)[:19],
    )


def _holds(state: ControlState) -> dict[str, object]:
    return {
        "tenant": state.tenant,
        "charter": str(state.founded),
        "sequence": state.sequence,
        "head": str(state.head),
        "owners": [f"{each.name} ({each.role})" for each in state.charter.owners],
        "threshold": state.charter.threshold,
        "stopped": [name or "everything" for name in sorted(state.stops)],
        "versions": [
            f"{model_id} v{version} {found.life}"
            for (model_id, version), found in sorted(state.models.items())
        ],
        "policies": [f"{model} {policy}" for model, policy in sorted(state.policies.items())],
        "images": [f"{name} {life}" for name, life in sorted(state.references.items())],
        "revoked": [f"{subject} {value}" for subject, value in sorted(state.revoked)],
        "rotated": [f"{old} to {new}" for old, new in sorted(state.rotated.items())],
        "waiting": [f"{each.sequence} until {rfc3339(each.at)}" for each in state.scheduled],
        "void": [f"{each.sequence}: {each.why}" for each in state.void],
    }
