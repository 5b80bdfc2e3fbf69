"""What KMS decides: which key, in which state, for whom, and for which enclave.

Enclaves are verified by the product's own verifier, with a simulated root as its only anchor.
Signatures of requests are not checked; who asks is read from them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_public_key

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.nitro.evidence import NitroCollateral, wire
from regalia.tees.nitro.evidence.verify import parse, verify_genuine
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.kms.envelopes import sealed_to
from regalia_testing.testbed import ANY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.host.clock import Clock
    from regalia.tees.nitro.evidence import NitroAnchors

ACCOUNT = "111122223333"
DOCUMENT_AGE_MAX = timedelta(minutes=5)
_NONCE_SIZE = 12
_PREFIX = "kms:RecipientAttestation:"


class KmsError(Exception):
    """An answer of status 400 (or 500), in AWS's words."""

    def __init__(self, kind: str, message: str = "", status: int = 400) -> None:
        super().__init__(kind)
        self.kind = kind
        self.message = message
        self.status = status


@dataclass
class KmsKey:
    """A KMS key with a real AES key inside.

    Attributes:
        region: of AWS.
        alias: without ``alias/``.
        policy: statements of its key policy.
        state: as KMS names it.
        spec: as KMS names it.
    """

    region: str
    alias: str
    policy: list[dict[str, Any]]
    state: str = "Enabled"
    spec: str = "SYMMETRIC_DEFAULT"
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    key_id: str = "1234abcd-12ab-34cd-56ef-1234567890ab"

    @property
    def arn(self) -> str:
        """The key's name in AWS."""
        return f"arn:aws:kms:{self.region}:{ACCOUNT}:key/{self.key_id}"


@dataclass
class KmsService:
    """The keys of one region, and the root that enclaves are verified with."""

    region: str
    anchors: NitroAnchors
    clock: Clock
    keys: list[KmsKey] = field(default_factory=list)

    def call(self, name: str, caller: str, members: dict[str, Any]) -> dict[str, Any]:
        """Answer one call.

        Args:
            name: of the call.
            caller: id of the access key that signed.
            members: of the request.

        Raises:
            KmsError: AWS's refusal.
        """
        key = self._key(members["KeyId"])
        facts = self._attested(members["Recipient"]) if "Recipient" in members else None
        if not _is_allowed(key, name, caller, {} if facts is None else facts.conditions):
            raise KmsError("AccessDeniedException", f"User: {caller} is not authorized: kms:{name}")
        if name == "DescribeKey":
            return {
                "KeyMetadata": {
                    "Arn": key.arn,
                    "KeyId": key.key_id,
                    "KeyState": key.state,
                    "KeyUsage": "ENCRYPT_DECRYPT",
                    "KeySpec": key.spec,
                }
            }
        if key.state == "Disabled":
            raise KmsError("DisabledException", f"{key.arn} is disabled.")
        if key.state != "Enabled":
            raise KmsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        aad = _aad(key, members.get("EncryptionContext", {}))
        if name == "Encrypt":
            nonce = secrets.token_bytes(_NONCE_SIZE)
            body = AESGCM(key.key).encrypt(nonce, base64.b64decode(members["Plaintext"]), aad)
            return {"CiphertextBlob": _text(nonce + body), "KeyId": key.arn}
        if name != "Decrypt":
            raise KmsError("UnknownOperationException")
        blob = base64.b64decode(members["CiphertextBlob"])
        try:
            plaintext = AESGCM(key.key).decrypt(blob[:_NONCE_SIZE], blob[_NONCE_SIZE:], aad)
        except (InvalidTag, ValueError) as exc:
            raise KmsError("InvalidCiphertextException") from exc
        if facts is None:
            return {"Plaintext": _text(plaintext), "KeyId": key.arn}
        sealed = sealed_to(facts.public_key, plaintext)
        return {"CiphertextForRecipient": _text(sealed), "KeyId": key.arn}

    def _key(self, name: str) -> KmsKey:
        for key in self.keys:
            alias = f"arn:aws:kms:{key.region}:{ACCOUNT}:alias/{key.alias}"
            if name in {key.arn, key.key_id, f"alias/{key.alias}", alias}:
                return key
        raise KmsError("NotFoundException", f"{name} is not found.")

    def _attested(self, recipient: dict[str, str]) -> _Attested:
        if recipient.get("KeyEncryptionAlgorithm") != "RSAES_OAEP_SHA_256":
            raise KmsError("ValidationException", "KeyEncryptionAlgorithm")
        raw, now = base64.b64decode(recipient["AttestationDocument"]), self.clock()
        at = AppraisalContext(now=now, rule=ANY, cache=Cache())
        try:
            parsed = parse(Evidence(Tee.NITRO, raw, (), b""))
            nonce = wire.parse_nitro(raw).document.nonce or b""
            unbound = verify_genuine(
                parsed, anchors=self.anchors, collateral=NitroCollateral(), at=at
            )
            claims = unbound.fresh(nonce)
        except (AttestationError, ParseError) as exc:
            raise KmsError("ValidationException", "The attestation document is invalid.") from exc
        if timedelta(milliseconds=claims.age_ms) > DOCUMENT_AGE_MAX:
            raise KmsError("ValidationException", "The attestation document is too old.")
        key = load_der_public_key(claims.public_key) if claims.public_key else None
        if not isinstance(key, RSAPublicKey):
            raise KmsError("ValidationException", "The attestation document has no public key.")
        conditions = {f"{_PREFIX}PCR{index}": value.hex() for index, value in claims.pcrs.items()}
        conditions[f"{_PREFIX}ImageSha384"] = claims.pcrs[0].hex()
        return _Attested(key, conditions)


@dataclass(frozen=True)
class _Attested:
    public_key: RSAPublicKey
    conditions: Mapping[str, str]


def _is_allowed(key: KmsKey, name: str, caller: str, facts: Mapping[str, str]) -> bool:
    """Whether a statement of the key policy allows a call. What names no caller allows nobody."""
    return any(
        statement["Effect"] == "Allow"
        and f"kms:{name}" in statement["Action"]
        and caller in statement["Principal"]["AWS"]
        and all(
            facts.get(condition, "").lower() == wanted.lower()
            for operator, conditions in statement.get("Condition", {}).items()
            if operator in {"StringEquals", "StringEqualsIgnoreCase"}
            for condition, wanted in conditions.items()
        )
        for statement in key.policy
    )


def _aad(key: KmsKey, context: dict[str, str]) -> bytes:
    canonical = json.dumps([key.arn, context], sort_keys=True).encode()
    return hashlib.sha256(canonical).digest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
