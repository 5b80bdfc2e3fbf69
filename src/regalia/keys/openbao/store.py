"""The key store ``openbao``: model keys that only the server and the runtime have in clear.

A model key is wrapped twice: under the mount's own RSA key, which is how keys are brought into a
transit engine, and around that under a KEK, which binds it to its model. At a release the broker
takes the outer layer off and hands the inner one back, which the server opens and wraps to the
attested key. Spec: docs/spec/openbao-key-store.md.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.core.codec import lp, unb64
from regalia.core.errors import KeyAccessError, ParseError, PolicyDenied, RegaliaError
from regalia.core.secret import SecretBytes
from regalia.crypto.key_wrapping import open_wrapped, rsa_aes_wrapped_size, wrap_to
from regalia.host.deadlines import answer_within
from regalia.keys.base import MODEL_KEY_SIZE, KekId
from regalia.keys.codes import KeysCode
from regalia.keys.logged import require_release
from regalia.keys.openbao.transit import MOUNT_KEY_BITS, Transit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from regalia.keys.base import Recipient
    from regalia.keys.openbao.connection import Connection
    from regalia.wire.release import Custody, KeyWrapping, LoggedRecord

WRAP_ALGORITHM = "regalia/wrap-openbao-transit/v1"
KEY_WRAPPING: KeyWrapping = "rsa-oaep-sha256-aes-kwp"
RECIPIENT_BITS = 3072  # of the runtime's RSA key
INNER_SIZE = rsa_aes_wrapped_size(MOUNT_KEY_BITS, MODEL_KEY_SIZE)
RELEASE_S = 20.0  # seconds for all requests of one release
LEFT_OVER_S = 600  # seconds after which a key that was brought in has been forgotten
_OVERHEAD = 12 + 16  # bytes of a nonce and a tag
_ID_DOMAIN = b"regalia/openbao-kek-id/v1"
_TEXT = re.compile(r"vault:v[1-9][0-9]{0,8}:([A-Za-z0-9+/=]{1,1024})")
_TEMPORARY = re.compile(r"regalia-(?:key|to)-([0-9a-f]{8})-[0-9a-f]{32}")


class OpenBaoKeyStore:
    """A transit mount that is open. Implements ``keys.base.KeyStore``."""

    def __init__(self, connection: Connection) -> None:
        """Ask for the mount's own key. Raises RegaliaError if the server cannot be used.

        Args:
            connection: closed together with the store.
        """
        self._connection = connection
        self._transit = Transit(connection)
        self._mount_key = self._transit.mount_key()

    @property
    def banner(self) -> None:
        """None: the store is meant for production."""

    @property
    def custody(self) -> Custody:
        """``kms``, because the model key is rewrapped in the server."""
        return "kms"

    @property
    def key_wrapping(self) -> KeyWrapping:
        """RSAES-OAEP of a fresh AES key, and AES-KWP of the model key under it."""
        return KEY_WRAPPING

    @property
    def wrap_algorithm(self) -> str:
        """Format of wrapped keys: docs/spec/openbao-key-store.md, "Wrapped model keys"."""
        return WRAP_ALGORITHM

    def kek_id(self, kek: str) -> KekId:
        """Public identifier of a KEK; see ``keys.base.KeyStore``."""
        self._transit.require_kek(kek)
        return self._identity(kek)

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        """Wrap a model key as KEK id ‖ ciphertext of the server; see ``keys.base.KeyStore``.

        Args:
            kek: name of the KEK.
            model_key: 32 bytes.
            context: what the wrapped key is bound to.

        Raises:
            ValueError: the model key does not have 32 bytes, which is a bug of the caller.
        """
        if len(model_key) != MODEL_KEY_SIZE:
            raise ValueError(f"a model key has {MODEL_KEY_SIZE} bytes")
        # An unknown KEK would be made by the server as it likes.
        self._transit.require_kek(kek)
        inner = wrap_to(KEY_WRAPPING, model_key, self._mount_key)
        return self._blob(kek, self._transit.encrypt(kek, inner, context))

    def require_recipient(self, recipient: Recipient) -> None:
        """Accept every runtime: the broker has checked that its key is RSA-3072.

        Args:
            recipient: whose evidence the policy accepts.

        Raises:
            PolicyDenied: RECIPIENT_UNSUITED.
        """
        if not recipient.wrap_public_key:
            raise PolicyDenied(KeysCode.RECIPIENT_UNSUITED, "no wrap_public_key")

    def rewrap_logged(
        self,
        kek: str,
        blob: bytes,
        context: bytes,
        *,
        recipient: Recipient,
        logged: LoggedRecord,
    ) -> SecretBytes:
        """Have the server rewrap a model key for a logged release; see ``keys.base.KeyStore``.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to.
            recipient: whom the release is for.
            logged: record of the release, whose inclusion in the log was verified.
        """
        require_release(logged, context)
        return self._rewrap(kek, blob, context, recipient.wrap_public_key)

    def recover_for_owner(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        """Have the server wrap the model key to a key of this process; see ``keys.base.KeyStore``.

        The server cannot tell an owner's key from an attested one. So whoever may have it release
        can also recover; its audit log shows both.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to.
        """
        private = rsa.generate_private_key(65537, RECIPIENT_BITS)
        spki = _spki(private.public_key())
        with self._rewrap(kek, blob, context, spki) as wrapped:
            return open_wrapped(KEY_WRAPPING, wrapped, private)

    def rewrap_under(self, kek: str, blob: bytes, context: bytes, *, to: str) -> bytes:
        """Rewrap a model key under another KEK of this mount, or the newest version of its own.

        Under its own, nothing of it leaves the server. Under another, this process sees the inner
        layer, which only the server can open.

        Args:
            kek: name of the KEK that it is wrapped with.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to, and will be.
            to: name of the other KEK.

        Raises:
            KeyAccessError: KEK_UNKNOWN, KEK_MISMATCH or KEY_UNWRAP_FAILED, or as ``kek_id``.
        """
        self._transit.require_kek(to)
        if to == kek:
            text = self._text_of(kek, blob)
            return self._blob(kek, self._transit.rewrap(kek, text, context))
        inner = self._inner(kek, blob, context)
        return self._blob(to, self._transit.encrypt(to, inner, context))

    def make_kek(self, kek: str) -> None:
        """Have the server make a KEK. Raises KeyAccessError KEK_EXISTS, or as ``kek_id``."""
        self._transit.make_kek(kek)

    def may_do(self, path: str) -> bool:
        """Whether this login may do anything at a path of the mount. Raises as ``kek_id``."""
        return bool(set(self._transit.allows(path)) - {"deny"})

    def remove_left_overs(self) -> int:
        """Delete what releases have brought in and could not delete. Returns how many keys.

        Raises:
            RegaliaError: the server refuses, or cannot be reached.
        """
        before, removed = int(time.time()) - LEFT_OVER_S, 0
        for name in self._transit.names():
            found = _TEMPORARY.fullmatch(name)
            # Younger ones may be those of a release in progress, of this broker or another.
            if found and int(found[1], 16) < before:
                self._transit.remove(name)
                removed += 1
        return removed

    def close(self) -> None:
        """End the connections, and forget the token."""
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
        return f"<OpenBao key store, {self._connection.address}>"

    def _identity(self, kek: str) -> KekId:
        """Of the mount and the name, as a KEK's versions change and its bytes are never seen."""
        data = _ID_DOMAIN + lp(_spki(self._mount_key), kek.encode())
        return KekId(hashlib.sha256(data).digest())

    def _blob(self, kek: str, text: str) -> bytes:
        blob = self._identity(kek).raw + text.encode()
        self._text_of(kek, blob)  # what cannot be read again is not handed out
        return blob

    def _text_of(self, kek: str, blob: bytes) -> str:
        """The server's ciphertext in a wrapped key, if it can be one."""
        named, body = blob[: KekId.SIZE], blob[KekId.SIZE :]
        text = body.decode("ascii", "replace")
        found = _TEXT.fullmatch(text)
        if len(named) != KekId.SIZE or found is None:
            raise _malformed(blob, "its form is another one")
        try:
            unb64(found[1], what="ciphertext", size=INNER_SIZE + _OVERHEAD)
        except ParseError as exc:
            raise _malformed(blob, exc.what) from exc
        if KekId(named) != self._identity(kek):
            raise KeyAccessError(
                KeysCode.KEK_MISMATCH,
                f"wrapped under {KekId(named)}; {kek!r} is {self._identity(kek)}",
            )
        return text

    def _inner(self, kek: str, blob: bytes, context: bytes) -> bytes:
        text = self._text_of(kek, blob)
        self._transit.require_kek(kek)
        return self._transit.decrypt(kek, text, context, size=INNER_SIZE)

    def _rewrap(self, kek: str, blob: bytes, context: bytes, spki: bytes) -> SecretBytes:
        with answer_within(RELEASE_S):
            inner = self._inner(kek, blob, context)
        size = rsa_aes_wrapped_size(RECIPIENT_BITS, MODEL_KEY_SIZE)
        with self._temporary("key") as name, self._temporary("to") as to, answer_within(RELEASE_S):
            self._transit.import_public(to, spki)
            self._transit.import_key(name, inner)
            return SecretBytes.copy_of(self._transit.export_to(to, name, size=size))

    @contextmanager
    def _temporary(self, kind: str) -> Iterator[str]:
        """A name for a key that is deleted at the end.

        A release whose key cannot be deleted fails: the model key would stay where an administrator
        of the server can export it.
        """
        name = f"regalia-{kind}-{int(time.time()):08x}-{secrets.token_hex(16)}"
        try:
            yield name
        except BaseException:
            self._remove_quietly(name)
            raise
        self._transit.remove(name)

    def _remove_quietly(self, name: str) -> None:
        """Delete, after a failure that says more than that this fails too."""
        try:
            self._transit.remove(name)
        except RegaliaError:
            return


def _malformed(blob: bytes, why: str) -> KeyAccessError:
    return KeyAccessError(KeysCode.KEY_UNWRAP_FAILED, f"wrapped key of {len(blob)} bytes: {why}")


def _spki(key: RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
