"""The cache remembers parsing and signatures, and nothing that would let a refusal pass."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.pki import Cache, Scheme
from regalia.appraisal.pki.cache import ENTRIES_MAX, REPLAYS_MAX
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.snp.evidence.chain import SCHEMES

if TYPE_CHECKING:
    from regalia_testing.tees.snp.testbed import SnpTestbed


def test_the_same_bytes_are_parsed_once(testbed: SnpTestbed) -> None:
    cache, der = Cache(), testbed.platform.ask
    assert cache.certificate(der, what="ask") is cache.certificate(bytes(bytearray(der)), what="it")
    with pytest.raises(ParseError):
        cache.certificate(der[:-1], what="ask")


def test_a_remembered_signature_is_not_one_for_another_issuer_name_or_scheme(
    testbed: SnpTestbed,
) -> None:
    cache, platform = Cache(), testbed.platform
    ark = cache.certificate(platform.ark, what="ark")
    ask = cache.certificate(platform.ask, what="ask")
    cache.require_issued_by(ask, ark, SCHEMES)
    cache.require_issued_by(ask, ark, SCHEMES)
    for child, issuer, schemes in (
        (ask, ask, SCHEMES),
        (ask, ark, frozenset({Scheme.ECDSA_SHA384})),
        (ask, replace(ark, subject=b"another"), SCHEMES),
    ):
        with pytest.raises(AttestationError, match="CHAIN_INVALID"):
            cache.require_issued_by(child, issuer, schemes)


def test_a_refusal_is_not_remembered(testbed: SnpTestbed) -> None:
    cache, platform = Cache(), testbed.platform
    ark = cache.certificate(platform.ark, what="ark")
    forged = replace(
        cache.certificate(platform.ask, what="ask"), signature=b"\x00" * 512, der=b"forged"
    )
    for _ in range(2):
        with pytest.raises(AttestationError, match="CHAIN_INVALID"):
            cache.require_issued_by(forged, ark, SCHEMES)


def test_hostile_evidence_cannot_make_it_large(testbed: SnpTestbed) -> None:
    cache = Cache()
    ask = cache.certificate(testbed.platform.ask, what="ask")
    for index in range(ENTRIES_MAX + 10):
        cache._parsed[index.to_bytes(4, "big")] = ask
        cache._parsed.pop(index.to_bytes(4, "big")) if len(cache._parsed) > ENTRIES_MAX else None
    cache.certificate(testbed.platform.ark, what="ark")
    assert len(cache._parsed) == 1


def test_evidence_alone_gets_nothing_in(testbed: SnpTestbed) -> None:
    """A flood of certificates that nobody vouches for must not push AMD's out."""
    cache, platform = Cache(), testbed.platform
    for _ in range(2):
        assert cache.certificate_of_evidence(platform.ask, what="ask").der == platform.ask
        assert not cache._parsed
    ark = cache.certificate(platform.ark, what="ark")
    ask = cache.certificate_of_evidence(platform.ask, what="ask")
    cache.require_issued_by(ask, ark, SCHEMES)
    assert cache.certificate_of_evidence(bytes(bytearray(platform.ask)), what="ask") is ask
    with pytest.raises(ParseError):
        cache.certificate_of_evidence(b"\x30", what="noise")


