"""The interface of key stores, which are plug-ins of the group ``regalia.key_stores``.

A store holds key-encryption keys (KEKs). At a release it either rewraps the model key inside
itself, to the key that the runtime has attested, or hands the model key to the broker. Which of
both is a property of the store: it stands in the log before the store is used, and policies can
demand it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from regalia.core.types import FixedBytes

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.secret import SecretBytes
    from regalia.wire.release import Custody, KeyWrapping, LoggedRecord

MODEL_KEY_SIZE = 32  # bytes


class KekId(FixedBytes):
    """Public identifier of a KEK. It is derived from the KEK, but reveals nothing about it."""

    PREFIX: ClassVar[str] = "kek"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a model key is rewrapped for. Both were verified before a store sees them.

    Attributes:
        wrap_public_key: the runtime's attested key: an RSA-3072 SubjectPublicKeyInfo in DER.
        tee: kind of the evidence, as the evidence envelope names it.
        report: the hardware's report, for key services that verify it themselves.
    """

    wrap_public_key: bytes
    tee: str
    report: bytes


class KeyStore(Protocol):
    """Holds KEKs, and wraps and rewraps model keys with them. Thread-safe."""

    @property
    def banner(self) -> str | None:
        """Warning to show at every start; None if the store is meant for production."""

    @property
    def custody(self) -> Custody:
        """Where the model key is in clear during a release; ``hsm`` and ``kms``: in this store."""

    @property
    def key_wrapping(self) -> KeyWrapping:
        """What ``rewrap_logged`` returns: ``none`` for the model key itself."""

    @property
    def wrap_algorithm(self) -> str:
        """Name of this store's format of wrapped keys, which the manifest states."""

    def kek_id(self, kek: str) -> KekId:
        """Public identifier of a KEK. Raises KeyAccessError KEK_UNKNOWN."""

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        """Wrap a model key under a KEK, bound to a context.

        Args:
            kek: name of the KEK.
            model_key: 32 bytes.
            context: associated data that the wrapped key is bound to; see
                docs/spec/sealed-model.md.

        Raises:
            KeyAccessError: KEK_UNKNOWN, or the store cannot be used.
        """

    def require_recipient(self, recipient: Recipient) -> None:
        """Check that this store can rewrap for a recipient, before the release is logged.

        Args:
            recipient: whose evidence the policy accepts.

        Raises:
            PolicyDenied: RECIPIENT_UNSUITED.
        """

    def rewrap_logged(
        self,
        kek: str,
        blob: bytes,
        context: bytes,
        *,
        recipient: Recipient,
        logged: LoggedRecord,
    ) -> SecretBytes:
        """Rewrap a model key for a logged release, as ``key_wrapping`` says.

        The broker has no other way to obtain a model key.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: associated data that the wrapped key must be bound to.
            recipient: whom the release is for.
            logged: record of the release, whose inclusion in the log was verified.

        Returns:
            What goes to the runtime, sealed once more by the broker. The caller closes it.

        Raises:
            KeyAccessError: RECORD_NO_RELEASE, RECORD_OTHER_MODEL, KEK_UNKNOWN, KEK_MISMATCH or
                KEY_UNWRAP_FAILED, or the store cannot be used.
            UnavailableError: the store cannot be reached at present.
        """

    def recover_for_owner(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        """Unwrap a model key without a log entry. Only the owner's CLI uses this.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: associated data that the wrapped key must be bound to.

        Raises:
            KeyAccessError: KEK_UNKNOWN, KEK_MISMATCH or KEY_UNWRAP_FAILED; or OWNER_CANNOT_RECOVER
                if this store gives no model key to anybody.
        """

    def close(self) -> None:
        """Wipe all keys from memory, and end what connects to the store."""


@runtime_checkable
class RewrapsInside(Protocol):
    """A store that can also move a model key from one of its KEKs to another by itself."""

    def rewrap_under(self, kek: str, blob: bytes, context: bytes, *, to: str) -> bytes:
        """Rewrap a model key under another KEK of the same store. It stays inside.

        Args:
            kek: name of the KEK that it is wrapped with.
            blob: the wrapped key, untrusted.
            context: associated data that it must be bound to, and will be.
            to: name of the other KEK.

        Raises:
            KeyAccessError: KEK_UNKNOWN, KEK_MISMATCH or KEY_UNWRAP_FAILED, or the store cannot be
                used.
        """


@dataclass(frozen=True, slots=True)
class Ability:
    """One thing that a store can or cannot do.

    Attributes:
        name: a short phrase, for people.
        holds: whether it can.
        shown: what was looked at or tried, and what it gave.
    """

    name: str
    holds: bool
    shown: str


@runtime_checkable
class Kit(Protocol):
    """A plug-in: opens stores of one kind, makes KEKs in them and examines them.

    A location is the text between ``SCHEME:`` and ``#NAME`` in a key reference; each kind of store
    has its own form. ``folder`` is where relative paths in it begin.
    """

    @property
    def asks(self) -> str | None:
        """What the secret that opens a store is called in a prompt; None if there is none."""

    def open(self, location: str, folder: Path, secret: SecretBytes | None) -> KeyStore:
        """Open a store.

        Args:
            location: of the store.
            folder: where relative paths begin.
            secret: what ``asks`` names; the caller closes it.

        Raises:
            UsageError: KEY_REFERENCE_MALFORMED.
            KeyAccessError: KEY_STORE_LOCKED.
            RegaliaError: the store is missing, damaged or cannot be reached.
        """

    def is_new(self, location: str, folder: Path) -> bool:
        """Whether ``make_kek`` would create the store itself, with a new secret.

        Args:
            location: of the store.
            folder: where relative paths begin.
        """

    def make_kek(self, location: str, folder: Path, secret: SecretBytes | None, name: str) -> KekId:
        """Make a KEK, and the store if it is new.

        Args:
            location: of the store.
            folder: where relative paths begin.
            secret: what ``asks`` names; the caller closes it.
            name: of the KEK.

        Raises:
            KeyAccessError: KEK_EXISTS, or as ``open``.
        """

    def examine(
        self, location: str, folder: Path, secret: SecretBytes | None, name: str
    ) -> list[Ability]:
        """What this store can and cannot do with one KEK: each was tried, and nothing is kept.

        Args:
            location: of the store.
            folder: where relative paths begin.
            secret: what ``asks`` names; the caller closes it.
            name: of the KEK.

        Raises:
            RegaliaError: as ``open``.
        """
