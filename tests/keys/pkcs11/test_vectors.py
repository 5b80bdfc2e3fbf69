"""A real token computes what the specification says, and refuses what it says."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from pkcs11.constants import Attribute, MechanismFlag, ObjectClass
from pkcs11.mechanisms import KeyType

from regalia.core.errors import KeyAccessError
from regalia.core.secret import SecretBytes
from regalia.crypto.key_wrapping import open_wrapped
from regalia.keys.pkcs11 import kek as keks
from regalia.keys.pkcs11.wrapping import find_suite, imported, unwrapped, wrap, wrap_to
from tests.keys.pkcs11.records import runtime
from tests.keys.pkcs11.tokens import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11.types import SecretKey, Session

    from regalia_testing.soft_token import SoftToken

VECTORS = Path(__file__).parents[2] / "vectors" / "pkcs11"
VECTOR: dict[str, str] = json.loads((VECTORS / "wrapped-key.json").read_text())
REFUSED: dict[str, dict[str, str]] = json.loads((VECTORS / "wrapped-key-refused.json").read_text())
READABLE: dict[Attribute, Any] = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}


def of(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


@contextmanager
def known_kek(token: SoftToken) -> Iterator[tuple[Session, SecretKey]]:
    """The vector's KEK as a session object. The product refuses it, because it was imported."""
    connection = connect(token)
    try:
        with connection.session("trying a vector") as session:
            key = session.create_object(
                {
                    Attribute.CLASS: ObjectClass.SECRET_KEY,
                    Attribute.KEY_TYPE: KeyType.AES,
                    Attribute.TOKEN: False,
                    Attribute.SENSITIVE: True,
                    Attribute.EXTRACTABLE: False,
                    Attribute.DERIVE: True,
                    Attribute.VALUE: of("kek"),
                }
            )
            yield session, cast("SecretKey", key)
    finally:
        connection.close()


def test_a_token_gives_the_vector(empty_token: SoftToken) -> None:
    with known_kek(empty_token) as (session, kek):
        suite = find_suite(session)
        assert str(keks.identity_of(kek, suite.kwp)) == VECTOR["id"]
        data = of("derived_for")
        with keks.derived_key(kek, data, MechanismFlag(0), READABLE) as derived:
            assert derived[Attribute.VALUE] == of("wrapping_key")
        with (
            SecretBytes(bytearray(of("model_key"))) as model_key,
            imported(session, model_key) as inside,
        ):
            assert wrap(kek, inside, of("context"), suite) == of("blob")


def test_a_token_opens_the_vector(empty_token: SoftToken) -> None:
    with known_kek(empty_token) as (session, kek):
        suite = find_suite(session)
        with unwrapped(kek, of("blob"), of("context"), suite) as inside:
            out = wrap_to(session, inside, runtime().private.public_key(), suite)
        sealed = SecretBytes(bytearray(out))
        with open_wrapped(suite.key_wrapping, sealed, runtime().private) as key:
            assert key.view() == of("model_key")


def test_a_token_refuses_every_defect(empty_token: SoftToken) -> None:
    assert len(REFUSED) > 10
    with known_kek(empty_token) as (session, kek):
        suite = find_suite(session)
        for name, case in REFUSED.items():
            blob = bytes.fromhex(case["blob"])
            with (
                pytest.raises(KeyAccessError) as caught,
                unwrapped(kek, blob, of("context"), suite),
            ):
                raise AssertionError(name)
            assert caught.value.code.name == case["code"], name
