"""Writes proposals: the next statement of a chain, signed by nobody or by the proposer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from regalia.cli.admin.chains import now, read_chain, require_tenant
from regalia.cli.key_files import read_public_keys, read_signing_keys
from regalia.cli.new_files import must_be_new
from regalia.cli.output import report, say
from regalia.cli.sealing import read_manifest_file
from regalia.control.sentences import sentences
from regalia.control.verify import verify_statement
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import b64
from regalia.core.errors import CoreCode, UsageError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.host.localfs import read_file, write_new
from regalia.policy.signed import read_unverified
from regalia.seal.manifest import peek_manifest
from regalia.wire.statement import (
    ALONE,
    FORMAT,
    NO_STATEMENT,
    PAYLOAD_TYPE,
    Charter,
    Owner,
    PublishPolicy,
    RegisterModel,
    Statement,
    Terms,
    parse_statement,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia.cli.admin.chains import Chain
    from regalia.cli.admin.options import ProposalOptions
    from regalia.wire.statement import Action, Derivatives

ANY = "any"
NEVER = "never"


def write_proposal(action: Action, options: ProposalOptions) -> None:
    """Write the next statement of a chain.

    Args:
        action: what it does.
        options: where the chain is, and how the proposal is written.

    Raises:
        RegaliaError: the chain cannot be read, the statement contradicts itself, or a key that
            signs is no owner's.
    """
    must_be_new(options.out)
    chain = read_chain(options.where)
    statement = _statement(action, chain, options)
    payload = statement.encode()
    parse_statement(payload)
    keys = read_signing_keys(options.sign_with, options.passphrase_file)
    data = dsse.sign(PAYLOAD_TYPE, payload, keys).encode()
    if keys:  # all of them owners' keys, or the statement would be refused with all signatures
        verify_statement(data, () if chain.state is None else tuple(chain.state.charter.owners))
    write_new(options.out, data)
    if not options.as_json:
        for line in sentences(statement):
            say(line)
    facts: dict[str, object] = {
        "proposal": str(options.out),
        "tenant": statement.tenant,
        "sequence": statement.sequence,
        "kind": statement.kind,
        "digest": str(statement.digest()),
        "not_before": statement.not_before or "at once",
        "expires": statement.expires,
        "signed_by": [str(key.verify_key.fingerprint) for key in keys],
    }
    report("proposed", facts, as_json=options.as_json)


def _statement(action: Action, chain: Chain, options: ProposalOptions) -> Statement:
    state, at = chain.state, now()
    expires = at + timedelta(days=options.days)
    if state is None and not isinstance(action, Charter):
        raise UsageError(
            CoreCode.BAD_USAGE, "a chain begins with a charter; give --chain or --url of one"
        )
    return Statement(
        action=action,
        expires=rfc3339(expires),
        format=FORMAT,
        not_before=_not_before(action, chain, expires, options.not_before),
        previous=str(NO_STATEMENT if state is None else state.head),
        sequence=1 if state is None else state.sequence + 1,
        tenant=require_tenant(chain, options.where.tenant),
        time=rfc3339(at),
    )


def _not_before(action: Action, chain: Chain, expires: datetime, given: str | None) -> str | None:
    """When it takes effect: as given, or so late that its time-lock fits whenever it is signed."""
    if given is not None:
        _require_time(given, "--not-before")
        return given
    if chain.state is None or isinstance(action, ALONE):
        return None
    tag = str(action.__struct_config__.tag)
    delays = {str(kind): seconds for kind, seconds in chain.state.charter.delays.items()}
    delay = delays.get(tag)
    return None if delay is None else rfc3339(expires + timedelta(seconds=delay))


def _require_time(text: str, what: str) -> None:
    try:
        parse_rfc3339(text)
    except ValueError as exc:
        raise UsageError(
            CoreCode.BAD_USAGE, f"{what} {text[:40]!r}: want a time like 2027-01-31T12:00:00Z"
        ) from exc


def charter(
    owners: tuple[str, ...], roles: tuple[str, ...], threshold: int, delays: tuple[str, ...]
) -> Charter:
    """A charter from options.

    Args:
        owners: ``NAME=PUB`` each.
        roles: ``NAME=TEXT`` each.
        threshold: how many must sign.
        delays: ``KIND=SECONDS`` each.

    Raises:
        UsageError: an option is not of its form, or names somebody who is no owner.
        RegaliaError: a key cannot be read.
    """
    from pathlib import Path

    named = _pairs(owners, "--owner")
    role = _pairs(roles, "--role")
    for name in role:
        if name not in named:
            raise UsageError(CoreCode.BAD_USAGE, f"--role {name}: no such owner")
    found = []
    for name, file in sorted(named.items()):
        (key,) = read_public_keys([Path(file)])
        found.append(Owner(key=b64(key.spki), name=name, role=role.get(name, "owner")))
    waits = {}
    for kind, seconds in _pairs(delays, "--delay").items():
        if not seconds.isascii() or not seconds.isdigit():
            raise UsageError(CoreCode.BAD_USAGE, f"--delay {kind}={seconds[:40]}: want seconds")
        waits[kind] = int(seconds[:12])
    try:
        return msgspec.convert(
            {
                "kind": "charter",
                "owners": [msgspec.to_builtins(each) for each in found],
                "threshold": threshold,
                "delays": waits,
            },
            Charter,
        )
    except msgspec.ValidationError as exc:
        raise UsageError(CoreCode.BAD_USAGE, f"--delay: {exc}") from exc


def _pairs(texts: tuple[str, ...], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(CoreCode.BAD_USAGE, f"{what} {text[:80]!r}: want NAME=VALUE")
        if name in found:
            raise UsageError(CoreCode.BAD_USAGE, f"{what} {name[:80]!r}: given twice")
        found[name] = value
    return found


def terms(
    ends: str,
    *,
    sites: tuple[str, ...],
    jurisdictions: tuple[str, ...],
    roles: tuple[str, ...],
    derivatives: Derivatives,
) -> Terms:
    """Terms from options.

    Args:
        ends: a time, or ``never``.
        sites: names, or ``any`` alone.
        jurisdictions: as ``sites``.
        roles: as ``sites``.
        derivatives: one of the choices.

    Raises:
        UsageError: BAD_USAGE.
    """
    if ends != NEVER:
        _require_time(ends, "--ends")
    return Terms(
        ends=None if ends == NEVER else ends,
        sites=_names(sites, "--site"),
        jurisdictions=_names(jurisdictions, "--jurisdiction"),
        roles=_names(roles, "--operator"),
        derivatives=derivatives,
    )


def _names(given: tuple[str, ...], what: str) -> list[str] | None:
    if ANY not in given:
        return sorted(set(given))
    if len(given) > 1:
        raise UsageError(CoreCode.BAD_USAGE, f"{what} any stands alone")
    return None


def register_model(path: Path, named: Terms) -> RegisterModel:
    """The registration of a sealed model.

    Args:
        path: of the sealed model, or of its manifest.
        named: its terms.

    Raises:
        RegaliaError: the manifest cannot be read.
    """
    data = read_manifest_file(path)
    manifest = peek_manifest(data)
    payload = dsse.parse_envelope(data, what="manifest").unverified_payload
    return RegisterModel(
        manifest=str(Digest.of(payload)),
        model_id=str(manifest.model_id),
        terms=named,
        version=manifest.version,
    )


def publish_policy(path: Path) -> PublishPolicy:
    """The publication of a signed policy. Raises RegaliaError if it cannot be read."""
    policy = read_unverified(read_file(path, limit=dsse.LIMIT))
    return PublishPolicy(model_id=policy.model.id, policy_id=str(policy.policy_id()))
