"""The quick RSA keys of simulated authorities are distinct, whole, and of the size asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from regalia_testing.rsa_keys import RelatedRsaKeys, new_rsa_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

BITS = 1024


@pytest.mark.parametrize("make", [new_rsa_key, RelatedRsaKeys().key])
def test_of_the_size_asked_for(make: Callable[[int], RSAPrivateKey]) -> None:
    key = make(BITS)
    assert key.key_size == BITS
    assert key.public_key().public_numbers().e == 65537


def test_no_key_is_given_twice() -> None:
    related = RelatedRsaKeys()
    keys = [related.key(BITS) for _ in range(11)]
    assert len({key.public_key().public_numbers().n for key in keys}) == 11
    assert {key.key_size for key in keys} == {BITS}
    primes = {p for key in keys for p in (key.private_numbers().p, key.private_numbers().q)}
    assert len(primes) == 6
    for key in keys:  # loading checks that the numbers belong together
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        load_der_private_key(der, None)


def test_sizes_are_kept_apart() -> None:
    related = RelatedRsaKeys()
    assert [related.key(bits).key_size for bits in (BITS, 2048, BITS, 2048)] == [BITS, 2048] * 2
