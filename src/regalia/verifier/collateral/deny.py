"""A site's own revocations, looked up: certificates before a verifier sees them, devices after."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import parse_certificate
from regalia.core.errors import AttestationError
from regalia.core.types import KeyFingerprint
from regalia.verifier.registry import plugin_for
from regalia.wire.deny_list import DeniedKey, DeniedSerial, serial_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regalia.appraisal.claims import Claims, DeviceClaims
    from regalia.appraisal.pki import Certificate
    from regalia.wire.deny_list import DenyList
    from regalia.wire.evidence import Evidence


@dataclass(frozen=True, slots=True)
class DenyIndex:
    """All deny-lists of a site together; values are the reasons."""

    keys: dict[bytes, str] = field(default_factory=dict)  # by SHA-256 of SPKI
    serials: dict[int, dict[bytes, str]] = field(default_factory=dict)  # then SHA-256 of SPKI
    identities: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything is denied at all."""
        return bool(self.keys or self.serials or self.identities)

    @classmethod
    def of(cls, lists: Iterable[DenyList]) -> DenyIndex:
        """Index parsed deny-lists."""
        index = cls()
        for each in lists:
            for entry in each.entries:
                reason = f"{entry.reason} ({each.name})"
                if isinstance(entry, DeniedKey):
                    index.keys[KeyFingerprint.parse(entry.key).raw] = reason
                elif isinstance(entry, DeniedSerial):
                    number = serial_number(entry.serial, each.name)
                    issuer = KeyFingerprint.parse(entry.issuer).raw
                    index.serials.setdefault(number, {})[issuer] = reason
                else:
                    index.identities[entry.of, bytes.fromhex(entry.identity)] = reason
        return index

    def reason_against(self, certificate: Certificate, pool: Iterable[Certificate]) -> str | None:
        """Why a certificate is denied: by its key, or by its serial number and issuer.

        Args:
            certificate: untrusted.
            pool: where an issuer may be; whoever has the name is taken for it.
        """
        found = self.keys.get(hashlib.sha256(certificate.spki).digest())
        issuers = self.serials.get(certificate.serial)
        if found is not None or issuers is None:
            return found
        for candidate in pool:
            if candidate.subject == certificate.issuer:
                found = found or issuers.get(hashlib.sha256(candidate.spki).digest())
        return found


def require_certificates_not_denied(
    evidence: Evidence, denied: DenyIndex, authorities: tuple[bytes, ...]
) -> None:
    """No deny-list names a certificate that came beside a report, used or not.

    Certificates inside a report (Intel's PCK chain) are not looked at: deny the platform's
    identity instead.

    Args:
        evidence: raw, untrusted.
        denied: empty lists cost nothing.
        authorities: DER of certificates among which issuers are looked for.

    Raises:
        ParseError: a certificate is malformed.
        AttestationError: DEVICE_DENIED.
    """
    if not denied.keys and not denied.serials:
        return
    came = [*evidence.endorsements, *(e for d in evidence.devices for e in d.endorsements)]
    parsed = [parse_certificate(der, what="endorsement") for der in came]
    pool = [*parsed, *(parse_certificate(der, what="authority") for der in authorities)]
    for certificate in parsed:
        reason = denied.reason_against(certificate, pool)
        if reason is not None:
            raise AttestationError(AttestCode.DEVICE_DENIED, f"{certificate} is denied: {reason}")


def require_not_denied(claims: Claims, denied: DenyIndex) -> None:
    """No deny-list names the machine or one of its devices.

    Args:
        claims: verified.
        denied: the site's deny-lists.

    Raises:
        AttestationError: DEVICE_DENIED.
    """
    if not denied.identities:
        return
    for of, identity in plugin_for(claims.tee).identities(claims):
        _require_identity(denied, of, identity)
    for device in claims.devices:
        require_device_not_denied(device, denied)


def require_device_not_denied(claims: DeviceClaims, denied: DenyIndex) -> None:
    """No deny-list names the device. Raises AttestationError DEVICE_DENIED.

    Args:
        claims: verified.
        denied: the site's deny-lists.
    """
    if denied.identities:
        for of, identity in plugin_for(claims.kind).identities(claims):
            _require_identity(denied, of, identity)


def _require_identity(denied: DenyIndex, of: str, identity: bytes) -> None:
    reason = denied.identities.get((of, identity))
    if reason is not None:
        raise AttestationError(
            AttestCode.DEVICE_DENIED, f"{of} {identity.hex()} is denied: {reason}"
        )
