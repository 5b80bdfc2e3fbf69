"""Names for byte strings of exact size. Four different things have four different words:
a *measurement* is what hardware recorded, a *digest* is a hash of bytes, a *fingerprint* is a
hash of a public key, an *id* names a document or a model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Self

from regalia.core.codec import unhex
from regalia.core.errors import CoreCode, ParseError


@dataclass(frozen=True, slots=True, repr=False)
class FixedBytes:
    """Bytes of one exact size with a text form ``prefix:hex``."""

    raw: bytes

    SIZE: ClassVar[int] = 32
    PREFIX: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if len(self.raw) != self.SIZE:
            raise ParseError(
                CoreCode.MALFORMED,
                f"{type(self).__name__}: want {self.SIZE} bytes, got {len(self.raw)}",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text form; the prefix is required.

        Raises:
            ParseError: MALFORMED.
        """
        prefix, _, digits = text.rpartition(":")
        if prefix != cls.PREFIX:
            raise ParseError(
                CoreCode.MALFORMED, f"{cls.__name__}: want {cls.PREFIX}:<hex>, got {text[:80]!r}"
            )
        return cls(unhex(digits, what=cls.__name__, size=cls.SIZE))

    def __str__(self) -> str:
        return f"{self.PREFIX}:{self.raw.hex()}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class Digest(FixedBytes):
    """SHA-256 of some bytes."""

    PREFIX = "sha256"

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Hash the data."""
        return cls(hashlib.sha256(data).digest())


class ModelId(FixedBytes):
    """Names the plaintext of a model: every file's path, length and SHA-256."""

    PREFIX = "model"


class PolicyId(FixedBytes):
    """SHA-256 of a policy document's exact payload bytes."""

    PREFIX = "policy"

    @classmethod
    def of(cls, payload: bytes) -> Self:
        """Hash the policy's payload."""
        return cls(hashlib.sha256(payload).digest())


class KeyFingerprint(FixedBytes):
    """SHA-256 of a public key's SubjectPublicKeyInfo (DER), or of a raw KEM key."""

    PREFIX = "key"

    @classmethod
    def of(cls, public_key: bytes) -> Self:
        """Hash the encoded public key."""
        return cls(hashlib.sha256(public_key).digest())
