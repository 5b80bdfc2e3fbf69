"""Serving evidence: the document by which clients verify a runtime, and the paths it serves.

Spec: docs/spec/sealed-channel.md, section 3. This module does not verify the document, which is
untrusted until ``regalia.client.verify`` has appraised it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import MIB, b64, canonical_json, parse_json, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, KeyFingerprint, ModelId, PolicyId
from regalia.wire.evidence import (
    CHALLENGE_SIZE,
    ENVELOPE_LIMIT,
    NO_DEVICES,
    WRAP_KEY_MAX,
    Binding,
    Role,
    parse_evidence,
)
from regalia.wire.release import LogProof

if TYPE_CHECKING:
    from regalia.wire.evidence import Evidence

FORMAT = "regalia/serving-evidence/v2"
MEDIA_TYPE = "application/json"
LIMIT = 8 * MIB  # bytes of the whole document
AUDIENCE = "client"  # first part of the binding's audience
HPKE_KEY_SIZE = 1216  # bytes of an X-Wing public key

EVIDENCE_PATH = "/.well-known/regalia/evidence"
SEALED_PATH = "/ohttp"
DATE_WINDOW_S = 120  # seconds that the date of a sealed request may differ, in either direction
KEY_PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#ohttp-key"  # RFC 9458, 5.3
DATE_PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#date"  # RFC 9458, 6.5.2
PROBLEM_MEDIA_TYPE = "application/problem+json"


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    evidence: str
    hpke_public_key: str
    wrap_public_key: str
    model_id: str
    model_version: int
    release: LogProof | None
    recipient: str


@dataclass(frozen=True, slots=True)
class ServingEvidence:
    """A runtime's answer to a client's challenge, raw and untrusted.

    Attributes:
        evidence: the evidence envelope; its report data must match ``binding(challenge)``.
        hpke_public_key: the OHTTP key, X-Wing, 1216 bytes.
        wrap_public_key: the runtime's RSA key, a SubjectPublicKeyInfo in DER.
        model_id: the model that is served.
        model_version: version in the sealed model's manifest, which the audience also names.
        release: proof that the release of this model's key is in the log.
        recipient: fingerprint of the key that the model key was released to, which the release's
            record names. The audience names it too.
    """

    evidence: Evidence
    hpke_public_key: bytes
    wrap_public_key: bytes
    model_id: ModelId
    model_version: int
    release: LogProof | None
    recipient: KeyFingerprint

    def encode(self) -> bytes:
        """Encode as canonical JSON."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                evidence=b64(self.evidence.encode()),
                hpke_public_key=b64(self.hpke_public_key),
                wrap_public_key=b64(self.wrap_public_key),
                model_id=str(self.model_id),
                model_version=self.model_version,
                release=self.release,
                recipient=str(self.recipient),
            )
        )

    def binding(self, challenge: bytes) -> Binding:
        """The binding that the evidence must commit to for this challenge."""
        return serving_binding(
            challenge,
            self.hpke_public_key,
            self.wrap_public_key,
            self.model_id,
            model_version=self.model_version,
            recipient=self.recipient,
        )


def serving_binding(  # noqa: PLR0913 - what the evidence is bound to
    challenge: bytes,
    hpke_public_key: bytes,
    wrap_public_key: bytes,
    model_id: ModelId,
    *,
    model_version: int,
    recipient: KeyFingerprint,
) -> Binding:
    """Build the binding of the serve role.

    It names no policy, because clients have their own. It also names no devices: the runtime
    replaces ``device_evidence`` after it has collected their evidence, and the verifier computes
    it from that evidence. The audience names the model's version; otherwise an attacker in the
    path could write a newer version into the document to get past a client's minimum. It names the
    recipient of the release as well; otherwise a guest could show the proof of another one, of the
    same image on the same machine.

    Args:
        challenge: 32 bytes, chosen by the client.
        hpke_public_key: key that requests are sealed to.
        wrap_public_key: the runtime's RSA key.
        model_id: the model that is served.
        model_version: version of that model.
        recipient: fingerprint of the runtime's release key.
    """
    return Binding(
        role=Role.SERVE,
        audience=f"{AUDIENCE};model-version={model_version};recipient={recipient}",
        challenge=challenge,
        hpke_public_key=hpke_public_key,
        wrap_public_key=wrap_public_key,
        model_id=model_id,
        policy_id=PolicyId(bytes(PolicyId.SIZE)),
        device_evidence=Digest(NO_DEVICES),
    )


def parse_serving_evidence(data: bytes) -> ServingEvidence:
    """Parse serving evidence. Inverse of ``ServingEvidence.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=LIMIT, what="serving evidence")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"serving evidence: format {wire.format[:80]!r}")
    if not 0 <= wire.model_version < 1 << 53:  # as in the sealed model's manifest
        raise ParseError(CoreCode.MALFORMED, f"serving evidence: version {wire.model_version}")
    wrap_key = unb64(
        wire.wrap_public_key, what="serving evidence.wrap_public_key", limit=WRAP_KEY_MAX
    )
    if not wrap_key:
        raise ParseError(CoreCode.MALFORMED, "serving evidence: wrap_public_key is empty")
    return ServingEvidence(
        evidence=parse_evidence(
            unb64(wire.evidence, what="serving evidence.evidence", limit=ENVELOPE_LIMIT)
        ),
        hpke_public_key=unb64(
            wire.hpke_public_key, what="serving evidence.hpke_public_key", size=HPKE_KEY_SIZE
        ),
        wrap_public_key=wrap_key,
        model_id=ModelId.parse(wire.model_id),
        model_version=wire.model_version,
        release=wire.release,
        recipient=KeyFingerprint.parse(wire.recipient),
    )


def encode_challenge(challenge: bytes) -> str:
    """Encode the query parameter ``challenge``: base64url without padding, 43 characters.

    Raises:
        ValueError: the challenge does not have 32 bytes, which is a bug of the caller.
    """
    if len(challenge) != CHALLENGE_SIZE:
        raise ValueError(f"a challenge has {CHALLENGE_SIZE} bytes")
    return base64.urlsafe_b64encode(challenge).decode("ascii").rstrip("=")


def parse_challenge(text: str) -> bytes:
    """Parse the query parameter. Inverse of ``encode_challenge``. Raises ParseError."""
    try:
        challenge = base64.b64decode(text + "=", altchars=b"-_", validate=True)
        canonical = len(challenge) == CHALLENGE_SIZE and encode_challenge(challenge) == text
    except (binascii.Error, ValueError) as exc:
        raise ParseError(CoreCode.MALFORMED, "challenge: not base64url") from exc
    if not canonical:
        raise ParseError(
            CoreCode.MALFORMED, f"challenge: want {CHALLENGE_SIZE} bytes in canonical base64url"
        )
    return challenge
