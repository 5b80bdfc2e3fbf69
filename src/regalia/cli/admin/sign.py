"""Signs proposals, after it was shown what they do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from regalia.cli.admin.chains import now, read_chain
from regalia.cli.key_files import read_signing_key
from regalia.cli.new_files import must_be_new
from regalia.cli.output import say, warn
from regalia.control.codes import StatementCode
from regalia.control.fold import apply, begin, settled
from regalia.control.quorum import quorums
from regalia.control.sentences import sentences
from regalia.control.verify import read_unverified, verify_statement
from regalia.core.errors import IntegrityError, PolicyDenied
from regalia.crypto import dsse
from regalia.crypto.dsse import DsseCode
from regalia.host.localfs import read_file, write_new
from regalia.wire.statement import ENVELOPE_LIMIT, PAYLOAD_TYPE

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.cli.admin.chains import Chain
    from regalia.cli.admin.options import ChainOptions


def sign_file(
    file: Path,
    key_file: Path,
    passphrase_file: Path | None,
    *,
    out: Path,
    yes: bool,
    where: ChainOptions,
) -> dict[str, object]:
    """Show what a proposal does, ask, and add a signature.

    Args:
        file: the proposal, untrusted.
        key_file: the owner's private key.
        passphrase_file: of the key; None to ask for it.
        out: the proposal with the signature.
        yes: whether to sign without asking.
        where: the chain that it must continue.

    Returns:
        Facts for people and programs.

    Raises:
        RegaliaError: the proposal is malformed, does not fit the chain, or the key is no owner's.
    """
    must_be_new(out)
    data = read_file(file, limit=ENVELOPE_LIMIT)
    envelope, statement = read_unverified(data)
    chain = read_chain(where)
    for line in sentences(statement):
        say(line, err=True)
    if where.chain is None and where.url is None:
        warn("Not compared with a chain: give --chain or --url to see whether it continues one.")
    if not yes:
        click.confirm("Sign this?", abort=True, err=True)
    key = read_signing_key(key_file, passphrase_file)
    mine = dsse.sign(PAYLOAD_TYPE, envelope.unverified_payload, (key,))
    both = replace(envelope, signatures=envelope.signatures + mine.signatures).encode()
    dsse.parse_envelope(both, what="signed statement")  # refuses a second signature by one key
    if chain.state is not None or statement.sequence == 1:
        _require_fits(both, chain, str(key.verify_key.fingerprint))
    write_new(out, both)
    charter = None if chain.state is None else chain.state.charter
    signers = [keyid for keyid, _ in dsse.parse_envelope(both, what="signed").signatures]
    needed = [] if _unknown(chain, statement.sequence) else quorums(statement, charter, signers)
    return {
        "statement": str(out),
        "digest": str(statement.digest()),
        "signed_by": signers,
        "signatures": [str(each) for each in needed] or ["not compared with a charter"],
    }


def _unknown(chain: Chain, sequence: int) -> bool:
    return chain.state is None and sequence != 1


def _require_fits(data: bytes, chain: Chain, fingerprint: str) -> None:
    """Refuse a signature that could not count, or a statement that could not be accepted."""
    state = None if chain.state is None else settled(chain.state, now())
    owners = () if state is None else tuple(state.charter.owners)
    signed = verify_statement(data, owners)
    if fingerprint not in signed.signers:
        raise IntegrityError(DsseCode.SIGNER_UNKNOWN, f"{fingerprint} is no owner's key")
    try:
        if state is None:
            begin(signed, signed.digest, now())
        else:
            apply(state, signed, now())
    except PolicyDenied as exc:
        if exc.code is not StatementCode.STATEMENT_TOO_FEW_SIGNATURES:
            raise
