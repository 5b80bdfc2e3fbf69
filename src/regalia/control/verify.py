"""Verifies who signed a statement. Whether that is enough, ``quorum`` and ``state`` say."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.core.codec import at_most
from regalia.core.errors import IntegrityError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.crypto.dsse import DsseCode
from regalia.wire.statement import ENVELOPE_LIMIT, PAYLOAD_TYPE, Charter, parse_statement

if TYPE_CHECKING:
    from regalia.wire.statement import Owner, Statement

# Catches honest mistakes as appraisal.claims.MINT does; no wall against hostile code.
_MINT = object()


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement whose signatures verify. Only ``verify_statement`` makes it.

    Attributes:
        statement: the statement.
        digest: of its payload.
        signers: fingerprints of the keys that signed; at least one.
        envelope: the exact bytes.
    """

    statement: Statement
    digest: Digest
    signers: frozenset[str]
    envelope: bytes
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("signed statements come from verify_statement")


def read_unverified(data: bytes) -> tuple[dsse.Envelope, Statement]:
    """Parse a statement without verifying who signed it: for showing, never for deciding.

    Args:
        data: a DSSE envelope, raw, untrusted.

    Raises:
        ParseError: the envelope or the statement is malformed.
        IntegrityError: WRONG_PAYLOAD_TYPE.
    """
    at_most(data, ENVELOPE_LIMIT, what="signed statement")
    envelope = dsse.parse_envelope(data, what="signed statement")
    if envelope.payload_type != PAYLOAD_TYPE:
        raise IntegrityError(
            DsseCode.WRONG_PAYLOAD_TYPE,
            f"want {PAYLOAD_TYPE}, got {envelope.payload_type[:100]!r}",
        )
    return envelope, parse_statement(envelope.unverified_payload)


def who_may_sign(statement: Statement, owners: tuple[Owner, ...]) -> tuple[Owner, ...]:
    """Everybody whose signature a statement may carry.

    Args:
        statement: the statement.
        owners: of the charter in force; empty if there is none.
    """
    new = statement.action.owners if isinstance(statement.action, Charter) else ()
    return (*owners, *new)


def verify_statement(data: bytes, owners: tuple[Owner, ...]) -> SignedStatement:
    """Verify every signature of a statement.

    Args:
        data: a DSSE envelope, raw, untrusted.
        owners: of the charter in force; empty if there is none. The owners that a charter itself
            names may have signed too.

    Raises:
        ParseError: the envelope or the statement is malformed.
        IntegrityError: UNSIGNED; SIGNER_UNKNOWN, also if only one of several is no owner;
            SIGNATURE_INVALID or WRONG_PAYLOAD_TYPE.
    """
    envelope, statement = read_unverified(data)
    known = {each.fingerprint: each.verify_key() for each in who_may_sign(statement, owners)}
    signers = [keyid for keyid, _ in envelope.signatures]
    for keyid in signers:
        if keyid not in known:
            raise IntegrityError(
                DsseCode.SIGNER_UNKNOWN, f"signed by {keyid[:80]!r}, which is no owner's key"
            )
    envelope.verify(PAYLOAD_TYPE, tuple(known.values()), threshold=1)
    return SignedStatement(
        statement, Digest.of(envelope.unverified_payload), frozenset(signers), data, _MINT
    )
