"""What is used of a transit mount. Paths and members are those of OpenBao 2 and Vault 1.14."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from regalia.core.codec import b64, unb64
from regalia.core.errors import KeyAccessError, ParseError, UnavailableError, UsageError
from regalia.keys.codes import KeysCode
from regalia.keys.reference import check_name
from regalia.keys.service_codes import KeyServiceCode
from regalia.keys.service_http import answer_wrong, parse_answer

if TYPE_CHECKING:
    from regalia.keys.openbao.connection import Connection

KEK_TYPE = "aes256-gcm96"
MOUNT_KEY_BITS = 4096


class _Kek(msgspec.Struct, frozen=True):
    type: str
    derived: bool
    exportable: bool
    allow_plaintext_backup: bool
    kdf: str = ""


class _KekAnswer(msgspec.Struct, frozen=True):
    data: _Kek


class _PublicKey(msgspec.Struct, frozen=True):
    public_key: str


class _PublicKeyAnswer(msgspec.Struct, frozen=True):
    data: _PublicKey


class _Ciphertext(msgspec.Struct, frozen=True):
    ciphertext: str


class _CiphertextAnswer(msgspec.Struct, frozen=True):
    data: _Ciphertext


class _Plaintext(msgspec.Struct, frozen=True):
    plaintext: str


class _PlaintextAnswer(msgspec.Struct, frozen=True):
    data: _Plaintext


class _Exported(msgspec.Struct, frozen=True):
    keys: dict[str, str]


class _ExportedAnswer(msgspec.Struct, frozen=True):
    data: _Exported


class _Names(msgspec.Struct, frozen=True):
    keys: list[str]


class _NamesAnswer(msgspec.Struct, frozen=True):
    data: _Names


class Transit:
    """A transit mount. Every method raises KeyAccessError or UnavailableError as ``call`` does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mount = connection.address.mount

    def require_kek(self, name: str) -> None:
        """Check that a KEK is there, and is one of ours. Raises KeyAccessError KEK_UNSUITED."""
        body = self._ask("GET", f"keys/{_part(name)}", None, f"looking at the KEK {name!r}")
        kek = parse_answer(body, _KekAnswer).data
        wrong = [
            why
            for holds, why in (
                (kek.type == KEK_TYPE, f"its type is {kek.type[:32]!r}, want {KEK_TYPE!r}"),
                (kek.derived, "it is not derived, so it would bind keys to nothing"),
                (not kek.exportable, "it can be exported"),
                (not kek.allow_plaintext_backup, "it can be backed up in clear"),
            )
            if not holds
        ]
        if wrong:
            raise KeyAccessError(KeyServiceCode.KEK_UNSUITED, f"KEK {name!r}: {', '.join(wrong)}")

    def make_kek(self, name: str) -> None:
        """Make a KEK. Raises KeyAccessError KEK_EXISTS."""
        try:
            self.require_kek(name)
        except KeyAccessError as exc:
            if exc.code is not KeysCode.KEK_UNKNOWN:
                raise
        else:
            raise KeyAccessError(KeysCode.KEK_EXISTS, f"{self._mount} has a key {name!r}")
        members = {"type": KEK_TYPE, "derived": True, "exportable": False}
        self._ask("POST", f"keys/{_part(name)}", members, f"making the KEK {name!r}")

    def mount_key(self) -> RSAPublicKey:
        """The mount's own public key, under which keys are brought into it."""
        body = self._ask("GET", "wrapping_key", None, "asking for the mount's wrapping key")
        pem = parse_answer(body, _PublicKeyAnswer).data.public_key
        try:
            key = load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise answer_wrong("a wrapping key that is no key") from exc
        if not isinstance(key, RSAPublicKey) or key.key_size != MOUNT_KEY_BITS:
            raise answer_wrong(f"a wrapping key that is not RSA-{MOUNT_KEY_BITS}")
        return key

    def encrypt(self, kek: str, data: bytes, context: bytes) -> str:
        """Encrypt under a KEK's newest version.

        Args:
            kek: name of the KEK; the server would make one of an unknown name.
            data: what is encrypted.
            context: from which the server derives the key of this one encryption.
        """
        members = {"plaintext": b64(data), "context": b64(context)}
        body = self._ask("POST", f"encrypt/{_part(kek)}", members, f"encrypting under {kek!r}")
        return parse_answer(body, _CiphertextAnswer).data.ciphertext

    def decrypt(self, kek: str, text: str, context: bytes, *, size: int) -> bytes:
        """Decrypt what ``encrypt`` has made.

        Args:
            kek: name of the KEK.
            text: untrusted.
            context: as it was given to ``encrypt``.
            size: bytes that it must have.
        """
        members = {"ciphertext": text, "context": b64(context)}
        body = self._ask("POST", f"decrypt/{_part(kek)}", members, f"decrypting under {kek!r}")
        plaintext = parse_answer(body, _PlaintextAnswer).data.plaintext
        return _decoded(plaintext, size, "a plaintext")

    def rewrap(self, kek: str, text: str, context: bytes) -> str:
        """Encrypt anew under a KEK's newest version, inside the server.

        Args:
            kek: name of the KEK.
            text: untrusted.
            context: as it was given to ``encrypt``.
        """
        members = {"ciphertext": text, "context": b64(context)}
        body = self._ask("POST", f"rewrap/{_part(kek)}", members, f"rewrapping under {kek!r}")
        return parse_answer(body, _CiphertextAnswer).data.ciphertext

    def import_key(self, name: str, wrapped: bytes) -> None:
        """Bring a key into the mount, for a moment. Raises KeyAccessError KEY_UNWRAP_FAILED.

        Args:
            name: of the key, which must not exist.
            wrapped: under the mount's own key.
        """
        members = {
            "ciphertext": b64(wrapped),
            "hash_function": "SHA256",
            "type": KEK_TYPE,
            # Without this it could not be wrapped to anybody. The broker may not export in clear.
            "exportable": True,
            "allow_rotation": False,
        }
        doing = "bringing a model key in"
        try:
            self._ask("POST", f"keys/{name}/import", members, doing)
        except UnavailableError as exc:
            # The server calls it an internal error if its wrapping key does not open a key.
            if "decryption error" in exc.what or "unwrapping" in exc.what:
                raise KeyAccessError(KeysCode.KEY_UNWRAP_FAILED, exc.what) from exc
            raise

    def import_public(self, name: str, spki: bytes) -> None:
        """Bring a recipient's public key into the mount, for a moment.

        Args:
            name: of the key, which must not exist.
            spki: RSA-3072, in DER.
        """
        pem = load_der_public_key(spki).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        members = {"public_key": pem.decode(), "type": "rsa-3072"}
        self._ask("POST", f"keys/{name}/import", members, "bringing a public key in")

    def export_to(self, recipient: str, name: str, *, size: int) -> bytes:
        """Have the server wrap one key to another: RSAES-OAEP and AES-KWP.

        Args:
            recipient: name of the public key.
            name: of the key that is wrapped.
            size: bytes that the answer must have.
        """
        path = f"byok-export/{recipient}/{name}/1?hash=SHA256"
        body = self._ask("GET", path, None, "wrapping a model key to a runtime")
        keys = parse_answer(body, _ExportedAnswer).data.keys
        if list(keys) != ["1"]:
            raise answer_wrong(f"{len(keys)} versions of an exported key")
        return _decoded(keys["1"], size, "an exported key")

    def remove(self, name: str) -> None:
        """Delete a key that was brought in."""
        doing = f"deleting {name}"
        self._ask("POST", f"keys/{name}/config", {"deletion_allowed": True}, doing)
        self._ask("DELETE", f"keys/{name}", None, doing)

    def names(self) -> list[str]:
        """Names of all keys of the mount."""
        try:
            body = self._ask("LIST", "keys", None, "listing keys")
        except KeyAccessError as exc:
            if exc.code is not KeysCode.KEK_UNKNOWN:
                raise
            return []  # how such servers say that there is none
        return parse_answer(body, _NamesAnswer).data.keys

    def allows(self, path: str) -> tuple[str, ...]:
        """What the caller may do at a path of this mount."""
        return self._connection.allows(f"{self._mount}/{path}")

    def _ask(self, method: str, path: str, members: dict[str, Any] | None, doing: str) -> bytes:
        return self._connection.call(
            method, f"{self._mount}/{path}", members, doing=doing, absent=KeysCode.KEK_UNKNOWN
        )


def _part(kek: str) -> str:
    """A KEK's name as one part of a path. Raises KeyAccessError KEK_UNKNOWN.

    A manifest says the name. In another form it could lead out of the mount, or be a second name of
    a KEK, which a rotation of the first one would miss.
    """
    try:
        return check_name(kek)
    except UsageError as exc:
        raise KeyAccessError(KeysCode.KEK_UNKNOWN, exc.what) from exc


def _decoded(text: str, size: int, what: str) -> bytes:
    try:
        return unb64(text, what=what, size=size)
    except ParseError:
        # Without the cause, which quotes nothing, but says how much there was.
        raise answer_wrong(f"{what} that has not {size} bytes of base64") from None
