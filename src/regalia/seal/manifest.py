"""Verifies a manifest's signature and minimum version.

Spec: docs/spec/sealed-model.md, "Verification order".

peek_manifest    bytes -> Manifest           unverified, for display only
verify_manifest  bytes -> VerifiedManifest   signed by a trusted key, and not too old
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from regalia.core.errors import IntegrityError
from regalia.core.types import Digest, KeyFingerprint
from regalia.crypto.dsse import DsseCode, parse_envelope, sign
from regalia.crypto.sign import VerifyKey
from regalia.seal.codes import SealCode
from regalia.seal.format.manifest import PAYLOAD_TYPE, parse_manifest

if TYPE_CHECKING:
    from regalia.crypto.dsse import Envelope
    from regalia.crypto.sign import SigningKey
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.sealed import WrappedKey

# Catches honest mistakes, such as a hand-made VerifiedManifest; no wall against hostile code.
_MINT = object()


class Signers(Enum):
    """Wildcards that can be given instead of a list of trusted keys."""

    ANY = "any"  # a valid signature by the key that the manifest names, whichever that is
    DANGEROUS_UNSIGNED = "dangerous-unsigned"  # a manifest without any signature


ANY_SIGNER: Final = Signers.ANY
DANGEROUS_UNSIGNED: Final = Signers.DANGEROUS_UNSIGNED

Trusted = tuple[VerifyKey | KeyFingerprint, ...] | Literal[Signers.ANY, Signers.DANGEROUS_UNSIGNED]


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest whose signature and version were verified. Only ``verify_manifest`` makes one.

    Attributes:
        content: the manifest itself.
        signer: fingerprint of the key that signed it; None only for DANGEROUS_UNSIGNED.
        trusted: why ``signer`` was accepted: "named" by the caller, or the wildcard.
        digest: SHA-256 of the signed payload, which identifies this manifest.
    """

    content: Manifest
    signer: KeyFingerprint | None
    trusted: str
    digest: Digest
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("verified manifests come from verify_manifest")

    @property
    def wrapped_key(self) -> WrappedKey:
        """The model key, encrypted under the owner's key-encryption key."""
        return self.content.wrapped_key


def peek_manifest(data: bytes) -> Manifest:
    """Parse a manifest without verifying it. For display only, never for loading a model.

    Raises:
        ParseError: the envelope or the manifest is malformed.
        IntegrityError: WRONG_PAYLOAD_TYPE.
    """
    return _content(parse_envelope(data, what="manifest"))


def verify_manifest(data: bytes, *, signers: Trusted, minimum_version: int) -> VerifiedManifest:
    """Verify a manifest.

    Args:
        data: the DSSE envelope, raw and untrusted.
        signers: trusted keys or their fingerprints. One of them must have signed, and be the
            signer that the manifest names. An empty tuple trusts no key. Alternatively, one of
            the two wildcards.
        minimum_version: lowest accepted version; 1 accepts every version.

    Raises:
        ParseError: the envelope or the manifest is malformed.
        IntegrityError: WRONG_PAYLOAD_TYPE, UNSIGNED, SIGNER_UNKNOWN, SIGNATURE_INVALID or
            VERSION_ROLLBACK.
    """
    envelope = parse_envelope(data, what="manifest")
    manifest = _content(envelope)
    fingerprint: KeyFingerprint | None = None
    # DANGEROUS_UNSIGNED accepts a missing signature, but never an invalid one.
    if signers is not DANGEROUS_UNSIGNED or manifest.signer is not None:
        if manifest.signer is None or not envelope.signatures:
            raise IntegrityError(DsseCode.UNSIGNED, "the manifest carries no signature")
        # The manifest itself names its signer, so that key is untrusted: it must first be
        # compared with the caller's trusted keys, and the signature must then verify.
        key = VerifyKey.from_der(manifest.signer)
        fingerprint = key.fingerprint
        if isinstance(signers, tuple) and fingerprint not in _fingerprints(signers):
            raise IntegrityError(
                DsseCode.SIGNER_UNKNOWN, f"signed by {fingerprint}, which is not a trusted key"
            )
        envelope.verify(PAYLOAD_TYPE, (key,), threshold=1)
    if manifest.version < minimum_version:
        raise IntegrityError(
            SealCode.VERSION_ROLLBACK,
            f"version {manifest.version}, at least {minimum_version} is wanted",
        )
    return VerifiedManifest(
        content=manifest,
        signer=fingerprint,
        trusted=signers.value if isinstance(signers, Signers) else "named",
        digest=Digest.of(envelope.unverified_payload),
        mint=_MINT,
    )