def test_lists_are_parsed_and_verified_once(
    testbed: SnpTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, platform = Cache(), testbed.platform
    ark = cache.certificate(platform.ark, what="ark")
    crl = cache.crl(platform.crl)
    assert cache.crl(bytes(bytearray(platform.crl))) is crl
    cache.require_signed_by(crl, ark, SCHEMES)
    monkeypatch.setattr(
        "regalia.appraisal.pki.cache.require_signed_by", lambda *_: pytest.fail("done before")
    )
    cache.require_signed_by(crl, ark, SCHEMES)


def test_a_remembered_list_is_not_one_for_another_issuer_or_scheme(testbed: SnpTestbed) -> None:
    cache, platform = Cache(), testbed.platform
    ark, ask = (cache.certificate(der, what="it") for der in (platform.ark, platform.ask))
    crl = cache.crl(platform.crl)
    cache.require_signed_by(crl, ark, SCHEMES)
    for issuer, schemes in ((ask, SCHEMES), (ark, frozenset({Scheme.ECDSA_SHA384}))):
        for _ in range(2):
            with pytest.raises(AttestationError, match="CRL_SIG_INVALID"):
                cache.require_signed_by(crl, issuer, schemes)


def test_lists_are_bounded(testbed: SnpTestbed) -> None:
    cache = Cache()
    crl = cache.crl(testbed.platform.crl)
    cache._lists.update({index.to_bytes(4, "big"): crl for index in range(ENTRIES_MAX)})
    cache.crl(bytes(bytearray(testbed.platform.crl)))
    cache._lists.pop(testbed.platform.crl)
    cache.crl(testbed.platform.crl)
    assert len(cache._lists) == 1


def test_a_log_is_replayed_once_for_the_same_registers() -> None:
    cache, made = Cache(), []

    def facts(name: str) -> str:
        made.append(name)
        return name

    for what, log, register, wanted in (
        ("ccel", b"log", b"rtmr", "first"),
        ("ccel", b"log", b"rtmr", "first"),
        ("ccel", b"log", b"another", "other registers"),
        ("ccel", b"lo", b"grtmr", "moved by a byte"),
        ("ccel", b"lot", b"rtmr", "another log, as long"),
        ("tpm boot", b"log", b"rtmr", "other facts"),
    ):
        found = cache.replayed(what, (register,), log, lambda name=wanted: facts(name))  # type: ignore[misc] # the loop's
        assert found == wanted
    assert made == [
        *("first", "other registers", "moved by a byte", "another log, as long", "other facts")
    ]


def test_a_log_that_leads_elsewhere_is_not_remembered() -> None:
    cache = Cache()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cache.replayed("ccel", (), b"log", lambda: 1 // 0)
    assert not cache._replays.known


def test_logs_are_bounded_by_their_bytes_too() -> None:
    cache, large = Cache(), REPLAYS_MAX // 4
    for number in range(4):
        cache.replayed("ccel", (bytes([number]),), bytes(large - 1), lambda: "facts")
    assert (len(cache._replays.known), cache._replays.size) == (4, REPLAYS_MAX)
    cache.replayed("ccel", (), b"log", lambda: "facts")
    assert (len(cache._replays.known), cache._replays.size) == (1, 3)
    cache.replayed("ccel", (), bytes(REPLAYS_MAX + 1), lambda: "facts")
    assert (len(cache._replays.known), cache._replays.size) == (1, 3)
    for number in range(ENTRIES_MAX + 3):
        cache.replayed("ccel", (number.to_bytes(4, "big"),), b"", lambda: "facts")
    assert (len(cache._replays.known), cache._replays.size) == (4, 16)


def test_logs_push_out_no_certificates(testbed: SnpTestbed) -> None:
    cache = Cache()
    cache.derived("it", 1, (b"der",), lambda: "facts")
    cache.certificate(testbed.platform.ark, what="ark")
    for number in range(ENTRIES_MAX + 1):
        cache.replayed("ccel", (number.to_bytes(4, "big"),), b"", lambda: "facts")
    assert (len(cache._derived.known), len(cache._parsed)) == (1, 1)


def test_what_the_operator_holds_counts_as_input_and_not_as_memory() -> None:
    cache = Cache()
    assert cache.derived("it", 1, (b"leaf",), lambda: "one", held=(b"root",)) == "one"
    assert cache.derived("it", 2, (b"leaf",), lambda: "two", held=(b"another",)) == "two"
    assert cache.derived("it", 3, (b"leaf", b"root"), lambda: "three") == "three"
    assert cache.derived("it", 1, (b"leaf",), lambda: "four", held=(b"root",)) == "one"
    assert cache._derived.size == 4 + 4 + 8


def test_a_key_is_where_to_look_and_proves_nothing() -> None:
    """Under one key only the same proof gives the same answer; the last one is kept."""
    cache = Cache()
    for proof, held, wanted in (
        ((b"leaf",), (), "first"),
        ((b"leaf",), (), "first"),
        ((b"leaf", b""), (), "one more"),
        ((b"le", b"af"), (), "cut elsewhere"),
        ((b"leaf",), (b"root",), "another root"),
        ((b"longer leaf",), (), "another leaf"),
        ((b"leaf",), (), "first again"),
    ):
        assert cache.derived("it", "key", proof, lambda: wanted, held=held) == wanted  # noqa: B023 - called at once
    assert (len(cache._derived.known), cache._derived.size) == (1, 4)
    assert cache.derived("another", "key", (b"leaf",), lambda: "else") == "else"
    nothing: list[int] = []
    for _ in range(2):
        assert cache.derived("none", "key", (), lambda: nothing.append(1)) is None  # type: ignore[func-returns-value]
    assert nothing == [1]
