"""Certificates as hostile bytes, and AMD's serial number zero."""

from __future__ import annotations

import hashlib
import threading
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki.certificates import (
    CERTIFICATE_MAX,
    SERIAL_ZERO_WARNING,
    parse_certificate,
)
from regalia.core.errors import ParseError, RegaliaError
from regalia.tees.snp.evidence import SnpCollateral
from regalia.tees.snp.evidence.chain import CERTIFICATES_MAX
from regalia_testing.der import SignatureScheme
from regalia_testing.tees.snp.testbed import chain_of, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.tees.snp.testbed import SnpChain, SnpTestbed


@pytest.fixture
def chain(testbed: SnpTestbed) -> SnpChain:
    return chain_of(testbed)


@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (lambda der: der + b"\x00", "MALFORMED"),
        (lambda der: der[:-1], "MALFORMED"),
        (lambda _: b"", "MALFORMED"),
        (lambda _: b"-----BEGIN CERTIFICATE-----", "MALFORMED"),
        (lambda _: b"\x30" * (CERTIFICATE_MAX + 1), "TOO_LARGE"),
    ],
    ids=["trailing byte", "truncated", "empty", "PEM", "oversized"],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_hostile_certificates(
    testbed: SnpTestbed, alter: Callable[[bytes], bytes], code: str, position: int
) -> None:
    evidence = testbed.evidence()
    chain = list(evidence.endorsements)
    chain[position] = alter(chain[position])
    refused(code, lambda: testbed.verify(replace(evidence, endorsements=tuple(chain))))


def test_too_many_certificates(testbed: SnpTestbed) -> None:
    strangers = tuple(n.to_bytes(2, "big") for n in range(CERTIFICATES_MAX))
    crowd = SnpCollateral(strangers, ())
    lenient = replace(testbed, rule=CollateralRule(RevocationRule.ANY, NO_GRACE))
    refused("TOO_LARGE", lambda: lenient.verify(testbed.evidence(), collateral=crowd))


def test_flipped_bits_in_certificates_never_pass(testbed: SnpTestbed) -> None:
    """Nor do those outside the signed part: one certificate has one encoding."""
    evidence = testbed.evidence()
    alone = SnpCollateral((), (testbed.platform.crl,))
    testbed.verify(evidence, collateral=alone)
    for which in range(3):
        der = evidence.endorsements[which]
        unsigned = range(len(der) - 600, len(der) - 500)  # the outer signatureAlgorithm
        for position in (*range(0, len(der), 11), *unsigned):
            altered = bytearray(der)
            altered[position] ^= 1 << position % 8
            chain = list(evidence.endorsements)
            chain[which] = bytes(altered)
            with pytest.raises(RegaliaError):
                testbed.verify(replace(evidence, endorsements=tuple(chain)), collateral=alone)


def test_leaves_have_serial_number_zero(testbed: SnpTestbed) -> None:
    """Canary: when this fails, `cryptography` has changed how it treats AMD's certificates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert x509.load_der_x509_certificate(testbed.platform.leaf()).serial_number == 0
    with pytest.warns(CryptographyDeprecationWarning, match=SERIAL_ZERO_WARNING):
        x509.load_der_x509_certificate(testbed.platform.leaf())


def test_parsing_a_leaf_warns_nobody_and_changes_no_filters(testbed: SnpTestbed) -> None:
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inside = list(warnings.filters)
        assert parse_certificate(testbed.platform.leaf(), what="leaf").serial == 0
        assert warnings.filters == inside
    assert caught == []
    assert warnings.filters == before


def test_parsing_in_threads(testbed: SnpTestbed) -> None:
    leaf = testbed.platform.leaf()
    digests: list[bytes] = []

    def work() -> None:
        for _ in range(50):
            digests.append(hashlib.sha256(parse_certificate(leaf, what="leaf").tbs).digest())  # noqa: PERF401 - appended as threads go

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 200
    assert len(set(digests)) == 1


def test_versions_and_serial_numbers_out_of_range(chain: SnpChain, testbed: SnpTestbed) -> None:
    signer = testbed.platform.authority.keys.ask
    good = chain.leaf.sign(signer)
    assert parse_certificate(good, what="leaf").serial == 0
    negative = good.replace(
        b"\xa0\x03\x02\x01\x02\x02\x01\x00", b"\xa0\x03\x02\x01\x02\x02\x01\x80", 1
    )
    assert negative != good
    for strange in (negative, replace(chain.leaf, version=5).sign(signer)):
        with pytest.raises(ParseError):
            parse_certificate(strange, what="leaf")


class Misdeclared(SignatureScheme):
    """Signed AMD's way, and said to be signed otherwise."""

    def algorithm(self) -> bytes:
        return SignatureScheme(padding="pkcs1v15").algorithm()


def test_the_declared_algorithm_counts(chain: SnpChain, testbed: SnpTestbed) -> None:
    misdeclared = Misdeclared()
    for which in ("ark", "ask", "leaf"):
        altered = replace(getattr(chain, which), scheme=misdeclared)
        refused("CHAIN_INVALID", replace(chain, **{which: altered}).verify)
    authority = testbed.platform.authority
    crl = replace(authority.crl(), scheme=misdeclared).sign(authority.keys.ark)
    collateral = SnpCollateral((), (crl,))
    refused("CRL_SIG_INVALID", lambda: testbed.verify(testbed.evidence(), collateral=collateral))


def test_signatures_have_no_unused_bits(testbed: SnpTestbed) -> None:
    """A signature that ends in a zero bit reads the same with one bit declared unused."""
    authority = testbed.platform.authority
    header = b"\x03\x82\x02\x01"  # BIT STRING of 513 bytes: the count of unused bits, then RSA-4096

    def with_unused_bit(sign: Callable[[], bytes]) -> bytes:
        der = next(der for der in iter(sign, b"") if not der[-1] & 1)
        assert der[-517:-513] == header
        return der[:-513] + b"\x01" + der[-512:]

    ask = with_unused_bit(lambda: authority.ask().sign(authority.keys.ark))
    assert x509.load_der_x509_certificate(ask).signature == ask[-512:]
    refused("MALFORMED", lambda: parse_certificate(ask, what="ASK"))
    crl = with_unused_bit(lambda: authority.crl().sign(authority.keys.ark))
    collateral = SnpCollateral((), (crl,))
    refused("MALFORMED", lambda: testbed.verify(testbed.evidence(), collateral=collateral))
