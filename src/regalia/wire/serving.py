"""What a serving runtime shows to clients, and where. Spec: docs/spec/sealed-channel.md, section 3.

Untrusted until ``regalia.client.verify`` has appraised it: nothing here verifies anything.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from regalia.core.codec import MIB, b64, canonical_json, parse_json, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.core.types import Digest, ModelId, PolicyId
from regalia.wire.evidence import (
    CHALLENGE_SIZE,
    ENVELOPE_LIMIT,
    NO_DEVICES,
    Binding,
    Role,
    parse_evidence,
)
from regalia.wire.release import LogProof

if TYPE_CHECKING:
    from regalia.wire.evidence import Evidence

FORMAT = "regalia/serving-evidence/v1"
MEDIA_TYPE = "application/json"
LIMIT = 8 * MIB  # bytes of the whole document
AUDIENCE = "client"
HPKE_KEY_SIZE = 1216  # bytes, X-Wing
WRAP_KEY_LIMIT = 4096  # bytes, RSA-3072 SubjectPublicKeyInfo is 422

EVIDENCE_PATH = "/.well-known/regalia/evidence"
SEALED_PATH = "/ohttp"
DATE_WINDOW_S = 120  # a sealed request's date may differ by this much, either way
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


@dataclass(frozen=True, slots=True)
class ServingEvidence:
    """One runtime's answer to one client's challenge. Raw and untrusted.

    Attributes:
        evidence: the evidence envelope; its report data is ``binding(challenge)``.
        hpke_public_key: the OHTTP key, X-Wing, 1216 bytes.
        wrap_public_key: the runtime's other key, SubjectPublicKeyInfo, DER.
        model_id: the model being served.
        model_version: of the sealed model's manifest; the binding's audience names it.
        release: proof that the release of this model's key stands in the log.
    """

    evidence: Evidence
    hpke_public_key: bytes
    wrap_public_key: bytes
    model_id: ModelId
    model_version: int
    release: LogProof | None

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _Wire(
                format=FORMAT,
                evidence=b64(self.evidence.encode()),
                hpke_public_key=b64(self.hpke_public_key),
                wrap_public_key=b64(self.wrap_public_key),
                model_id=str(self.model_id),
                model_version=self.model_version,
                release=self.release,
            )
        )

    def binding(self, challenge: bytes) -> Binding:
        """What the evidence must commit to for this challenge."""
        return serving_binding(
            challenge,
            self.hpke_public_key,
            self.wrap_public_key,
            self.model_id,
            model_version=self.model_version,
        )


def serving_binding(
    challenge: bytes,
    hpke_public_key: bytes,
    wrap_public_key: bytes,
    model_id: ModelId,
    *,
    model_version: int,
) -> Binding:
    """The binding of the serve role: no policy (the client has its own), no devices.

    The audience carries the model's version. Without that, somebody in the path could write a
    newer version into the document and so get past a client's minimum.

    Args:
        challenge: the client's, 32 bytes.
        hpke_public_key: requests are sealed to it.
        wrap_public_key: the runtime's second attested key.
        model_id: of the model that is served.
        model_version: of that model.
    """
    return Binding(
        role=Role.SERVE,
        audience=f"{AUDIENCE};model-version={model_version}",
        challenge=challenge,
        hpke_public_key=hpke_public_key,
        wrap_public_key=wrap_public_key,
        model_id=model_id,
        policy_id=PolicyId(bytes(PolicyId.SIZE)),
        device_evidence=Digest(NO_DEVICES),
    )


def parse_serving_evidence(data: bytes) -> ServingEvidence:
    """Inverse of ``ServingEvidence.encode``. Raises ParseError."""
    wire = parse_json(data, _Wire, limit=LIMIT, what="serving evidence")
    if wire.format != FORMAT:
        raise ParseError(CoreCode.MALFORMED, f"serving evidence: format {wire.format[:80]!r}")
    if wire.model_version < 0:
        raise ParseError(CoreCode.MALFORMED, "serving evidence: negative model version")
    return ServingEvidence(
        evidence=parse_evidence(
            unb64(wire.evidence, what="serving evidence.evidence", limit=ENVELOPE_LIMIT)
        ),
        hpke_public_key=unb64(
            wire.hpke_public_key, what="serving evidence.hpke_public_key", size=HPKE_KEY_SIZE
        ),
        wrap_public_key=unb64(
            wire.wrap_public_key, what="serving evidence.wrap_public_key", limit=WRAP_KEY_LIMIT
        ),
        model_id=ModelId.parse(wire.model_id),
        model_version=wire.model_version,
        release=wire.release,
    )


def encode_challenge(challenge: bytes) -> str:
    """The query parameter ``challenge``: base64url without padding, 43 characters.

    Raises:
        ValueError: the challenge has another size than 32 bytes (the caller's bug).
    """
    if len(challenge) != CHALLENGE_SIZE:
        raise ValueError(f"a challenge has {CHALLENGE_SIZE} bytes")
    return base64.urlsafe_b64encode(challenge).decode("ascii").rstrip("=")


def parse_challenge(text: str) -> bytes:
    """Inverse of ``encode_challenge``. Raises ParseError."""
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
