"""Sorting an operator's files: AMD's real ones, and files that nobody should have put there."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import CoreCode, ParseError
from regalia.verifier.collateral import CollateralSet, parse_collateral, parse_roots
from regalia.wire.evidence_codes import EvidenceCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia_testing.tees.snp.testbed import SnpTestbed


def pem(label: str, der: bytes, newline: str = "\n") -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return newline.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def test_every_real_certificate_is_read(
    vectors: Path, certificates: Callable[[Path], tuple[bytes, ...]]
) -> None:
    """AMD's leaves have serial number 0: no warning, no refusal, and the bytes stay as they are."""
    paths = sorted(
        path
        for path in (*vectors.glob("snp/*/*"), *vectors.glob("roots/amd-*.pem"))
        if path.suffix in {".der", ".pem"} and "invalid" not in path.name
    )
    found = parse_collateral({str(path): path.read_bytes() for path in paths})
    every = dict.fromkeys(der for path in paths for der in certificates(path))
    assert {*found.certificates, *found.leaves} == set(every)
    assert found.certificates == tuple(c for c in every if c not in found.leaves)
    assert len(found.leaves) > 5
    assert found.crls == ()


def test_certificates_and_lists_in_one_file(testbed: SnpTestbed) -> None:
    platform = testbed.platform
    mixed = (
        b"subject=ASK\n"
        + pem("CERTIFICATE", platform.ask)
        + pem("X509 CRL", platform.crl)
        + b"subject=ARK\r\n"
        + pem("CERTIFICATE", platform.ark, "\r\n")
    )
    files = {"mixed.pem": mixed, "asvk.der": platform.asvk, "list.crl": platform.crl}
    assert parse_collateral(files) == CollateralSet(
        (platform.ask, platform.ark, platform.asvk), (platform.crl,)
    )


def test_no_files_are_no_collateral() -> None:
    assert parse_collateral({}) == CollateralSet((), ())


def hostile(testbed: SnpTestbed) -> dict[str, bytes]:
    ark, crl = testbed.platform.ark, testbed.platform.crl
    good = pem("CERTIFICATE", ark)
    key = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return {
        "empty": b"",
        "rubbish": b"rubbish",
        "hex that breaks off": b"3082zz",
        "hex beyond ASCII": b"3082\xff",
        "cut": ark[:-1],
        "trailing": ark + b"\x00",
        "list cut": crl[:-1],
        "no end": good.partition(b"-----END")[0],
        "other end": good.replace(b"END CERTIFICATE", b"END X509 CRL"),
        "only a beginning": b"-----BEGIN CERTIFICATE-----",
        "no dashes": b"-----BEGIN CERTIFICATE",
        "no base64": b"-----BEGIN CERTIFICATE-----\n\xff?\n-----END CERTIFICATE-----\n",
        "empty block": pem("CERTIFICATE", b""),
        "a list called certificate": pem("CERTIFICATE", crl),
        "a certificate called list": pem("X509 CRL", ark),
        "a private key": key,
        "a private key behind a certificate": good + key,
        "trusted certificate": pem("TRUSTED CERTIFICATE", ark),
        "spaces": b"-----BEGIN CERTIFICATE-----" + b"\n" * 500_000,
        "beginnings": b"-----BEGIN CERTIFICATE-----" * 20_000,
    }


def test_anything_else_is_refused(testbed: SnpTestbed) -> None:
    unknown = {"empty", "rubbish", "hex that breaks off", "hex beyond ASCII"}
    for name, data in hostile(testbed).items():
        for call in (
            lambda data=data, name=name: parse_collateral({name: data}),
            lambda data=data, name=name: parse_roots(data, what=name),
        ):
            with pytest.raises(ParseError) as refusal:
                call()
            wanted = EvidenceCode.FORM_UNKNOWN if name in unknown else CoreCode.MALFORMED
            assert refusal.value.code is wanted, name
            assert name in refusal.value.what


def test_a_private_key_is_not_repeated(testbed: SnpTestbed) -> None:
    data = hostile(testbed)["a private key"]
    with pytest.raises(ParseError) as refusal:
        parse_collateral({"key.pem": data})
    assert data.splitlines()[1].decode() not in refusal.value.what


def test_roots(testbed: SnpTestbed) -> None:
    ark, ask = testbed.platform.ark, testbed.platform.ask
    assert parse_roots(ark, what="x") == parse_roots(pem("CERTIFICATE", ark), what="x") == (ark,)
    two = pem("CERTIFICATE", ark) + pem("CERTIFICATE", ask)
    assert parse_roots(two, what="x") == (ark, ask)
    for data in (two + pem("X509 CRL", testbed.platform.crl), testbed.platform.crl):
        with pytest.raises(ParseError, match="MALFORMED"):
            parse_roots(data, what="x")


@given(st.binary(max_size=300), st.sampled_from([b"", b"-----BEGIN CERTIFICATE-----\n"]))
def test_no_bytes_raise_anything_else(data: bytes, start: bytes) -> None:
    with pytest.raises(ParseError):
        parse_collateral({"x": start + data})
