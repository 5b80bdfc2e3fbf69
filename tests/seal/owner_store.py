"""A key store of an owner for tests: wraps and unwraps, in any process that knows its number."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from regalia.core.errors import CoreCode, KeyAccessError
from regalia.core.secret import SecretBytes
from regalia.seal.format.sealed import WrappedKey


@dataclass
class OwnerStore:
    """One key-encryption key."""

    number: int = 1
    model_key: bytes = b""  # the one that was wrapped last

    def _kek(self) -> AESGCMSIV:
        return AESGCMSIV(bytes([self.number]) * 32)

    def wrap(self, model_key: SecretBytes, context: bytes) -> WrappedKey:
        self.model_key = bytes(model_key.view())
        blob = self._kek().encrypt(bytes(12), self.model_key, context)
        return WrappedKey(f"kek-{self.number}", "test", blob)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> SecretBytes:
        try:
            return SecretBytes.copy_of(self._kek().decrypt(bytes(12), wrapped.blob, context))
        except InvalidTag as exc:
            raise KeyAccessError(CoreCode.BAD_USAGE, "another key") from exc
