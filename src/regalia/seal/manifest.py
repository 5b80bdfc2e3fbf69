"""Who wrote a manifest, and whether it is recent enough. Spec: "Verification order".

peek_manifest    bytes -> Manifest           nobody vouches for it: for showing only
verify_manifest  bytes -> VerifiedManifest   signed, by whom, and not too old
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from regalia.core.errors import IntegrityError
from regalia.core.types import Digest, KeyFingerprint
from regalia.crypto.dsse import DsseCode, parse_envelope
from regalia.crypto.sign import VerifyKey
from regalia.seal.codes import SealCode
from regalia.seal.format.manifest import PAYLOAD_TYPE, parse_manifest

if TYPE_CHECKING:
    from regalia.crypto.dsse import Envelope
    from regalia.seal.format.manifest import Manifest
    from regalia.seal.format.sealed import WrappedKey

_MINT = object()


class Signers(Enum):
    """Words that stand in place of a list of trusted keys."""

    ANY = "any"  # some key signed it: the one that the manifest names, whosever it is
    DANGEROUS_UNSIGNED = "dangerous-unsigned"  # not even that


ANY_SIGNER: Final = Signers.ANY
DANGEROUS_UNSIGNED: Final = Signers.DANGEROUS_UNSIGNED

Trusted = tuple[VerifyKey | KeyFingerprint, ...] | Literal[Signers.ANY, Signers.DANGEROUS_UNSIGNED]


@dataclass(frozen=True, slots=True)
class VerifiedManifest:
    """A manifest whose signature and version hold. Only ``verify_manifest`` makes one.

    Attributes:
        content: the manifest itself.
        signer: fingerprint of the key that signed it; None only for DANGEROUS_UNSIGNED.
        trusted: how ``signer`` was accepted: "named" by the caller, or the wildcard's word.
        digest: SHA-256 of the signed payload; names this very manifest.
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
        """The model key under the owner's key-encryption key."""
        return self.content.wrapped_key


def peek_manifest(data: bytes) -> Manifest:
    """Read a manifest for which nobody vouches. For showing to people; never for loading.

    Raises:
        ParseError: the envelope or the manifest is not well formed.
        IntegrityError: WRONG_PAYLOAD_TYPE.
    """
    return _content(parse_envelope(data, what="manifest"))


def verify_manifest(data: bytes, *, signers: Trusted, minimum_version: int) -> VerifiedManifest:
    """Verify a manifest.

    Args:
        data: the envelope's bytes, raw and untrusted.
        signers: keys, or their fingerprints, of which one must have signed and be named in the
            manifest as its signer. An empty tuple trusts nobody. Or one of the two words.
        minimum_version: lowest accepted version; 1 accepts every version.

    Raises:
        ParseError: the envelope or the manifest is not well formed.
        IntegrityError: WRONG_PAYLOAD_TYPE, UNSIGNED, SIGNER_UNKNOWN, SIGNATURE_INVALID or
            VERSION_ROLLBACK.
    """
    envelope = parse_envelope(data, what="manifest")
    manifest = _content(envelope)
    fingerprint: KeyFingerprint | None = None
    if signers is not DANGEROUS_UNSIGNED or manifest.signer is not None:
        if manifest.signer is None or not envelope.signatures:
            raise IntegrityError(DsseCode.UNSIGNED, "the manifest carries no signature")
        # The manifest names its signer. That is a claim until the signature verifies, and
        # worth nothing before the name is compared with the keys that the caller trusts.
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


def _content(envelope: Envelope) -> Manifest:
    if envelope.payload_type != PAYLOAD_TYPE:
        raise IntegrityError(
            DsseCode.WRONG_PAYLOAD_TYPE,
            f"want {PAYLOAD_TYPE}, got {envelope.payload_type[:100]!r}",
        )
    return parse_manifest(envelope.unverified_payload)


def _fingerprints(signers: tuple[VerifyKey | KeyFingerprint, ...]) -> frozenset[KeyFingerprint]:
    return frozenset(s.fingerprint if isinstance(s, VerifyKey) else s for s in signers)
