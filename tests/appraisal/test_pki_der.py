"""What is cut out of a certificate is what `cryptography` reads in it."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from regalia.appraisal.pki import parse_certificate, parse_crl
from regalia.appraisal.pki.certificates import common_name
from regalia.core.errors import ParseError
from regalia_testing.der import SEQUENCE, tlv

if TYPE_CHECKING:
    from pathlib import Path

    from regalia_testing.tees.snp.testbed import SnpTestbed

SET, UTF8, PRINTABLE, T61, BMP, UNIVERSAL = 0x31, 0x0C, 0x13, 0x14, 0x1E, 0x1C
CN = b"\x06\x03\x55\x04\x03"
OU = b"\x06\x03\x55\x04\x0b"


def agrees(der: bytes) -> None:
    ours = parse_certificate(der, what="it")
    with warnings.catch_warnings():  # about serial numbers of zero and long names
        warnings.simplefilter("ignore")
        theirs = x509.load_der_x509_certificate(der)
        assert ours.serial == theirs.serial_number
        subject, issuer = theirs.subject, theirs.issuer
    assert ours.tbs == theirs.tbs_certificate_bytes
    assert ours.signature == theirs.signature
    assert (ours.subject, ours.issuer) == (subject.public_bytes(), issuer.public_bytes())
    spki = theirs.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert ours.spki == spki
    for name, found in ((subject, ours.common_name), (issuer, ours.issuer_common_name)):
        common = [each.value for each in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
        assert common == ([found] if found else [])


def test_simulated_certificates(testbed: SnpTestbed) -> None:
    platform = testbed.platform
    for der in (platform.ark, platform.ask, platform.asvk, platform.leaf()):
        agrees(der)
    crl = x509.load_der_x509_crl(platform.crl)
    assert parse_crl(platform.crl).tbs == crl.tbs_certlist_bytes
    assert parse_crl(platform.crl).signature == crl.signature


def test_real_certificates(vectors: Path) -> None:
    seen = 0
    for path in sorted(vectors.rglob("*")):
        if path.suffix not in {".pem", ".der", ".crt"} or "invalid" in path.name:
            continue
        data = path.read_bytes()
        if b"-----BEGIN CERTIFICATE" in data:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = [
                    c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(data)
                ]
        else:
            found = [data]
        for der in found:
            try:
                parse_certificate(der, what=path.name)
            except ParseError:  # keys and lists lie in the same folders
                continue
            agrees(der)
            seen += 1
    assert seen > 20


START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME]),
                TEXT | st.just("\x06\x03\x55\x04\x03\x0c\x01X"),
            ),
            min_size=1,
            max_size=2,
            unique_by=lambda pair: pair[0],
        ),
        max_size=4,
    ),
    st.none() | TEXT,
    st.integers(1, 2**158),
)
def test_names_of_any_shape(
    parts: list[list[tuple[x509.ObjectIdentifier, str]]], common: str | None, serial: int
) -> None:
    names = [
        x509.RelativeDistinguishedName([x509.NameAttribute(oid, v) for oid, v in each])
        for each in parts
    ]
    if common is not None and len(common) <= 64:
        names.append(
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(NameOID.COMMON_NAME, common, _ASN1Type.UTF8String)]
            )
        )
    subject = x509.Name(names)
    issuer = x509.Name(list(reversed(names)))
    certificate = (
        x509.CertificateBuilder(issuer, subject, KEY.public_key(), serial)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=1))
        .sign(KEY, hashes.SHA256())
    )
    agrees(certificate.public_bytes(Encoding.DER))


def name_of(*attributes: bytes) -> bytes:
    return tlv(SEQUENCE, *(tlv(SET, tlv(SEQUENCE, attribute)) for attribute in attributes))


@pytest.mark.parametrize(
    ("tag", "value", "text"),
    [
        (UTF8, "Zoë".encode(), "Zoë"),
        (PRINTABLE, b"SEV-VCEK", "SEV-VCEK"),
        (T61, b"\xe9", "é"),
        (BMP, b"\x00A\x00B", "AB"),
    ],
)
def test_kinds_of_text(tag: int, value: bytes, text: str) -> None:
    assert common_name(name_of(OU + tlv(UTF8, b"x"), CN + tlv(tag, value))) == text


@pytest.mark.parametrize(
    "attributes",
    [
        (CN + tlv(UTF8, b"a"), CN + tlv(UTF8, b"a")),
        (CN + tlv(UTF8, b"\xff"),),
        (CN + tlv(PRINTABLE, b"\xe9"),),
        (CN + tlv(BMP, b"\x00"),),
        (CN + tlv(UNIVERSAL, b"\x00\x00\x00a"),),
        (CN + tlv(UTF8, b""),),
    ],
)
def test_what_is_no_single_common_name(attributes: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - foreign errors become ParseError one level up
        common_name(name_of(*attributes))


def test_no_common_name() -> None:
    assert not common_name(name_of())
    assert not common_name(name_of(OU + tlv(UTF8, CN + tlv(UTF8, b"hidden"))))
