"""RSA keys of simulated authorities and machines, and a quick way to many of them for tests."""

from __future__ import annotations

import math
from collections import defaultdict

from cryptography.hazmat.primitives.asymmetric import rsa

_EXPONENT = 65537


def new_rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """A fresh key. One of 4096 bits takes half a second and more."""
    return rsa.generate_private_key(_EXPONENT, bits)


class RelatedRsaKeys:
    """Distinct keys, each the product of another pair out of few primes.

    Ten primes give 45 keys, so that many authorities cost little more than one. Whoever sees the
    public halves of two keys may find their common prime, and with it both private halves: good
    for tests whose keys protect nothing, and for nothing else.
    """

    def __init__(self) -> None:
        self._primes: dict[int, list[int]] = defaultdict(list)  # by the size of keys, in bits
        self._given: dict[int, int] = defaultdict(int)

    def key(self, bits: int) -> rsa.RSAPrivateKey:
        """The next key. No pair of primes is used twice."""
        primes, number = self._primes[bits], self._given[bits]
        self._given[bits] += 1
        # Pairs in the order (0, 1), (0, 2), (1, 2), (0, 3): all of known primes before a new one.
        higher = (1 + math.isqrt(1 + 8 * number)) // 2
        while len(primes) <= higher:
            fresh = rsa.generate_private_key(_EXPONENT, bits).private_numbers()
            primes += (fresh.p, fresh.q)
        return _key_of(primes[higher], primes[number - higher * (higher - 1) // 2])


def _key_of(p: int, q: int) -> rsa.RSAPrivateKey:
    exponent = pow(_EXPONENT, -1, math.lcm(p - 1, q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=exponent,
        dmp1=exponent % (p - 1),
        dmq1=exponent % (q - 1),
        iqmp=pow(q, -1, p),
        public_numbers=rsa.RSAPublicNumbers(_EXPONENT, p * q),
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)
