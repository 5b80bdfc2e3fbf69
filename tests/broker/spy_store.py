"""A key store that remembers what the broker asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regalia.core.secret import SecretBytes
    from regalia.keys.base import KekId, KeyStore, Recipient
    from regalia.wire.release import Custody, KeyWrapping, LoggedRecord


class SpyStore:
    """The key store, and a note of every unwrapping."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self.unwrapped: list[LoggedRecord] = []

    banner = "a banner"

    @property
    def custody(self) -> Custody:
        return self._store.custody

    @property
    def key_wrapping(self) -> KeyWrapping:
        return self._store.key_wrapping

    @property
    def wrap_algorithm(self) -> str:
        return self._store.wrap_algorithm

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        return self._store.wrap(kek, model_key, context)

    def kek_id(self, kek: str) -> KekId:
        return self._store.kek_id(kek)

    def require_recipient(self, recipient: Recipient) -> None:
        self._store.require_recipient(recipient)

    def rewrap_logged(
        self,
        kek: str,
        blob: bytes,
        context: bytes,
        *,
        recipient: Recipient,
        logged: LoggedRecord,
    ) -> SecretBytes:
        self.unwrapped.append(logged)
        return self._store.rewrap_logged(kek, blob, context, recipient=recipient, logged=logged)

    def recover_for_owner(self, *_: object) -> SecretBytes:
        raise AssertionError("the broker never calls this")

    def close(self) -> None:
        pass
