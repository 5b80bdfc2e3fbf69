"""The PKCS#11 key store: KEKs that never leave a token, and model keys that leave it wrapped.

The broker gets a model key wrapped to the key that the runtime has attested, and nothing else.
Spec: docs/spec/pkcs11-key-store.md.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.asymmetric import rsa

from regalia.core.errors import PolicyDenied
from regalia.core.secret import SecretBytes
from regalia.crypto.key_wrapping import open_wrapped
from regalia.keys.base import MODEL_KEY_SIZE
from regalia.keys.codes import KeysCode
from regalia.keys.logged import require_release
from regalia.keys.pkcs11.kek import find_kek, identity_of
from regalia.keys.pkcs11.wrapping import (
    WRAP_ALGORITHM,
    find_suite,
    imported,
    rsa_of,
    unwrapped,
    wrap,
    wrap_to,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from pkcs11.types import SecretKey, Session

    from regalia.keys.base import KekId, Recipient
    from regalia.keys.pkcs11.connection import Connection
    from regalia.wire.release import Custody, KeyWrapping, LoggedRecord

RECIPIENT_BITS = 3072  # of the runtime's RSA key
SOFTWARE_BANNER = (
    "SOFTWARE TOKEN: its library does not call it hardware. KEKs may lie in files that a PIN "
    "protects, and model keys may be in this process's memory during a release."
)


class Pkcs11KeyStore:
    """An open token. Implements ``keys.base.KeyStore``."""

    def __init__(self, connection: Connection) -> None:
        """Find out what the token can do. Raises RegaliaError, also TOKEN_UNSUITED.

        Args:
            connection: closed together with the store.
        """
        self._connection = connection
        with connection.session("trying out what the token can do") as session:
            self._suite = find_suite(session)

    @property
    def banner(self) -> str | None:
        """Warning to show at every start; None if the library calls its token hardware."""
        return None if self._connection.is_hardware else SOFTWARE_BANNER

    @property
    def custody(self) -> Custody:
        """``hsm``, because the model key is rewrapped in the token."""
        return "hsm"

    @property
    def key_wrapping(self) -> KeyWrapping:
        """The RSAES-OAEP that this token can do, found by trying."""
        return self._suite.key_wrapping

    @property
    def wrap_algorithm(self) -> str:
        """Format of wrapped keys: docs/spec/pkcs11-key-store.md, "Wrapped model keys"."""
        return WRAP_ALGORITHM

    def kek_id(self, kek: str) -> KekId:
        """Public identifier of a KEK; see ``keys.base.KeyStore``."""
        with self._with_kek(kek, "looking up a KEK") as (_, key):
            return identity_of(key, self._suite.kwp)

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        """Wrap a model key inside the token, 72 bytes; see ``keys.base.KeyStore``.

        Args:
            kek: name of the KEK.
            model_key: 32 bytes.
            context: what the wrapped key is bound to.

        Raises:
            ValueError: the model key does not have 32 bytes, which is a bug of the caller.
        """
        if len(model_key) != MODEL_KEY_SIZE:
            raise ValueError(f"a model key has {MODEL_KEY_SIZE} bytes")
        with (
            self._with_kek(kek, "wrapping a model key") as (session, key),
            imported(session, model_key) as inside,
        ):
            return wrap(key, inside, context, self._suite)

    def require_recipient(self, recipient: Recipient) -> None:
        """Accept every runtime with an RSA-3072 key.

        Args:
            recipient: whose evidence the policy accepts.

        Raises:
            PolicyDenied: RECIPIENT_UNSUITED.
        """
        _public_key_of(recipient)

    def rewrap_logged(
        self,
        kek: str,
        blob: bytes,
        context: bytes,
        *,
        recipient: Recipient,
        logged: LoggedRecord,
    ) -> SecretBytes:
        """Rewrap a model key inside the token for a logged release; see ``keys.base.KeyStore``.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to.
            recipient: whom the release is for.
            logged: record of the release, whose inclusion in the log was verified.
        """
        require_release(logged, context)
        return self._rewrap(kek, blob, context, _public_key_of(recipient))

    def recover_for_owner(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        """Have the token wrap the model key to a key of this process; see ``keys.base.KeyStore``.

        A token cannot tell an owner's key from an attested one. So whoever can have it release,
        with the PIN and a connection to it, can also recover.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to.
        """
        private = rsa.generate_private_key(65537, RECIPIENT_BITS)
        with self._rewrap(kek, blob, context, private.public_key()) as wrapped:
            return open_wrapped(self.key_wrapping, wrapped, private)

    def rewrap_under(self, kek: str, blob: bytes, context: bytes, *, to: str) -> bytes:
        """Rewrap a model key under another KEK of this token, without taking it out.

        Args:
            kek: name of the KEK that it is wrapped with.
            blob: the wrapped key, untrusted.
            context: what the wrapped key must be bound to, and will be.
            to: name of the other KEK.

        Raises:
            KeyAccessError: KEK_UNKNOWN, KEK_MISMATCH or KEY_UNWRAP_FAILED, or as ``kek_id``.
        """
        with (
            self._with_kek(kek, "rewrapping a model key") as (session, old),
            unwrapped(old, blob, context, self._suite) as inside,
        ):
            return wrap(find_kek(session, to), inside, context, self._suite)

    def close(self) -> None:
        """Log out of the token, and wipe the PIN."""
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
        return f"<PKCS#11 key store, {self._connection.uri}>"

    @contextmanager
    def _with_kek(self, kek: str, doing: str) -> Iterator[tuple[Session, SecretKey]]:
        with self._connection.session(doing) as session:
            yield session, find_kek(session, kek)

    def _rewrap(
        self, kek: str, blob: bytes, context: bytes, public: rsa.RSAPublicKey
    ) -> SecretBytes:
        with (
            self._with_kek(kek, "rewrapping a model key") as (session, key),
            unwrapped(key, blob, context, self._suite) as inside,
        ):
            return SecretBytes(bytearray(wrap_to(session, inside, public, self._suite)))


def _public_key_of(recipient: Recipient) -> rsa.RSAPublicKey:
    public = rsa_of(recipient.wrap_public_key)
    if public is None or public.key_size != RECIPIENT_BITS:
        raise PolicyDenied(
            KeysCode.RECIPIENT_UNSUITED, f"wrap_public_key is not RSA-{RECIPIENT_BITS}"
        )
    return public
