"""Revocation lists: required means required, and any tolerates absence and age only."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from regalia.appraisal.claims import Revocation
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki.crl import CRL_MAX
from regalia.core.errors import RegaliaError
from regalia.tees.snp.evidence import SnpCollateral
from regalia_testing.der import SignatureScheme, integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia_testing.der import CrlSpec
    from regalia_testing.tees.snp.testbed import SnpTestbed

SECOND = timedelta(seconds=1)
REQUIRED, ANY = RevocationRule.REQUIRED, RevocationRule.ANY
RULES = [REQUIRED, ANY]
OID_DELTA_CRL = "2.5.29.27"
OID_CRL_NUMBER = "2.5.29.20"
OID_ISSUING_DISTRIBUTION_POINT = "2.5.29.28"


class Lists:
    """CRLs of one testbed, and the verdict under them."""

    def __init__(self, testbed: SnpTestbed) -> None:
        self.testbed = testbed
        self.authority = testbed.platform.authority
        self.good: CrlSpec = self.authority.crl()

    def signed(self, **change: Any) -> bytes:  # noqa: ANN401 - fields of CrlSpec
        return replace(self.good, **change).sign(self.authority.keys.ark)

    def verdict(self, rule: RevocationRule, *crls: bytes, kind: str = "vcek") -> str:
        collateral = SnpCollateral(self.testbed.platform.collateral().intermediates, crls)
        testbed = replace(self.testbed, rule=CollateralRule(rule, NO_GRACE))
        try:
            claims = testbed.verify(testbed.evidence(signing_key=kind), collateral=collateral)
        except RegaliaError as refusal:
            return refusal.code.name
        return claims.revocation.value


@pytest.fixture
def lists(testbed: SnpTestbed) -> Lists:
    return Lists(testbed)


@pytest.mark.parametrize("rule", RULES)
def test_a_current_list_is_checked_under_both_rules(lists: Lists, rule: RevocationRule) -> None:
    assert lists.verdict(rule, lists.signed()) == Revocation.CHECKED.value


def test_no_list(lists: Lists) -> None:
    assert lists.verdict(REQUIRED) == "CRL_MISSING"
    assert lists.verdict(ANY) == Revocation.UNKNOWN.value


def test_only_the_list_of_another_product(
    lists: Lists, testbed_of: Callable[[str], SnpTestbed]
) -> None:
    other = testbed_of("Turin").platform.crl
    assert lists.verdict(REQUIRED, other) == "CRL_MISSING"
    assert lists.verdict(ANY, other) == Revocation.UNKNOWN.value
    assert lists.verdict(REQUIRED, other, lists.signed()) == Revocation.CHECKED.value


def test_dates(lists: Lists) -> None:
    now = lists.testbed.now
    edge = lists.signed(this_update=now, next_update=now)
    assert lists.verdict(REQUIRED, edge) == Revocation.CHECKED.value
    for stale in (
        lists.signed(next_update=now - SECOND),
        lists.signed(this_update=now + SECOND, next_update=now + 2 * SECOND),
        lists.signed(next_update=None),
    ):
        assert lists.verdict(REQUIRED, stale) == "CRL_STALE"
        assert lists.verdict(ANY, stale) == Revocation.UNKNOWN.value
        assert lists.verdict(REQUIRED, stale, lists.signed()) == Revocation.CHECKED.value


@pytest.mark.parametrize("rule", RULES)
def test_listed_serials(lists: Lists, rule: RevocationRule) -> None:
    authority = lists.authority
    ask, asvk, ark = authority.ask().serial, authority.asvk().serial, authority.ark().serial
    assert lists.verdict(rule, lists.signed(serials=(ask,))) == "CERT_REVOKED"
    assert lists.verdict(rule, lists.signed(serials=(1, ask, 2))) == "CERT_REVOKED"
    assert lists.verdict(rule, lists.signed(serials=(ark,))) == "CERT_REVOKED"
    assert lists.verdict(rule, lists.signed(serials=(asvk,))) == Revocation.CHECKED.value
    assert lists.verdict(rule, lists.signed(serials=(asvk,)), kind="vlek") == "CERT_REVOKED"
    assert lists.verdict(rule, lists.signed(serials=(1, 2))) == Revocation.CHECKED.value
    # AMD's leaves all have serial number 0 and another issuer: such an entry is not theirs.
    assert lists.verdict(rule, lists.signed(serials=(0,))) == Revocation.CHECKED.value


@pytest.mark.parametrize("rule", RULES)
def test_a_revocation_counts_in_whichever_list_it_stands(
    lists: Lists, rule: RevocationRule
) -> None:
    serials = (lists.authority.ask().serial,)
    old = lists.signed(serials=serials, next_update=lists.testbed.now - SECOND)
    assert lists.verdict(rule, old, lists.signed()) == "CERT_REVOKED"
    assert lists.verdict(rule, lists.signed(), old) == "CERT_REVOKED"
    assert lists.verdict(rule, old) == "CERT_REVOKED"


@pytest.mark.parametrize("rule", RULES)
def test_signatures(lists: Lists, rule: RevocationRule) -> None:
    keys = lists.authority.keys
    for forged in (
        lists.good.sign(keys.ask),
        lists.signed(scheme=SignatureScheme(padding="pkcs1v15")),
        lists.signed(scheme=SignatureScheme(digest="sha256", salt=32)),
        lists.signed(scheme=SignatureScheme(salt=32)),
    ):
        assert lists.verdict(rule, forged) == "CRL_SIG_INVALID"
        assert lists.verdict(rule, lists.signed(), forged) == "CRL_SIG_INVALID"


def test_a_removed_entry_breaks_the_signature(lists: Lists) -> None:
    listed = lists.signed(serials=(lists.authority.ask().serial,))
    other = listed.replace(
        integer(lists.authority.ask().serial), integer(lists.authority.ask().serial + 1)
    )
    assert other != listed
    assert lists.verdict(REQUIRED, other) == "CRL_SIG_INVALID"


def test_partial_lists_do_not_count(lists: Lists) -> None:
    for oid in (OID_DELTA_CRL, OID_ISSUING_DISTRIBUTION_POINT):
        octets = integer(1) if oid == OID_DELTA_CRL else b"\x30\x00"
        partial = lists.signed(extensions=((oid, True, octets),))
        assert lists.verdict(REQUIRED, partial) in {"CRL_MISSING", "MALFORMED"}
    numbered = lists.signed(extensions=((OID_CRL_NUMBER, False, integer(7)),))
    assert lists.verdict(REQUIRED, numbered) == Revocation.CHECKED.value


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("alter", "code"),
    [
        (lambda der: der + b"\x00", "MALFORMED"),
        (lambda der: der[:-1], "MALFORMED"),
        (lambda _: b"", "MALFORMED"),
        (lambda _: b"-----BEGIN X509 CRL-----", "MALFORMED"),
        (lambda _: bytes(CRL_MAX + 1), "TOO_LARGE"),
    ],
    ids=["trailing byte", "truncated", "empty", "PEM", "oversized"],
)
def test_hostile_lists(
    lists: Lists, rule: RevocationRule, alter: Callable[[bytes], bytes], code: str
) -> None:
    assert lists.verdict(rule, alter(lists.signed())) == code


def test_duplicate_extensions_in_a_list(lists: Lists) -> None:
    number = (OID_CRL_NUMBER, False, integer(7))
    assert lists.verdict(REQUIRED, lists.signed(extensions=(number, number))) == "MALFORMED"


def test_flipped_bits_in_a_list_never_pass(lists: Lists) -> None:
    good = lists.signed(serials=(1,))
    for position in range(0, len(good), 9):
        altered = bytearray(good)
        altered[position] ^= 1 << position % 8
        verdict = lists.verdict(REQUIRED, bytes(altered))
        assert verdict != Revocation.CHECKED.value, position
