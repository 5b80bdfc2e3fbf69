"""Sorts an operator's certificate and revocation list files. No I/O: bytes in, DER out.

Nothing is trusted by being there: the verifier chains all of it to its anchors. But everything
must parse, so that a broken file is found at the start and not at the first appraisal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.attest.snp.anchors import SnpCollateral
from regalia.attest.snp.certificates import parse_certificate
from regalia.attest.snp.revocation import parse_crl
from regalia.core.codec import MIB, unb64
from regalia.core.errors import CoreCode, ParseError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from regalia.attest.snp.anchors import RevocationRule

# What of a folder counts as collateral.
COLLATERAL_ENDINGS = (".der", ".pem", ".crt", ".cer", ".crl")
COLLATERAL_FILES_MAX = 64
COLLATERAL_FILE_MAX = 1 * MIB  # bytes

_BEGIN = b"-----BEGIN "
_DASHES = b"-----"
_CERTIFICATE = "CERTIFICATE"
_CRL = "X509 CRL"


def parse_collateral(files: Mapping[str, bytes], rule: RevocationRule) -> SnpCollateral:
    """Sort files into certificates and revocation lists, in the order in which they come.

    Args:
        files: contents by the name that messages give them; raw, untrusted. PEM with any number
            of certificates and CRLs and any text around them, or DER of one.
        rule: becomes the collateral's.

    Raises:
        ParseError: MALFORMED, a file holds none, or something else as well.
    """
    certificates: list[bytes] = []
    crls: list[bytes] = []
    for name, data in files.items():
        for kind, der in _items(data, what=name):
            (crls if kind == _CRL else certificates).append(der)
    return SnpCollateral(tuple(certificates), tuple(crls), rule)


def parse_root(data: bytes, *, what: str) -> bytes:
    """The one certificate, in DER, of a file in PEM or DER: for ``Anchors.dangerous_simulated``.

    Raises:
        ParseError: MALFORMED.
    """
    found = list(_items(data, what=what))
    if len(found) != 1 or found[0][0] != _CERTIFICATE:
        raise ParseError(CoreCode.MALFORMED, f"{what}: want one certificate")
    return found[0][1]


def _items(data: bytes, *, what: str) -> Iterator[tuple[str, bytes]]:
    """(kind, DER) of everything in a file; at least one."""
    if _BEGIN not in data:
        yield _kind_of(data, what=what), data
        return
    for block in data.split(_BEGIN)[1:]:
        label, _, rest = block.partition(_DASHES)
        body, end, _ = rest.partition(b"-----END " + label + _DASHES)
        if label not in (_CERTIFICATE.encode(), _CRL.encode()) or not end:
            raise ParseError(
                CoreCode.MALFORMED, f"{what}: a PEM block that is no whole certificate or CRL"
            )
        der = unb64("".join(body.decode("ascii", "replace").split()), what=what)
        kind = _kind_of(der, what=what)
        if kind.encode() != label:
            raise ParseError(CoreCode.MALFORMED, f"{what}: a {kind} under another PEM label")
        yield kind, der


def _kind_of(der: bytes, *, what: str) -> str:
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
        return _CRL
    return _CERTIFICATE
