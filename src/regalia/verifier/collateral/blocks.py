"""Certificates and revocation lists in files: PEM (RFC 7468), DER, or DER in hex."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.appraisal.pki import parse_certificate, parse_crl
from regalia.core.codec import unb64
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator

CERTIFICATE = "CERTIFICATE"
CRL = "X509 CRL"

_BEGIN = b"-----BEGIN "
_DASHES = b"-----"


def read_blocks(data: bytes, *, what: str) -> Iterator[tuple[str, bytes]]:
    """(label, DER) of everything in a file; at least one.

    Args:
        data: PEM with any number of certificates and CRLs and any text around them, or DER of
            one. Raw, untrusted.
        what: the file, for messages.

    Raises:
        ParseError: MALFORMED, it holds none, or something else as well.
    """
    if _BEGIN not in data:
        der = _from_hex(data)
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


def _from_hex(data: bytes) -> bytes:
    """Intel's service answers with a CRL in hex unless DER is asked for."""
    try:
        return bytes.fromhex(data.decode("ascii")) if data.startswith(b"30") else data
    except ValueError:
        return data


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
