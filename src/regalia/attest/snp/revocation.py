"""AMD's revocation lists: one signed by the ARK for each product and kind of key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from regalia.attest.codes import AttestCode
from regalia.attest.snp.anchors import RevocationRule
from regalia.attest.snp.certificates import (
    FOREIGN_ERRORS,
    is_pss_sha384,
    require_one_encoding,
    require_signature,
)
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.formats.claims import Revocation

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.attest.snp.anchors import SnpCollateral
    from regalia.attest.snp.certificates import (
        Certificate,
    )

CRL_MAX = 1 << 20  # bytes


def check_revocation(
    collateral: SnpCollateral, root: Certificate, intermediate: Certificate, now: datetime
) -> Revocation:
    """The root's CRL is there, signed by it, in date, and lists neither certificate.

    ``RevocationRule.ANY`` tolerates a CRL that is absent or out of date, and nothing else: a
    certificate that a list names is refused, and so is a list with a bad signature.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    crls = [crl for crl in map(parse_crl, collateral.crls) if _issuer(crl) == root.subject]
    for crl in crls:
        _require_complete(crl)
        _require_signed(crl, root)
        for certificate in (root, intermediate):
            if crl.get_revoked_certificate_by_serial_number(certificate.serial) is not None:
                raise AttestationError(
                    AttestCode.CERT_REVOKED, f"{certificate} is listed in the CRL of {root}"
                )
    if any(_is_current(crl, now) for crl in crls):
        return Revocation.CHECKED
    if collateral.revocation is RevocationRule.ANY:
        return Revocation.UNKNOWN
    if not crls:
        raise AttestationError(
            AttestCode.CRL_MISSING, f"the collateral holds no CRL issued by {root}"
        )
    raise AttestationError(
        AttestCode.CRL_STALE,
        f"no CRL of {root} is in date at {rfc3339(now)}: {', '.join(map(_dates, crls))}",
    )


def parse_crl(der: bytes) -> x509.CertificateRevocationList:
    """Parse one CRL in DER; nothing is verified. Raises ParseError TOO_LARGE or MALFORMED."""
    if len(der) > CRL_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"CRL: {len(der)} bytes, at most {CRL_MAX}")
    try:
        crl = x509.load_der_x509_crl(der)
        require_one_encoding(der, crl.tbs_certlist_bytes, crl.signature)
        # These are parsed when asked for: ask now, while errors are expected.
        _issuer(crl), _dates(crl), _pss_sha384(crl), crl.extensions
    except FOREIGN_ERRORS as exc:
        raise ParseError(CoreCode.MALFORMED, f"not a CRL: {exc}") from exc
    return crl


def _issuer(crl: x509.CertificateRevocationList) -> bytes:
    return crl.issuer.public_bytes()


def _pss_sha384(crl: x509.CertificateRevocationList) -> bool:
    return is_pss_sha384(crl.signature_algorithm_oid, crl.signature_hash_algorithm)


def _require_complete(crl: x509.CertificateRevocationList) -> None:
    """A delta, partial or indirect list says so in a critical extension (RFC 5280 5.2)."""
    critical = [e.oid.dotted_string for e in crl.extensions if e.critical]
    if critical:
        raise AttestationError(
            AttestCode.CRL_MISSING,
            f"the CRL is not a complete one: it has critical extensions {critical}",
        )


def _require_signed(crl: x509.CertificateRevocationList, root: Certificate) -> None:
    if not _pss_sha384(crl):
        raise AttestationError(
            AttestCode.CRL_SIG_INVALID, "the CRL is not signed with RSASSA-PSS and SHA-384"
        )
    usage = root.extensions.get_extension_for_class(x509.KeyUsage).value
    if not usage.crl_sign:
        raise AttestationError(AttestCode.CRL_SIG_INVALID, f"{root}: keyUsage lacks cRLSign")
    require_signature(
        root,
        crl.signature,
        crl.tbs_certlist_bytes,
        code=AttestCode.CRL_SIG_INVALID,
        what="revocation list",
    )


def _is_current(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    """A list without a next update never ages, so it is never current."""
    return crl.next_update_utc is not None and crl.last_update_utc <= now <= crl.next_update_utc


def _dates(crl: x509.CertificateRevocationList) -> str:
    until = "no next update" if crl.next_update_utc is None else rfc3339(crl.next_update_utc)
    return f"{rfc3339(crl.last_update_utc)} to {until}"
