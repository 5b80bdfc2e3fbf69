"""No small change of a quote, of its certificates or of collateral is ever accepted."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.core.errors import AttestationError, ParseError
from regalia.tees.intel.evidence.wire import parse_quote
from regalia.verifier.collateral import parse_collateral
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.mutation import dropped, duplicated, every_flip, none_accepted, reordered
from regalia_testing.tees.intel.quotes import Workload, pem_chain, sign_quote, td_report
from regalia_testing.testbed import REPORT_DATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from regalia_testing.tees.intel.testbed import IntelTestbed


def evidences(
    evidence: Evidence, quotes: Iterator[tuple[str, bytes]]
) -> Iterator[tuple[str, Evidence]]:
    for what, quote in quotes:
        yield what, replace(evidence, report=quote)


@pytest.mark.parametrize(
    ("tee", "version"), [(Tee.TDX, 4), (Tee.TDX, 5), (Tee.SGX, 3)], ids=["v4", "v5", "v3"]
)
def test_every_byte_of_a_quote(testbed: IntelTestbed, tee: Tee, version: int) -> None:
    """Signed part, signatures, keys, lengths, PEM text and the zeros behind: one bit of each."""
    verify = testbed.warm().verify
    evidence = testbed.evidence(tee, version=version, trailing_zeros=8)
    verify(evidence)
    codes = none_accepted(verify, evidences(evidence, every_flip(evidence.report)))
    assert {"SIGNATURE_INVALID", "QE_BINDING_MISMATCH", "TRAILING_DATA", "CHAIN_INVALID"} <= codes


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_certificates_left_out_doubled_and_swapped(testbed: IntelTestbed, tee: Tee) -> None:
    verify = testbed.warm().verify
    evidence = testbed.evidence(tee)
    quote = parse_quote(evidence.report)
    blocks = re.findall(rb"-----BEGIN.+?-----END CERTIFICATE-----\n", quote.qe.pck_chain, re.DOTALL)
    assert len(blocks) == 3

    def changed(chains: Iterator[tuple[str, Sequence[bytes]]]) -> Iterator[tuple[str, Evidence]]:
        for what, chain in chains:
            altered = replace(quote, qe=replace(quote.qe, pck_chain=b"".join(chain) + b"\x00"))
            yield what, replace(evidence, report=altered.encode())

    for change in (dropped, duplicated, reordered):
        codes = none_accepted(verify, changed(change(blocks)))
        assert codes <= {"CHAIN_INVALID", "ROOT_UNTRUSTED", "TOO_LARGE"}


def test_parts_of_two_good_quotes(testbed: IntelTestbed) -> None:
    """Each part is genuine; together they are nobody's."""
    verify = testbed.warm().verify
    one, other = testbed.evidence(), testbed.evidence(wrong_measurement=True)
    first, second = parse_quote(one.report), parse_quote(other.report)
    for part in ("signature", "body"):
        mixed = replace(first, **{part: getattr(second, part)})
        with pytest.raises(AttestationError) as refusal:
            verify(replace(one, report=mixed.encode()))
        assert refusal.value.code.name == "SIGNATURE_INVALID"
    sgx = parse_quote(testbed.evidence(Tee.SGX).report)
    enclave = replace(
        first.qe,
        qe_report=sgx.qe.qe_report,
        qe_report_signature=sgx.qe.qe_report_signature,
    )
    mixed = replace(first, qe=enclave)
    with pytest.raises(AttestationError) as refusal:  # the quoting enclave for SGX
        verify(replace(one, report=mixed.encode()))
    assert refusal.value.code.name == "QE_IDENTITY_MISMATCH"


def test_a_chain_under_another_root(testbed: IntelTestbed) -> None:
    """An attacker's own Intel, with the platform's certificate or root mixed in."""
    platform = testbed.platform
    attacker = type(platform).make(now=testbed.now)
    defects = testbed.defects()
    workload = Workload(REPORT_DATA, bytes(48), bytes(48))
    verify = testbed.warm().verify
    mine, theirs = attacker.authority, platform.authority
    facts = attacker.facts()
    chains = {
        "ROOT_UNTRUSTED": pem_chain(mine.pck(facts), mine.pck_ca(), mine.root()),
        "CHAIN_INVALID": pem_chain(mine.pck(facts), mine.pck_ca(), theirs.root()),
    }
    for code, chain in chains.items():
        quote = sign_quote(
            td_report(workload, defects),
            keys=mine.keys,
            chain=chain,
            cpu_svn=facts.cpu_svn,
            defects=defects,
        )
        with pytest.raises(AttestationError) as refusal:
            verify(Evidence(Tee.TDX, quote, (), b""))
        assert refusal.value.code.name == code


@pytest.mark.parametrize("name", ["tcb-info-tdx.json", "td-qe-identity.json"])
def test_every_byte_of_signed_collateral(testbed: IntelTestbed, name: str) -> None:
    evidence = testbed.evidence()
    data = testbed.files[name]
    verify = testbed.verify_with(name, evidence)
    verify(data)
    codes = none_accepted(verify, every_flip(data))
    assert "COLLATERAL_SIG_INVALID" in codes


@pytest.mark.parametrize("name", ["root.crl", "platform.crl", "chain.pem"])
def test_every_byte_of_lists_and_issuer_chains(testbed: IntelTestbed, name: str) -> None:
    """PEM in an operator's file may stand in any text, so only what changes a value counts.

    PCK CAs are left out of the chain: each quote brings its own, so nobody would miss them.
    """
    evidence = testbed.evidence()
    authority = testbed.platform.authority
    testbed = testbed.with_file("chain.pem", pem_chain(authority.tcb_signing(), authority.root()))
    testbed = testbed.with_file("root.der", None)
    testbed.verify(evidence)
    data = testbed.files[name]
    original = parse_collateral({name: data})
    values = {*original.certificates, *original.crls}

    def mutants() -> Iterator[tuple[str, bytes]]:
        for what, altered in every_flip(data):
            try:
                found = parse_collateral({name: altered})
                if values >= {*found.certificates, *found.crls}:
                    continue
            except ParseError:
                pass
            yield what, altered

    verify = testbed.verify_with(name, evidence)
    verify(data)
    none_accepted(verify, mutants())


@pytest.fixture(scope="module")
def one_quote(testbed: IntelTestbed) -> Evidence:
    return testbed.evidence(trailing_zeros=4)


@pytest.fixture(scope="module")
def verify(testbed: IntelTestbed, one_quote: Evidence) -> Callable[[Evidence], object]:
    made = testbed.warm().verify
    made(one_quote)
    return made


@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_any_byte_of_a_quote(
    verify: Callable[[Evidence], object], one_quote: Evidence, where: float, change: int
) -> None:
    altered = bytearray(one_quote.report)
    altered[int(where * len(altered))] ^= change
    with pytest.raises((ParseError, AttestationError)):
        verify(replace(one_quote, report=bytes(altered)))


@given(report=st.binary(max_size=600))
@settings(deadline=None)
def test_hostile_reports(verify: Callable[[Evidence], object], report: bytes) -> None:
    for tee in (Tee.TDX, Tee.SGX):
        with pytest.raises(ParseError):
            verify(Evidence(tee, report, (), b""))