def verify_owners_manifest(
    data: bytes, *, owners: tuple[VerifyKey, ...], threshold: int, minimum_version: int
) -> VerifiedManifest:
    """Verify a manifest that several of its owner's keys must have signed.

    Args:
        data: the DSSE envelope, raw and untrusted.
        owners: the owner's keys. One of them is the signer that the manifest names.
        threshold: number of different owner's keys that must have signed, at least 1.
        minimum_version: lowest accepted version; 1 accepts every version.

    Raises:
        ParseError: as ``verify_manifest``.
        IntegrityError: as ``verify_manifest``; SIGNER_UNKNOWN also if too few owners have signed.
    """
    manifest = verify_manifest(data, signers=owners, minimum_version=minimum_version)
    parse_envelope(data, what="manifest").verify(PAYLOAD_TYPE, owners, threshold=threshold)
    return manifest


def countersign_manifest(data: bytes, key: SigningKey, *, owners: tuple[VerifyKey, ...]) -> bytes:
    """Add one signature to a manifest that its owner has signed.

    Args:
        data: the DSSE envelope, raw and untrusted.
        key: key that signs in addition; it has not signed yet.
        owners: the owner's keys. One of them is the signer that the manifest names.

    Returns:
        The envelope with all signatures.

    Raises:
        ParseError: as ``verify_manifest``, or the key has signed already.
        IntegrityError: as ``verify_manifest``.
    """
    verify_manifest(data, signers=owners, minimum_version=1)
    envelope = parse_envelope(data, what="manifest")
    mine = sign(PAYLOAD_TYPE, envelope.unverified_payload, (key,))
    both = replace(envelope, signatures=envelope.signatures + mine.signatures).encode()
    parse_envelope(both, what="manifest")  # refuses a second signature by one key
    return both


def rewrapped_manifest(manifest: VerifiedManifest, wrapped: WrappedKey, key: SigningKey) -> bytes:
    """Sign a manifest anew that differs only in how the model key is wrapped.

    The version stays, because the model does: runtimes go on with the manifest that they have.

    Args:
        manifest: verified with the key that signs again.
        wrapped: the same model key under another key-encryption key.
        key: of the manifest's signer.

    Returns:
        The envelope, with this one signature.

    Raises:
        IntegrityError: SIGNER_UNKNOWN, the manifest names another signer.
    """
    if manifest.signer != key.verify_key.fingerprint:
        raise IntegrityError(
            DsseCode.SIGNER_UNKNOWN, f"signed by {manifest.signer}, not by the key that signs again"
        )
    payload = replace(manifest.content, wrapped_key=wrapped).encode()
    return sign(PAYLOAD_TYPE, payload, (key,)).encode()


def _content(envelope: Envelope) -> Manifest:
    if envelope.payload_type != PAYLOAD_TYPE:
        raise IntegrityError(
            DsseCode.WRONG_PAYLOAD_TYPE,
            f"want {PAYLOAD_TYPE}, got {envelope.payload_type[:100]!r}",
        )
    return parse_manifest(envelope.unverified_payload)


def _fingerprints(signers: tuple[VerifyKey | KeyFingerprint, ...]) -> frozenset[KeyFingerprint]:
    return frozenset(s.fingerprint if isinstance(s, VerifyKey) else s for s in signers)
