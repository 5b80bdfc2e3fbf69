"""The interface of key stores.

A key store is a plug-in of the group ``regalia.key_stores``: a function
``open_store(path, passphrase) -> KeyStore``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from regalia.core.types import FixedBytes

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.wire.release import Custody, LoggedRecord

MODEL_KEY_SIZE = 32  # bytes


class KekId(FixedBytes):
    """Public identifier of a KEK. It is derived from the KEK, but reveals nothing about it."""

    PREFIX: ClassVar[str] = "kek"


class KeyStore(Protocol):
    """Holds KEKs, and wraps and unwraps model keys with them. A KEK never leaves the store."""

    @property
    def banner(self) -> str | None:
        """Warning to show at every start; None if the store is meant for production."""

    @property
    def custody(self) -> Custody:
        """``hsm`` if the model key is rewrapped inside the store, ``broker`` otherwise."""

    @property
    def wrap_algorithm(self) -> str:
        """Name of this store's format of wrapped keys, which the manifest states."""

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        """Wrap a model key under a KEK, bound to a context.

        Args:
            kek: name of the KEK.
            model_key: 32 bytes.
            context: associated data that the wrapped key is bound to; see
                docs/spec/sealed-model.md.

        Raises:
            KeyAccessError: KEK_UNKNOWN.
        """

    def unwrap_logged(
        self, kek: str, blob: bytes, context: bytes, *, logged: LoggedRecord
    ) -> SecretBytes:
        """Unwrap a model key for a logged release. The caller closes the result.

        The broker has no other way to obtain a model key.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: associated data that the wrapped key must be bound to.
            logged: record of the release, whose inclusion in the log was verified.

        Raises:
            KeyAccessError: RECORD_NO_RELEASE, RECORD_OTHER_MODEL, KEK_UNKNOWN, KEK_MISMATCH or
                KEY_UNWRAP_FAILED.
        """

    def recover_for_owner(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        """Unwrap a model key without a log entry. Only the owner's CLI uses this.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: associated data that the wrapped key must be bound to.

        Raises:
            KeyAccessError: KEK_UNKNOWN, KEK_MISMATCH or KEY_UNWRAP_FAILED.
        """

    def close(self) -> None:
        """Wipe all keys from memory."""
