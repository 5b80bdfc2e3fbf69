"""Decodes challenge and release requests within limits. All their content is untrusted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from regalia.broker.codes import BrokerCode
from regalia.core.codec import parse_json, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId
from regalia.crypto.hpke import Kem, setup_sender
from regalia.keys.base import Recipient
from regalia.seal.format.sealed import VERSION_MAX
from regalia.wire.evidence import CHALLENGE_SIZE, ENVELOPE_LIMIT, WRAP_KEY_MAX, parse_evidence
from regalia.wire.release import (
    REQUEST_LIMIT,
    RETURN_TOKEN_SIZE,
    ChallengeRequest,
    LeaseReturn,
    ReleaseRequest,
)

CHALLENGE_REQUEST_LIMIT = 4096  # bytes
RETURN_LIMIT = 4096  # bytes
WRAP_KEY_BITS = 3072
WRAP_KEY_EXPONENT = 65537
LEASE_ID = re.compile(r"lease:[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class DecodedRequest:
    """A request whose fields are well-formed and within their limits, but still untrusted."""

    model_id: ModelId
    model_version: int
    policy_id: PolicyId
    hpke_public_key: bytes  # X-Wing; ``decode`` has encapsulated to it once
    wrap_public_key: bytes
    evidence: bytes
    lease_id: str | None


def parse_challenge_request(body: bytes) -> ModelId:
    """Decode a challenge request. Raises ParseError."""
    what = "challenge request"
    request = parse_json(body, ChallengeRequest, limit=CHALLENGE_REQUEST_LIMIT, what=what)
    return ModelId.parse(request.model_id)


def parse_release_request(body: bytes) -> tuple[ReleaseRequest, bytes]:
    """Decode a request's JSON and its challenge only; see ``decode``. Raises ParseError."""
    request = parse_json(body, ReleaseRequest, limit=REQUEST_LIMIT, what="release request")
    return request, unb64(request.challenge, what="challenge", size=CHALLENGE_SIZE)


def parse_lease_return(body: bytes) -> tuple[str, bytes]:
    """Decode a lease's return into its identifier and token. Raises ParseError."""
    asked = parse_json(body, LeaseReturn, limit=RETURN_LIMIT, what="lease return")
    if not LEASE_ID.fullmatch(asked.lease_id):
        raise ParseError(CoreCode.MALFORMED, "lease_id: want lease:<32 hex>")
    return asked.lease_id, unb64(asked.token, what="token", size=RETURN_TOKEN_SIZE)


def decode(request: ReleaseRequest) -> DecodedRequest:
    """Decode the other fields, after the challenge was consumed. Raises ParseError."""
    if not 1 <= request.model_version <= VERSION_MAX:
        raise ParseError(CoreCode.MALFORMED, f"model_version {request.model_version}")
    hpke_key = unb64(
        request.hpke_public_key, what="hpke_public_key", size=Kem.X_WING.public_key_size
    )
    # Encapsulate once to check the key: otherwise a release would be logged that cannot succeed.
    setup_sender(Kem.X_WING, hpke_key, b"")
    wrap_key = unb64(request.wrap_public_key, what="wrap_public_key", limit=WRAP_KEY_MAX)
    if not wrap_key:
        raise ParseError(CoreCode.MALFORMED, "wrap_public_key is empty")
    _require_wrap_key(wrap_key)
    if request.lease_id is not None and not LEASE_ID.fullmatch(request.lease_id):
        raise ParseError(CoreCode.MALFORMED, "lease_id: want lease:<32 hex>")
    return DecodedRequest(
        model_id=ModelId.parse(request.model_id),
        model_version=request.model_version,
        policy_id=PolicyId.parse(request.policy_id),
        hpke_public_key=hpke_key,
        wrap_public_key=wrap_key,
        evidence=unb64(request.evidence, what="evidence", limit=ENVELOPE_LIMIT),
        lease_id=request.lease_id,
    )


def recipient_for(asked: DecodedRequest) -> Recipient:
    """Whom the key store rewraps the model key for, once the evidence was accepted.

    Raises:
        ParseError: the evidence is malformed.
    """
    evidence = parse_evidence(asked.evidence)
    return Recipient(asked.wrap_public_key, evidence.tee, evidence.report)


def _require_wrap_key(spki: bytes) -> None:
    """Check that a key store could wrap to a key. Raises ParseError WRAP_KEY_MALFORMED."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise ParseError(BrokerCode.WRAP_KEY_MALFORMED, "wrap_public_key is no key") from exc
    if not isinstance(key, RSAPublicKey) or key.key_size != WRAP_KEY_BITS:
        raise ParseError(BrokerCode.WRAP_KEY_MALFORMED, "wrap_public_key is not RSA-3072")
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_numbers().e != WRAP_KEY_EXPONENT or encoded != spki:
        raise ParseError(
            BrokerCode.WRAP_KEY_MALFORMED, "wrap_public_key has another exponent or encoding"
        )


def version_of(request: ReleaseRequest) -> int:
    """The requested version for the record; 0 if it is out of range."""
    return request.model_version if 1 <= request.model_version <= VERSION_MAX else 0


def lease_of(request: ReleaseRequest) -> str:
    """The lease to renew, for the record; empty if there is none or it is malformed."""
    text = request.lease_id or ""
    return text if LEASE_ID.fullmatch(text) else ""


def recipient_of(request: ReleaseRequest) -> str:
    """Fingerprint of the public key, for the record; empty if it is not base64."""
    try:
        key = unb64(request.hpke_public_key, what="hpke_public_key", limit=REQUEST_LIMIT)
    except ParseError:
        return ""
    return str(KeyFingerprint.of(key))


def evidence_digest_of(request: ReleaseRequest) -> str:
    """Digest of the evidence for the record, even if malformed; empty if it is not base64."""
    try:
        return str(Digest.of(unb64(request.evidence, what="evidence", limit=REQUEST_LIMIT)))
    except ParseError:
        return ""
