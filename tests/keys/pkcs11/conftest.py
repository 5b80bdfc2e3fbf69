"""Tokens for tests, with one KEK each."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from regalia_testing.soft_token import SoftToken
from tests.keys.pkcs11.tokens import add_kek, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.keys.pkcs11.store import Pkcs11KeyStore


@pytest.fixture
def empty_token() -> SoftToken:
    return SoftToken.make(f"t{secrets.token_hex(6)}")


@pytest.fixture
def token(empty_token: SoftToken) -> SoftToken:
    """A token with the KEKs ``one`` and ``two``."""
    add_kek(empty_token, "one")
    add_kek(empty_token, "two")
    return empty_token


@pytest.fixture
def store(token: SoftToken) -> Iterator[Pkcs11KeyStore]:
    with opened(token) as store:
        yield store
