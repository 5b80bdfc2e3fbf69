"""What every key store can do. A key store is a plug-in of the group ``regalia.key_stores``:
a function ``open_store(path, passphrase) -> KeyStore``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from regalia.core.types import FixedBytes

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.wire.release import LoggedRecord

MODEL_KEY_SIZE = 32  # bytes


class KekId(FixedBytes):
    """Names a KEK by a value derived from it. Public: it tells nothing about the key."""

    PREFIX: ClassVar[str] = "kek"


class KeyStore(Protocol):
    """Keeps KEKs and works with them. A KEK itself never leaves the store."""

    @property
    def banner(self) -> str | None:
        """What must be shown at every start, when this store is not for production."""

    @property
    def custody(self) -> str:
        """``hsm`` when the model key is rewrapped inside the store, else ``broker``."""

    @property
    def wrap_algorithm(self) -> str:
        """Names the form of this store's wrapped keys; stands in the manifest."""

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        """Wrap a model key (32 bytes) under the KEK of that name, bound to ``context``.

        Args:
            kek: the KEK's name.
            model_key: 32 bytes, secret.
            context: what the wrapped key is bound to; docs/spec/sealed-model.md.

        Raises:
            KeyAccessError: KEK_UNKNOWN.
        """

    def unwrap_logged(
        self, kek: str, blob: bytes, context: bytes, *, logged: LoggedRecord
    ) -> SecretBytes:
        """Open a wrapped model key for a release that stands in the log.

        This is the broker's only way to a model key. The caller closes what it gets.

        Args:
            kek: the KEK's name.
            blob: the wrapped key, untrusted.
            context: what it must be bound to.
            logged: the release, proved to stand in the log.

        Raises:
            KeyAccessError: RECORD_NO_RELEASE, RECORD_OTHER_MODEL, KEK_UNKNOWN, KEK_MISMATCH or
                KEY_UNWRAP_FAILED.
        """

    def recover_for_owner(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        """Open a wrapped model key for its owner, unlogged. For the owner's CLI only.

        Args:
            kek: the KEK's name.
            blob: the wrapped key, untrusted.
            context: what it must be bound to.

        Raises:
            KeyAccessError: KEK_UNKNOWN, KEK_MISMATCH or KEY_UNWRAP_FAILED.
        """

    def close(self) -> None:
        """Forget every key."""
