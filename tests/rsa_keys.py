"""RSA keys for tests, many of which cost little more than one."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

EXPONENT = 65537
_fresh_key = rsa.generate_private_key


class RelatedRsaKeys:
    """Distinct keys, each the product of another pair out of few primes.

    Ten primes give 45 keys. Whoever sees the public halves of two keys may find their common
    prime, and with it both private halves: good for tests whose keys protect nothing, and for
    nothing else.
    """

    def __init__(self) -> None:
        self._primes: dict[int, list[int]] = defaultdict(list)  # by the size of keys, in bits
        self._given: dict[int, int] = defaultdict(int)

    def generate(
        self,
        public_exponent: int,
        key_size: int,
        backend: Any = None,  # noqa: ANN401, ARG002 - as the function whose place it takes
    ) -> rsa.RSAPrivateKey:
        """The next key of that size. No pair of primes is used twice."""
        if public_exponent != EXPONENT:
            return _fresh_key(public_exponent, key_size)
        primes, number = self._primes[key_size], self._given[key_size]
        self._given[key_size] += 1
        # Pairs in the order (0, 1), (0, 2), (1, 2), (0, 3): all of known primes before a new one.
        higher = (1 + math.isqrt(1 + 8 * number)) // 2
        while len(primes) <= higher:
            fresh = _fresh_key(EXPONENT, key_size).private_numbers()
            primes += (fresh.p, fresh.q)
        return _key_of(primes[higher], primes[number - higher * (higher - 1) // 2])


def _key_of(p: int, q: int) -> rsa.RSAPrivateKey:
    exponent = pow(EXPONENT, -1, math.lcm(p - 1, q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=exponent,
        dmp1=exponent % (p - 1),
        dmq1=exponent % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(EXPONENT, p * q),
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)
