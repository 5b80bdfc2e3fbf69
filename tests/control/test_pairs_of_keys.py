"""Owners whose keys are pairs with ML-DSA-65: what they sign still fits, and both parts count."""

from __future__ import annotations

from datetime import timedelta

import pytest

from regalia.control.fold import begin
from regalia.control.verify import verify_statement
from regalia.core.clock import rfc3339
from regalia.core.codec import b64
from regalia.core.errors import IntegrityError
from regalia.core.types import Digest
from regalia.crypto import dsse
from regalia.crypto.composite import ML_DSA_SIGNATURE_SIZE
from regalia.crypto.sign import SigningKey
from regalia.wire.statement import (
    ENTRY_LIMIT,
    FORMAT,
    NO_STATEMENT,
    PAYLOAD_TYPE,
    Charter,
    Owner,
    Statement,
    log_statement,
    parse_log_statement,
)
from regalia_testing.statements import BEGAN

OWNERS = 5


def charter(keys: list[SigningKey]) -> Statement:
    owners = [
        Owner(key=b64(key.verify_key.spki), name=f"owner{number}", role="answers for it")
        for number, key in enumerate(keys)
    ]
    return Statement(
        format=FORMAT,
        tenant="acme",
        sequence=1,
        previous=str(NO_STATEMENT),
        time=rfc3339(BEGAN),
        not_before=None,
        expires=rfc3339(BEGAN + timedelta(days=3)),
        action=Charter(owners=owners, threshold=3, delays={}),
    )


def test_five_owners_with_pairs_fit_into_an_entry() -> None:
    keys = [SigningKey.generate_ml_dsa_65_p384() for _ in range(OWNERS)]
    statement = charter(keys)
    signed = dsse.sign(PAYLOAD_TYPE, statement.encode(), tuple(keys)).encode()
    verified = verify_statement(signed, ())
    assert begin(verified, Digest.of(statement.encode()), BEGAN).sequence == 1
    entry = log_statement(signed, broker="log.example", time=rfc3339(BEGAN)).encode()
    assert len(entry) <= ENTRY_LIMIT
    assert parse_log_statement(entry).encode() == entry


def test_a_part_of_a_pair_is_no_signature_of_an_owner() -> None:
    keys = [SigningKey.generate_ml_dsa_65_ed25519() for _ in range(3)]
    whole = dsse.sign(PAYLOAD_TYPE, charter(keys).encode(), tuple(keys))
    name, signature = whole.signatures[1]
    cut = (name, signature[:ML_DSA_SIGNATURE_SIZE])
    parts = (whole.signatures[0], cut, whole.signatures[2])
    forged = dsse.Envelope(PAYLOAD_TYPE, whole.unverified_payload, parts).encode()
    with pytest.raises(IntegrityError, match="SIGNATURE_INVALID"):
        verify_statement(forged, ())
