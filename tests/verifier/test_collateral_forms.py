"""Certificates and lists in the spellings of services and tools: what they hold is the same."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from regalia.core.errors import ParseError
from regalia.verifier.collateral import parse_collateral, sort_files
from regalia.verifier.collateral.blocks import KNOWN_FORMS, parse_roots
from regalia.wire.collateral import CollateralKind
from regalia.wire.spelling import split_der
from regalia_testing.collateral import tcb_info_body
from regalia_testing.tees import wrappers
from regalia_testing.tees.snp.testbed import refused
from regalia_testing.tees.wrappers import pem

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.evidence import Evidence
    from regalia_testing.tees.snp.testbed import SnpTestbed


@pytest.fixture(scope="module")
def evidence(testbed: SnpTestbed) -> Evidence:
    return testbed.evidence()


@pytest.fixture(scope="module")
def chain(evidence: Evidence) -> tuple[bytes, ...]:
    """VCEK, ASK, ARK."""
    return evidence.endorsements


def contents(data: bytes) -> tuple[bytes, ...]:
    return tuple(item.content for item in sort_files({"file.txt": data}))


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "DER": bytes,
    "hex": lambda der: der.hex().encode(),
    "0x hex": lambda der: b"0x" + der.hex().encode() + b"\n",
    "upper case": lambda der: der.hex().upper().encode(),
    "hex with colons": lambda der: der.hex(":").encode(),
    "base64": base64.b64encode,
    "base64 in lines": base64.encodebytes,
    "base64url": lambda der: base64.urlsafe_b64encode(der).rstrip(b"="),
    "base64 of hex": lambda der: base64.b64encode(der.hex().encode()),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_one_certificate_and_of_one_list(
    testbed: SnpTestbed, chain: tuple[bytes, ...], name: str
) -> None:
    for der in (chain[0], testbed.platform.crl):
        assert contents(SPELLINGS[name](der)) == (der,)


PEMS: dict[str, Callable[[str], bytes]] = {
    "PEM": str.encode,
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "base64 of PEM": lambda text: base64.b64encode(text.encode()),
    "percent-encoded": lambda text: quote(text, safe="-").encode(),
    "percent-encoded to the last": lambda text: quote(text, safe="").replace("-", "%2D").encode(),
    "percent-encoded as in a form": lambda text: quote_plus(text).encode(),
    "a header's line": lambda text: b"SGX-PCK-CRL-Issuer-Chain: " + quote(text, safe="").encode(),
    "JSON": lambda text: json.dumps({"chain": text, "other": 1}).encode(),
    "JSON, percent-encoded": lambda text: json.dumps({"chain": [quote(text)]}).encode(),
}


@pytest.mark.parametrize("name", PEMS)
def test_spellings_of_a_chain_in_pem(chain: tuple[bytes, ...], name: str) -> None:
    assert contents(PEMS[name]("".join(map(pem, chain)))) == chain


def test_several_certificates_behind_each_other(
    testbed: SnpTestbed, chain: tuple[bytes, ...]
) -> None:
    every = (*chain, testbed.platform.crl)
    assert contents(b"".join(every)) == every
    assert contents(base64.b64encode(b"".join(every))) == every
    assert parse_roots(chain[2] + chain[1], what="roots") == (chain[2], chain[1])
    refused("MALFORMED", parse_roots, data=chain[2] + testbed.platform.crl, what="roots")


def test_a_certificate_table(evidence: Evidence, chain: tuple[bytes, ...]) -> None:
    for in_pem in (False, True):
        table = wrappers.certificate_table(evidence, in_pem=in_pem)
        assert contents(table) == chain
        assert contents(table + bytes(4096)) == chain


def test_certificates_of_azures_service(evidence: Evidence, chain: tuple[bytes, ...]) -> None:
    found = parse_collateral({"thim.json": json.dumps(wrappers.thim(evidence)).encode()})
    assert (*found.leaves, *found.certificates) == chain


def test_an_answer_with_its_header(chain: tuple[bytes, ...]) -> None:
    """As ``curl -i`` keeps what Intel's service answers."""
    body = tcb_info_body(number=18)
    head = quote("".join(map(pem, chain[1:])), safe="").encode()
    for start, end in ((b"HTTP/1.1 200 OK\r\nDate: today\r\n", b"\r\n"), (b"", b"\n")):
        data = start + b"TCB-Info-Issuer-Chain: " + head + end + end + body + end
        found = parse_collateral({"answer": data})
        assert found.certificates == chain[1:]
        assert found.of(CollateralKind.TCB_INFO) == (body,)
    cut = b"TCB-Info-Issuer-Chain: " + head + b"\n\n" + body[:-1]
    refused("MALFORMED", sort_files, files={"cut": cut})
    rubbish = b"TCB-Info-Issuer-Chain: " + head + b"\n\nand some words"
    refused("FORM_UNKNOWN", sort_files, files={"rubbish": rubbish})


def test_lines_around_a_pem_block_are_no_header(chain: tuple[bytes, ...]) -> None:
    """As OpenSSL prints them."""
    data = b"Subject: CN = ARK\nIssuer: CN = ARK\n" + pem(chain[2]).encode()
    assert contents(data) == chain[2:]


def test_what_is_none_of_these(chain: tuple[bytes, ...]) -> None:
    """The refusal lists what is known. Another copy of the file would be no better."""
    for data in (
        b"",
        b"rubbish",
        b"rubbish!",
        bytes(4096),
        b"00",
        b"MIIB",
        pem(b"x", "KEY").encode(),
    ):
        with pytest.raises(ParseError) as refusal:
            sort_files({"file": data})
        if data.startswith(b"-----"):
            assert refusal.value.code.name == "MALFORMED"
            continue
        assert refusal.value.code.name == "FORM_UNKNOWN", data
        assert KNOWN_FORMS in refusal.value.what
        assert "again" not in refusal.value.explain()
    for cut in (chain[0][:-1], b"\x30\x80" + chain[0], b"\x30\x03abc"):
        said = refused("MALFORMED", sort_files, files={"cut": cut})
        assert said == "cut: neither certificates nor a revocation list"


@pytest.mark.parametrize("name", ["tcbInfo", "enclaveIdentity", "tcb_info"])
def test_intels_documents_are_read_whole(chain: tuple[bytes, ...], name: str) -> None:
    """What is damaged in one of them is not passed over for the certificates beside it."""
    document = {name: {}, "signature": "00", "chain": "".join(map(pem, chain))}
    refused("MALFORMED", sort_files, files={"file": json.dumps(document).encode()})


@pytest.mark.parametrize("data", [b'{"a":"\xf5"}', b'{"a":' + b"[" * 100_000, b'{"a":'])
def test_documents_that_are_no_json(data: bytes) -> None:
    refused("MALFORMED", sort_files, files={"file": data})


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", ()),
        (b"\x30\x00", (b"\x30\x00",)),
        (b"\x30\x01a\x30\x02bc", (b"\x30\x01a", b"\x30\x02bc")),
        (b"\x30\x01a\x00", ()),
        (b"\x30\x81\x01a", (b"\x30\x81\x01a",)),
        (b"\x30\x01a\x31", ()),
        (b"\x30\x02a", ()),
        (b"\x30\x80a", ()),
        (b"\x30\x85" + bytes(5), ()),
        (b"\x30\x82\x00", ()),
        (b"\x30", ()),
        (b"\x31\x00", ()),
    ],
)
def test_der_ends_where_it_says(data: bytes, found: tuple[bytes, ...]) -> None:
    assert split_der(data) == found
