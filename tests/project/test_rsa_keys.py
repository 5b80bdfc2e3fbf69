"""The quick RSA keys of tests are distinct, whole, and of the size asked for."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from tests.rsa_keys import EXPONENT, RelatedRsaKeys

BITS = 1024


def primes_of(*keys: rsa.RSAPrivateKey) -> set[int]:
    return {p for key in keys for p in (key.private_numbers().p, key.private_numbers().q)}


def test_tests_get_them() -> None:
    keys = [rsa.generate_private_key(EXPONENT, BITS) for _ in range(8)]
    assert len(primes_of(*keys)) < 16


def test_no_key_is_given_twice() -> None:
    related = RelatedRsaKeys()
    keys = [related.generate(EXPONENT, BITS) for _ in range(11)]
    assert {key.key_size for key in keys} == {BITS}
    assert {key.public_key().public_numbers().e for key in keys} == {EXPONENT}
    assert len({key.public_key().public_numbers().n for key in keys}) == 11
    assert len(primes_of(*keys)) == 6
    for key in keys:  # loading checks that the numbers belong together
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        load_der_private_key(der, None)


def test_sizes_are_kept_apart() -> None:
    related = RelatedRsaKeys()
    keys = [related.generate(EXPONENT, bits) for bits in (BITS, 2048, BITS, 2048)]
    assert [key.key_size for key in keys] == [BITS, 2048, BITS, 2048]


def test_another_exponent_is_what_was_asked_for() -> None:
    key = RelatedRsaKeys().generate(3, BITS)
    assert key.public_key().public_numbers().e == 3
