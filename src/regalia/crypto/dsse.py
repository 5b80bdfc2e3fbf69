"""DSSE v1 envelopes (secure-systems-lab/dsse, protocol.md and envelope.md).

A signature covers PAE(payload type, payload): the type cannot be swapped. Keys are named by
their fingerprint, and the expected signers are always an argument: there is no "any signature
that verifies".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import MIB, b64, canonical_json, parse_json, unb64
from regalia.core.errors import Code, CoreCode, IntegrityError, ParseError

if TYPE_CHECKING:
    from regalia.crypto.sign import SigningKey, VerifyKey

LIMIT = 24 * MIB
_SIGNATURES_MAX = 16


class DsseCode(Code):
    """Refusals around signed documents."""

    UNSIGNED = (
        "Nobody vouches for this document; anybody could have written it.",
        "Ask its owner to sign it.",
    )
    SIGNER_UNKNOWN = (
        "The document is signed, and not by a key that you trust for it.",
        "Check whose key it is before you trust it.",
    )
    WRONG_PAYLOAD_TYPE = (
        "A signed document of one kind must not be taken for another.",
        "Give the right file.",
    )


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    keyid: str
    sig: str


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    payloadType: str  # noqa: N815 - the DSSE field name
    payload: str
    signatures: list[_Signature]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed, unverified envelope."""

    payload_type: str
    unverified_payload: bytes
    signatures: tuple[tuple[str, bytes], ...]  # (key fingerprint, signature)

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _Wire(
                payloadType=self.payload_type,
                payload=b64(self.unverified_payload),
                signatures=[_Signature(keyid=k, sig=b64(s)) for k, s in self.signatures],
            )
        )

    def verify(self, payload_type: str, trusted: tuple[VerifyKey, ...], *, threshold: int) -> bytes:
        """Return the payload once ``threshold`` different trusted keys have signed it.

        Args:
            payload_type: the only type that is accepted.
            trusted: keys whose signatures count.
            threshold: how many different ones must have signed, at least 1.

        Raises:
            IntegrityError: UNSIGNED, SIGNER_UNKNOWN, SIGNATURE_INVALID or WRONG_PAYLOAD_TYPE.
            ValueError: the threshold is not positive (a programmer's error).
        """
        if threshold < 1:
            raise ValueError("a threshold below one would accept an unsigned document")
        if self.payload_type != payload_type:
            raise IntegrityError(
                DsseCode.WRONG_PAYLOAD_TYPE, f"want {payload_type}, got {self.payload_type[:100]!r}"
            )
        if not self.signatures:
            raise IntegrityError(DsseCode.UNSIGNED, "the document carries no signature")
        message = pae(payload_type, self.unverified_payload)
        by_name = {str(key.fingerprint): key for key in trusted}
        good: set[str] = set()
        for keyid, signature in self.signatures:
            if keyid in by_name:
                by_name[keyid].verify(signature, message)
                good.add(keyid)
        if len(good) < threshold:
            seen = ", ".join(keyid for keyid, _ in self.signatures)
            raise IntegrityError(
                DsseCode.SIGNER_UNKNOWN,
                f"{len(good)} of {threshold} required trusted signatures; signed by {seen}",
            )
        return self.unverified_payload


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding.

    Args:
        payload_type: media type.
        payload: the bytes that are signed, exactly.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, keys: tuple[SigningKey, ...]) -> Envelope:
    """Sign a payload with each key. No key gives an unsigned envelope, which never verifies.

    Args:
        payload_type: media type; it is signed too.
        payload: signed as it is.
        keys: each adds one signature.
    """
    message = pae(payload_type, payload)
    return Envelope(
        payload_type,
        payload,
        tuple((str(key.verify_key.fingerprint), key.sign(message)) for key in keys),
    )


def parse_envelope(data: bytes, *, what: str) -> Envelope:
    """Inverse of ``Envelope.encode``. Raises ParseError.

    Args:
        data: raw, untrusted.
        what: names the document in the error.
    """
    wire = parse_json(data, _Wire, limit=LIMIT, what=what)
    if len(wire.signatures) > _SIGNATURES_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(wire.signatures)} signatures")
    if len({item.keyid for item in wire.signatures}) != len(wire.signatures):
        raise ParseError(CoreCode.MALFORMED, f"{what}: one key signed twice")
    return Envelope(
        wire.payloadType,
        unb64(wire.payload, what=f"{what}.payload"),
        tuple((s.keyid, unb64(s.sig, what=f"{what}.sig")) for s in wire.signatures),
    )
