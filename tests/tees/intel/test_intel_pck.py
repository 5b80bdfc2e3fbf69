"""The SGX extension of PCK certificates, and the rules for Intel's certificates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from regalia.appraisal.pki import Cache, parse_certificate, parse_pem_certificates
from regalia.core.errors import AttestationError, ParseError, RegaliaError
from regalia.tees.intel.evidence.chain import (
    require_pck_ca,
    require_root,
    require_tcb_signing,
    verify_pck,
)
from regalia.tees.intel.evidence.pck import OID_SGX, read_pck
from regalia.tees.intel.evidence.wire import parse_quote
from regalia_testing.mutation import none_accepted, truncated
from regalia_testing.tees.intel.authority import sgx_extension
from regalia_testing.tees.intel.quotes import pem_chain
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.intel.strategies import pck_facts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.tees.intel.evidence.pck import PckFacts
    from regalia_testing.tees.intel.testbed import IntelTestbed


def read(der: bytes) -> PckFacts:
    """Read the extension's octets, as if they stood in a certificate."""
    oid = x509.ObjectIdentifier(OID_SGX)
    value = x509.UnrecognizedExtension(oid, der)
    certificate: Any = SimpleNamespace(extensions=[SimpleNamespace(oid=oid, value=value)])
    return read_pck(certificate)


@given(facts=pck_facts())
def test_writing_and_reading_are_inverse(facts: PckFacts) -> None:
    assert read(sgx_extension(facts)) == facts


@given(der=st.binary(max_size=200))
def test_hostile_octets(der: bytes) -> None:
    with pytest.raises(ParseError):
        read(der)


@given(facts=pck_facts(), where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_one_spelling(facts: PckFacts, where: float, change: int) -> None:
    """Whatever one byte becomes: refused, or read as what it now says and nothing else says."""
    der = bytearray(sgx_extension(facts))
    der[int(where * len(der))] ^= change
    try:
        found = read(bytes(der))
    except ParseError:
        return
    assert sgx_extension(found) == bytes(der)


def test_cut_octets(testbed: IntelTestbed) -> None:
    der = sgx_extension(testbed.platform.facts())
    assert none_accepted(read, truncated(der)) == {"MALFORMED"}


def test_an_arc_that_is_there_twice(testbed: IntelTestbed) -> None:
    der = sgx_extension(testbed.platform.facts())
    body = der[4:]
    ppid = body[: body[1] + 2]
    for extra in (ppid, b"\x30\x00", b"\x02\x01\x00"):
        contents = body + extra
        doubled = b"\x30\x82" + len(contents).to_bytes(2, "big") + contents
        with pytest.raises(ParseError):
            read(doubled)


def test_a_pck_without_the_extension(testbed: IntelTestbed) -> None:
    ca = parse_certificate(testbed.platform.authority.pck_ca(), what="x")
    with pytest.raises(AttestationError) as refusal:
        read_pck(ca)
    assert refusal.value.code.name == "LEAF_BINDING_MISMATCH"


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RegaliaError) as refusal:
        call()
    return refusal.value.code.name


def test_each_certificate_has_its_place(testbed: IntelTestbed) -> None:
    """A genuine certificate in another's place is refused."""
    platform, cache = testbed.platform, Cache()
    authority, anchors = platform.authority, platform.anchors()
    root, ca = authority.root(), authority.pck_ca()
    signing, pck = authority.tcb_signing(), authority.pck(platform.facts())
    good = verify_pck(pem_chain(pck, ca, root), anchors=anchors, cache=cache)
    assert good.facts == platform.facts()
    for chain in (
        (signing, ca, root),
        (ca, ca, root),
        (pck, signing, root),
        (pck, root, root),
        (signing, root, root),
        (pck, authority.pck_ca(processor=True), root),
        (pck, ca),
        (pck,),
    ):
        assert (
            refused(lambda chain=chain: verify_pck(pem_chain(*chain), anchors=anchors, cache=cache))
            == "CHAIN_INVALID"
        )
    assert (
        refused(lambda: verify_pck(pem_chain(pck, ca, root, root), anchors=anchors, cache=cache))
        == "TOO_LARGE"
    )
    parsed = {d: parse_certificate(d, what="x") for d in (root, ca, signing, pck)}
    assert (
        refused(lambda: require_root(parsed[ca], anchors=anchors, cache=cache)) == "ROOT_UNTRUSTED"
    )
    for call in (
        lambda: require_pck_ca(parsed[signing], parsed[root], cache=cache),
        lambda: require_tcb_signing(parsed[pck], parsed[root], cache=cache),
    ):
        assert refused(call) == "CHAIN_INVALID"
    require_tcb_signing(parsed[signing], parsed[root], cache=cache)


