"""The key store ``aws-kms``: KMS verifies the enclave itself, and encrypts to the key it shows.

The broker gets CMS that only the enclave opens. Spec: docs/spec/aws-kms-key-store.md.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

import msgspec

from regalia.core.codec import b64, lp, unb64
from regalia.core.errors import IntegrityError, KeyAccessError, ParseError, PolicyDenied
from regalia.core.secret import SecretBytes
from regalia.crypto.cms import parse_enveloped
from regalia.host.deadlines import answer_within
from regalia.keys.aws_kms.codes import AwsKmsCode
from regalia.keys.base import MODEL_KEY_SIZE, KekId
from regalia.keys.codes import KeysCode
from regalia.keys.logged import require_release
from regalia.keys.service_codes import KeyServiceCode
from regalia.keys.service_http import answer_wrong, parse_answer
from regalia.wire.cbor import decode_cbor
from regalia.wire.cose import parse_sign1
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from types import TracebackType

    from regalia.keys.aws_kms.connection import Connection
    from regalia.keys.base import Recipient
    from regalia.wire.release import Custody, KeyWrapping, LoggedRecord

WRAP_ALGORITHM = "regalia/wrap-aws-kms/v1"
KEY_WRAPPING: KeyWrapping = "cms-rsa-oaep-sha256-aes256-cbc"
RELEASE_S = 20.0  # seconds for all calls of one release
CONTEXT_NAME = "regalia:context"
_BLOB_MAX = 1024  # bytes of KMS's ciphertext; of 32 bytes it makes some 180
_DOCUMENT_MAX = 1 << 18  # bytes; AWS accepts that many
_ID_DOMAIN = b"regalia/aws-kms-kek-id/v1"


class _Metadata(msgspec.Struct, frozen=True, rename="pascal"):
    arn: str
    key_state: str
    key_usage: str
    key_spec: str


class _Described(msgspec.Struct, frozen=True, rename="pascal"):
    key_metadata: _Metadata


class _Encrypted(msgspec.Struct, frozen=True, rename="pascal"):
    ciphertext_blob: str


class _Decrypted(msgspec.Struct, frozen=True, rename="pascal"):
    plaintext: str | None = None
    ciphertext_for_recipient: str | None = None


class AwsKmsKeyStore:
    """Keys of one region. Implements ``keys.base.KeyStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def banner(self) -> None:
        """None: the store is meant for production."""

    @property
    def custody(self) -> Custody:
        """``kms``, because KMS decrypts the model key and encrypts it to the enclave."""
        return "kms"

    @property
    def key_wrapping(self) -> KeyWrapping:
        """The CMS that KMS makes."""
        return KEY_WRAPPING

    @property
    def wrap_algorithm(self) -> str:
        """Format of wrapped keys: docs/spec/aws-kms-key-store.md, "Wrapped model keys"."""
        return WRAP_ALGORITHM

    def kek_id(self, kek: str) -> KekId:
        """Public identifier of a KEK; see ``keys.base.KeyStore``."""
        return _identity(self._arn(kek))

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        """Wrap a model key as KEK id ‖ KMS's ciphertext; see ``keys.base.KeyStore``.

        Args:
            kek: alias or id of the KEK.
            model_key: 32 bytes.
            context: what the wrapped key is bound to.

        Raises:
            ValueError: the model key does not have 32 bytes, which is a bug of the caller.
        """
        if len(model_key) != MODEL_KEY_SIZE:
            raise ValueError(f"a model key has {MODEL_KEY_SIZE} bytes")
        arn = self._arn(kek)
        members = {
            "KeyId": arn,
            "Plaintext": b64(model_key.view()),
            "EncryptionContext": _context(context),
        }
        body = self._connection.call("Encrypt", members, doing=f"encrypting under {kek!r}")
        text = parse_answer(body, _Encrypted).ciphertext_blob
        return _identity(arn).raw + _decoded(text, _BLOB_MAX)

    def require_recipient(self, recipient: Recipient) -> None:
        """Accept enclaves whose document shows their key: KMS encrypts to nothing else.

        Args:
            recipient: whose evidence the policy accepts.

        Raises:
            PolicyDenied: RECIPIENT_UNSUITED.
        """
        if recipient.tee != Tee.NITRO:
            raise _unsuited(f"AWS KMS verifies no evidence of {recipient.tee}")
        if _key_in(recipient.report) != recipient.wrap_public_key:
            raise _unsuited("the attestation document does not show wrap_public_key")

    def rewrap_logged(
        self,
        kek: str,
        blob: bytes,
        context: bytes,
        *,
        recipient: Recipient,
        logged: LoggedRecord,
    ) -> SecretBytes:
        """Have KMS encrypt a model key to an enclave that it has verified; see ``keys.base``.

        Args:
            kek: alias or id of the KEK.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to.
            recipient: whom the release is for.
            logged: record of the release, whose inclusion in the log was verified.

        Raises:
            IntegrityError: KMS_PLAINTEXT_RETURNED or KEY_SERVICE_ANSWER_WRONG.
        """
        require_release(logged, context)
        attested = {
            "AttestationDocument": b64(recipient.report),
            "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
        }
        answer = self._decrypt(kek, blob, context, {"Recipient": attested})
        if answer.plaintext:
            raise IntegrityError(
                AwsKmsCode.KMS_PLAINTEXT_RETURNED, "the answer to an attested Decrypt has Plaintext"
            )
        if answer.ciphertext_for_recipient is None:
            raise answer_wrong("no CiphertextForRecipient")
        sealed = _decoded(answer.ciphertext_for_recipient, _BLOB_MAX * 4)
        try:
            parse_enveloped(sealed)
        except ParseError as exc:
            raise answer_wrong(exc.what) from exc
        return SecretBytes.copy_of(sealed)

    def recover_for_owner(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        """Decrypt without an enclave, if the key policy lets the owner; see ``keys.base``.

        Args:
            kek: alias or id of the KEK.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to.

        Raises:
            KeyAccessError: OWNER_CANNOT_RECOVER, or as ``kek_id``.
        """
        try:
            answer = self._decrypt(kek, blob, context, {})
        except KeyAccessError as exc:
            if exc.code is KeyServiceCode.KEY_SERVICE_NOT_ALLOWED:
                raise KeyAccessError(KeysCode.OWNER_CANNOT_RECOVER, exc.what) from exc
            raise
        key = _decoded(answer.plaintext or "", MODEL_KEY_SIZE)
        if len(key) != MODEL_KEY_SIZE:
            raise answer_wrong(f"a model key of {len(key)} bytes")
        return SecretBytes.copy_of(key)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<key store, {self._connection.address}>"

    def _arn(self, kek: str) -> str:
        members = {"KeyId": self._connection.address.key_id(kek)}
        body = self._connection.call("DescribeKey", members, doing=f"looking at the KEK {kek!r}")
        key = parse_answer(body, _Described).key_metadata
        if (key.key_usage, key.key_spec) != ("ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"):
            what = f"KEK {kek!r} is for {key.key_usage[:32]}, {key.key_spec[:32]}"
            raise KeyAccessError(KeyServiceCode.KEK_UNSUITED, what)
        if key.key_state != "Enabled":
            what = f"KEK {kek!r} is in the state {key.key_state[:32]}"
            raise KeyAccessError(KeyServiceCode.KEK_DISABLED, what)
        return key.arn

    def _decrypt(
        self, kek: str, blob: bytes, context: bytes, more: dict[str, object]
    ) -> _Decrypted:
        with answer_within(RELEASE_S):
            arn = self._arn(kek)
            named, body = blob[: KekId.SIZE], blob[KekId.SIZE :]
            if not body or len(body) > _BLOB_MAX:
                raise KeyAccessError(KeysCode.KEY_UNWRAP_FAILED, f"wrapped key: {len(blob)} bytes")
            if KekId(named) != _identity(arn):
                raise KeyAccessError(
                    KeysCode.KEK_MISMATCH, f"wrapped under {KekId(named)}; {kek!r} is another key"
                )
            members = {
                "KeyId": arn,
                "CiphertextBlob": b64(body),
                "EncryptionContext": _context(context),
                **more,
            }
            answer = self._connection.call("Decrypt", members, doing=f"decrypting under {kek!r}")
        return parse_answer(answer, _Decrypted)


def _identity(arn: str) -> KekId:
    """Of the key's name in AWS, as its bytes are never seen. An alias may be moved to another."""
    return KekId(hashlib.sha256(_ID_DOMAIN + lp(arn.encode())).digest())


def _context(context: bytes) -> dict[str, str]:
    # It stands in AWS's log of calls, in clear. It names model, version and seal, and no secret.
    return {CONTEXT_NAME: b64(context)}


def _key_in(document: bytes) -> bytes | None:
    """The public key that an attestation document shows; the broker has verified the document."""
    try:
        message = parse_sign1(document, limit=_DOCUMENT_MAX, what="attestation document")
        fields = decode_cbor(message.payload, limit=_DOCUMENT_MAX, what="attestation document")
    except ParseError:
        return None
    key = fields.get("public_key") if isinstance(fields, dict) else None
    return key if isinstance(key, bytes) else None


def _unsuited(what: str) -> PolicyDenied:
    return PolicyDenied(KeysCode.RECIPIENT_UNSUITED, what)


def _decoded(text: str, limit: int) -> bytes:
    try:
        return unb64(text, what="key", limit=limit)
    except ParseError:
        raise answer_wrong(f"no base64 of at most {limit} bytes") from None
