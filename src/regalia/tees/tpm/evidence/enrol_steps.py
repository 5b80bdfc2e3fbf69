"""What travels when a TPM is enrolled. Spec: docs/spec/tpm-appraisal.md, section "Enrolment".

    attester                                verifier
    request: AK, EK, EK certificates  ───►  checks the EK certificate, draws a secret
                                      ◄───  challenge: the secret, for this EK and this AK only
    answer: a quote over the secret   ───►  checks the quote, writes the enrolment

The answer is a ``regalia/tpm-quote/v1``. The secret itself never travels in clear.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from regalia.core.codec import b64, canonical_json, lp, parse_json, unb64
from regalia.core.errors import CoreCode, ParseError
from regalia.tees.tpm.evidence.enrolment import CERTIFICATE_MAX
from regalia.tees.tpm.evidence.public import PUBLIC_MAX
from regalia.wire.evidence import ENDORSEMENTS_MAX

REQUEST_FORMAT = "regalia/tpm-enrolment-request/v1"
PENDING_FORMAT = "regalia/tpm-enrolment-pending/v1"
CHALLENGE_FORMAT = "regalia/tpm-enrolment-challenge/v1"
ANSWER_DOMAIN = b"regalia/tpm-enrolment-answer/v1"
SECRET_SIZE = 32  # bytes; what a credential for an EK with a SHA-256 name can hold
STEP_LIMIT = 64 * 1024  # bytes
BLOB_MAX = 1024  # bytes of a TPM2B


class _WireRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    ak_public: str
    ek_public: str
    ek_certificates: list[str]


class _WireChallenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    id_object: str
    encrypted_secret: str


class _WirePending(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    secret: str
    request: str


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """What an attester says of itself, untrusted.

    Attributes:
        ak_public: TPMT_PUBLIC.
        ek_public: TPMT_PUBLIC.
        ek_certificates: DER; the EK's, then its issuers as far as the TPM holds them.
    """

    ak_public: bytes
    ek_public: bytes
    ek_certificates: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _WireRequest(
                format=REQUEST_FORMAT,
                ak_public=b64(self.ak_public),
                ek_public=b64(self.ek_public),
                ek_certificates=[b64(each) for each in self.ek_certificates],
            )
        )


def parse_request(data: bytes) -> EnrolmentRequest:
    """Inverse of ``EnrolmentRequest.encode``. Raises ParseError."""
    wire = parse_json(data, _WireRequest, limit=STEP_LIMIT, what="enrolment request")
    _require_format(wire.format, REQUEST_FORMAT)
    if len(wire.ek_certificates) > ENDORSEMENTS_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"enrolment request: {len(wire.ek_certificates)} certificates"
        )
    return EnrolmentRequest(
        ak_public=unb64(wire.ak_public, what="enrolment request.ak_public", limit=PUBLIC_MAX),
        ek_public=unb64(wire.ek_public, what="enrolment request.ek_public", limit=PUBLIC_MAX),
        ek_certificates=tuple(
            unb64(each, what="enrolment request.ek_certificates", limit=CERTIFICATE_MAX)
            for each in wire.ek_certificates
        ),
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """What TPM2_ActivateCredential takes. Not secret: only the EK opens it."""

    id_object: bytes  # TPM2B_ID_OBJECT
    encrypted_secret: bytes  # TPM2B_ENCRYPTED_SECRET

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _WireChallenge(
                format=CHALLENGE_FORMAT,
                id_object=b64(self.id_object),
                encrypted_secret=b64(self.encrypted_secret),
            )
        )


def parse_challenge(data: bytes) -> Credential:
    """Inverse of ``Credential.encode``. Raises ParseError."""
    wire = parse_json(data, _WireChallenge, limit=STEP_LIMIT, what="enrolment challenge")
    _require_format(wire.format, CHALLENGE_FORMAT)
    return Credential(
        id_object=unb64(wire.id_object, what="enrolment challenge.id_object", limit=BLOB_MAX),
        encrypted_secret=unb64(
            wire.encrypted_secret, what="enrolment challenge.encrypted_secret", limit=BLOB_MAX
        ),
    )


@dataclass(frozen=True, slots=True, repr=False)
class PendingEnrolment:
    """What the verifier keeps between challenge and answer. Holds a secret.

    Attributes:
        secret: 32 bytes, used once.
        request: the attester's, exact bytes.
    """

    secret: bytes
    request: bytes

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(
            _WirePending(format=PENDING_FORMAT, secret=b64(self.secret), request=b64(self.request))
        )


def parse_pending(data: bytes) -> PendingEnrolment:
    """Inverse of ``PendingEnrolment.encode``. Raises ParseError."""
    wire = parse_json(data, _WirePending, limit=2 * STEP_LIMIT, what="pending enrolment")
    _require_format(wire.format, PENDING_FORMAT)
    return PendingEnrolment(
        secret=unb64(wire.secret, what="pending enrolment.secret", size=SECRET_SIZE),
        request=unb64(wire.request, what="pending enrolment.request", limit=STEP_LIMIT),
    )


def answer_data(secret: bytes) -> bytes:
    """The qualifying data of the answer, 32 bytes: it shows that the TPM opened the challenge."""
    return hashlib.sha256(ANSWER_DOMAIN + lp(secret)).digest()


def _require_format(found: str, wanted: str) -> None:
    if found != wanted:
        raise ParseError(CoreCode.MALFORMED, f"enrolment: format {found[:80]!r}, want {wanted}")