def test_a_warm_cache_trusts_no_more(testbed: IntelTestbed) -> None:
    """What the cache knows under one root helps nothing under another."""
    cache = Cache()
    chain = testbed.platform.pck_chain()
    verify_pck(chain, anchors=testbed.platform.anchors(), cache=cache)
    other = IntelSimulator.make(now=testbed.now)
    assert (
        refused(lambda: verify_pck(chain, anchors=other.anchors(), cache=cache)) == "ROOT_UNTRUSTED"
    )


PEM_DEFECTS: list[Callable[[bytes], bytes]] = [
    lambda pem: b"\n" + pem,
    lambda pem: pem + b"text",
    lambda pem: pem + b"\x00\x00",
    lambda pem: pem.replace(b"\n", b"", 1),
    lambda pem: pem.replace(b"\n", b"\n\n", 2),
    lambda pem: pem.replace(b"\n", b"\r\n", 1),
    lambda pem: pem.replace(b"\n", b" \n", 3),
    lambda pem: pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
    lambda pem: pem.replace(b"=", b"", 1) if b"=" in pem else pem[1:],
    lambda pem: b"".join(pem.split(b"\n")[1:]),
    lambda _: b"",
    lambda _: b"\x00",
]


@pytest.mark.parametrize("spoil", PEM_DEFECTS)
def test_pem_has_one_spelling(testbed: IntelTestbed, spoil: Callable[[bytes], bytes]) -> None:
    pem = pem_chain(testbed.platform.authority.root(), testbed.platform.authority.pck_ca())
    with pytest.raises(ParseError):
        parse_pem_certificates(spoil(pem), count_max=2, what="x")


def test_pem_as_programs_write_it(testbed: IntelTestbed) -> None:
    ders = (testbed.platform.authority.root(), testbed.platform.authority.pck_ca())
    pem = pem_chain(*ders)
    for text in (
        pem,
        pem + b"\x00",
        pem + b"\n",
        pem.removesuffix(b"\n"),
        pem.replace(b"\n", b"\r\n"),
        pem.replace(b"-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n\n"),
    ):
        assert parse_pem_certificates(text, count_max=2, what="x") == ders
    with pytest.raises(ParseError) as refusal:
        parse_pem_certificates(pem, count_max=1, what="x")
    assert refusal.value.code.name == "TOO_LARGE"


@given(data=st.binary(max_size=200))
def test_hostile_pem(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_pem_certificates(data, count_max=3, what="x")


def test_real_extensions(tdx_vectors: Path) -> None:
    found = {}
    for path in tdx_vectors.glob("*quote*.bin"):
        data = path.read_bytes()
        if path.name == "google-quote_v4_spr_e4.bin":
            data = data[:-39]
        chain = parse_pem_certificates(parse_quote(data).qe.pck_chain, count_max=3, what=path.name)
        facts = read_pck(parse_certificate(chain[0], what=path.name))
        assert facts.cpu_svn == bytes(facts.svns)
        found[path.name] = facts.fmspc.hex().upper()
    assert found["dcapqvl-tdx_quote.bin"] == "B0C06F000000"
    assert found["dcapqvl-tdx_quote_outdated.bin"] == "90C06F000000"
    assert found["coco-quote_6.bin"] == "00A06D080000"
    assert found["google-cos113-quote.bin"] == "00806F050000"
