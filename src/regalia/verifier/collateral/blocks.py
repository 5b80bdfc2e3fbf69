"""Certificates and revocation lists in files, however tools and services write them.

PEM (RFC 7468), one or many; DER, one or many behind each other; either of them in hex or base64;
PEM percent-encoded, as Intel's service puts it into a header; the certificate table that a host
hands to an SEV-SNP guest. Nobody signs these spellings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.pki import parse_certificate, parse_crl
from regalia.core.codec import unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.verifier.registry import VENDORS
from regalia.wire.evidence_codes import EvidenceCode
from regalia.wire.spelling import certificates_in

if TYPE_CHECKING:
    from collections.abc import Iterator

CERTIFICATE = "CERTIFICATE"
CRL = "X509 CRL"

KNOWN_FORMS = (
    "certificates and revocation lists in PEM or DER, also in hex, base64, percent-encoded, in an"
    " SEV-SNP certificate table or in the JSON of Azure's THIM; Intel's TCB info, QE identity and"
    " PCK CRL; TCG event logs; Regalia's own documents"
)

_SEQUENCE = b"\x30"
_BEGIN = b"-----BEGIN "
_DASHES = b"-----"


def read_blocks(data: bytes, *, what: str) -> Iterator[tuple[str, bytes]]:
    """(label, DER) of everything in a file; at least one.

    Args:
        data: with any text around PEM blocks. Raw, untrusted.
        what: the file, for messages.

    Raises:
        ParseError: FORM_UNKNOWN, it holds none; MALFORMED, one is damaged, or there is something
            else as well.
    """
    if _BEGIN not in data:
        ders = certificates_in(data) or _table(data)
        if not ders:
            raise _none(data, what)
        for der in ders:
            yield _label_of(der, what=what), der
        return
    for block in data.split(_BEGIN)[1:]:
        label, _, rest = block.partition(_DASHES)
        body, end, _ = rest.partition(b"-----END " + label + _DASHES)
        if label not in (CERTIFICATE.encode(), CRL.encode()) or not end:
            raise ParseError(
                CoreCode.MALFORMED, f"{what}: a PEM block that is no whole certificate or CRL"
            )
        der = unb64("".join(body.decode("ascii", "replace").split()), what=what)
        found = _label_of(der, what=what)
        if found.encode() != label:
            raise ParseError(CoreCode.MALFORMED, f"{what}: a {found} under another PEM label")
        yield found, der


def _table(data: bytes) -> tuple[bytes, ...]:
    """Of the vendors that have a table of certificates in a form of their own."""
    for vendor in VENDORS:
        if vendor.read_table is not None:
            found = vendor.read_table(data)
            if found:
                return found
    return ()


def _none(data: bytes, what: str) -> ParseError:
    if data[:1] == _SEQUENCE and not data.isascii():  # else it is text that begins with 0
        return ParseError(CoreCode.MALFORMED, f"{what}: neither certificates nor a revocation list")
    return ParseError(
        EvidenceCode.FORM_UNKNOWN,
        f"{what}: neither certificates nor a revocation list. Known are: {KNOWN_FORMS}",
    )


def parse_roots(data: bytes, *, what: str) -> tuple[bytes, ...]:
    """The certificates, in DER, of a file in PEM or DER: for ``dangerous_simulated`` anchors.

    Args:
        data: of the file, untrusted.
        what: names the file in the error.

    Raises:
        ParseError: MALFORMED, also if there is anything else in the file.
    """
    found = list(read_blocks(data, what=what))
    if any(label != CERTIFICATE for label, _ in found):
        raise ParseError(CoreCode.MALFORMED, f"{what}: want certificates and nothing else")
    return tuple(der for _, der in found)


def _label_of(der: bytes, *, what: str) -> str:
    """Tell a certificate from a CRL by parsing: not every library call copes with AMD's leaves."""
    try:
        parse_certificate(der, what=what)
    except ParseError:
        try:
            parse_crl(der)
        except ParseError as exc:
            raise ParseError(
                CoreCode.MALFORMED, f"{what}: neither certificates nor a revocation list"
            ) from exc
        return CRL
    return CERTIFICATE
