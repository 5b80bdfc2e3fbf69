"""Reads a folder of certificates and revocation lists, PEM or DER. Nothing is verified here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from regalia.core.codec import MIB
from regalia.core.errors import CoreCode, LocalError, ParseError
from regalia.core.localfs import os_errors, read_file

if TYPE_CHECKING:
    from pathlib import Path

FILES_MAX = 64
_SIZE_MAX = 1 * MIB
_ENDINGS = {".der", ".pem", ".crt", ".cer", ".crl"}
_PEM_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PEM_CRL = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True, slots=True)
class CollateralFiles:
    """What the folder holds, in DER. Raw, untrusted: the verifier chains it to its anchors."""

    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]


def read_collateral(folder: Path) -> CollateralFiles:
    """Read every ``.der .pem .crt .cer .crl`` file of a folder, not of its subfolders.

    Raises:
        LocalError: the folder cannot be read, or holds too many files.
        ParseError: a file holds neither certificates nor a revocation list.
    """
    with os_errors(folder):
        paths = sorted(path for path in folder.iterdir() if path.suffix in _ENDINGS)
    if len(paths) > FILES_MAX:
        raise LocalError(CoreCode.TOO_LARGE, f"{folder}: {len(paths)} files, at most {FILES_MAX}")
    certificates: list[bytes] = []
    crls: list[bytes] = []
    for path in paths:
        data = read_file(path, limit=_SIZE_MAX)
        try:
            _sort(data, certificates, crls)
        except (ValueError, TypeError, x509.InvalidVersion) as exc:
            raise ParseError(
                CoreCode.MALFORMED, f"{path}: neither certificates nor a revocation list"
            ) from exc
    return CollateralFiles(tuple(certificates), tuple(crls))


def _sort(data: bytes, certificates: list[bytes], crls: list[bytes]) -> None:
    if _PEM_CERTIFICATE in data:
        certificates += [
            item.public_bytes(Encoding.DER) for item in x509.load_pem_x509_certificates(data)
        ]
    elif _PEM_CRL in data:
        crls.append(x509.load_pem_x509_crl(data).public_bytes(Encoding.DER))
    else:
        try:
            x509.load_der_x509_certificate(data)
        except ValueError:
            x509.load_der_x509_crl(data)
            crls.append(data)
        else:
            certificates.append(data)
