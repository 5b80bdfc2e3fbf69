"""The development key store, which keeps KEKs in a passphrase-protected file.

It is not meant for production, as its name, its file and its banner say.
Spec: docs/spec/development-key-store.md.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regalia.core.codec import b64, lp, unb64
from regalia.core.errors import CoreCode, IntegrityError, KeyAccessError, LocalError
from regalia.core.secret import SecretBytes
from regalia.host.localfs import os_errors, read_private_file, replace_file, write_new
from regalia.keys import devfile_format as fmt
from regalia.keys.base import MODEL_KEY_SIZE, Ability, KekId
from regalia.keys.codes import KeysCode
from regalia.keys.logged import require_release
from regalia.keys.reference import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from regalia.keys.base import Recipient
    from regalia.wire.release import Custody, KeyWrapping, LoggedRecord

SCHEME = "dev-file"
WRAP_ALGORITHM = "regalia/wrap-aes256gcm/v1"
WRAPPED_SIZE = KekId.SIZE + fmt.NONCE_SIZE + MODEL_KEY_SIZE + fmt.TAG_SIZE


def create_store(path: Path, passphrase: SecretBytes) -> DevFileKeyStore:
    """Create an empty key store with mode 600, and open it. Raises LocalError FILE_EXISTS.

    Args:
        path: file to create; it must not exist.
        passphrase: passphrase that protects the KEKs; the caller closes it.
    """
    kdf = fmt.Kdf(
        algorithm="argon2id",
        iterations=fmt.ITERATIONS,
        lanes=fmt.LANES,
        memory_kib=fmt.MEMORY_KIB,
        salt=b64(secrets.token_bytes(fmt.SALT_SIZE)),
    )
    keys = fmt.FileKeys(passphrase, kdf)
    document = fmt.Document(
        format=fmt.FORMAT,
        banner=fmt.BANNER,
        kdf=kdf,
        commitment=b64(keys.commitment),
        keys=[],
        mac="",
    )
    document = _authenticated(document, keys)
    write_new(path, document.encode(), mode=0o600)
    return DevFileKeyStore(path, document, keys)


def open_store(path: Path, passphrase: SecretBytes) -> DevFileKeyStore:
    """Open an existing key store.

    Args:
        path: file of the key store, with mode 600.
        passphrase: passphrase that protects the KEKs; the caller closes it.

    Raises:
        LocalError: the file is missing, or other users may read it.
        ParseError: it is not a key store, or its KDF parameters exceed the limits.
        KeyAccessError: KEY_STORE_LOCKED.
        IntegrityError: KEY_STORE_TAMPERED.
    """
    document = fmt.parse_document(_read(path))
    keys = fmt.FileKeys(passphrase, document.kdf)
    try:
        keys.check(document, what=str(path))
    except (KeyAccessError, IntegrityError):
        keys.close()
        raise
    return DevFileKeyStore(path, document, keys)


def _read(path: Path) -> bytes:
    return read_private_file(path, limit=fmt.LIMIT)


def _authenticated(document: fmt.Document, keys: fmt.FileKeys) -> fmt.Document:
    return msgspec.structs.replace(document, mac=b64(keys.mac(document)))


class DevFileKeyStore:
    """An open development key store. Implements ``keys.base.KeyStore``.

    A KEK is decrypted only for the duration of one operation. Only the key that decrypts the KEKs
    stays in memory.
    """

    def __init__(self, path: Path, document: fmt.Document, keys: fmt.FileKeys) -> None:
        self._path = path
        self._document = document
        self._keys = keys

    @property
    def banner(self) -> str:
        """Warning to show at every start."""
        return fmt.BANNER

    @property
    def custody(self) -> Custody:
        """``broker``, because the model key is rewrapped in the broker's memory."""
        return "broker"

    @property
    def key_wrapping(self) -> KeyWrapping:
        """``none``, because the broker gets the model key itself."""
        return "none"

    @property
    def wrap_algorithm(self) -> str:
        """Format of wrapped keys: docs/spec/development-key-store.md, "Wrapped model keys"."""
        return WRAP_ALGORITHM

    def names(self) -> tuple[str, ...]:
        """Names of the KEKs, sorted."""
        return tuple(entry.name for entry in self._document.keys)

    def kek_id(self, kek: str) -> KekId:
        """Public identifier of a KEK. Raises KeyAccessError KEK_UNKNOWN."""
        return KekId.parse(self._entry(kek).id)

    def add_kek(self, name: str) -> KekId:
        """Generate a random KEK, and replace the file.

        Raises:
            KeyAccessError: KEK_EXISTS.
            LocalError: the file cannot be written; it is then unchanged.
        """
        check_name(name)
        with _locked(self._path), SecretBytes(bytearray(secrets.token_bytes(32))) as kek:
            # Another process may have added a key since this one read the file.
            current = fmt.parse_document(_read(self._path))
            self._keys.check(current, what=str(self._path))
            if any(entry.name == name for entry in current.keys):
                raise KeyAccessError(KeysCode.KEK_EXISTS, f"{self._path} has a key {name!r}")
            if len(current.keys) >= fmt.KEYS_MAX:
                raise LocalError(CoreCode.TOO_LARGE, f"{self._path}: {fmt.KEYS_MAX} keys at most")
            entry = self._seal_kek(name, kek)
            entries = sorted([*current.keys, entry], key=lambda item: item.name)
            document = _authenticated(msgspec.structs.replace(current, keys=entries), self._keys)
            replace_file(self._path, document.encode(), mode=0o600)
            self._document = document
            return KekId.parse(entry.id)

    def wrap(self, kek: str, model_key: SecretBytes, context: bytes) -> bytes:
        """Wrap a model key as KEK id ‖ nonce ‖ AES-256-GCM ciphertext and tag, 92 bytes.

        Args:
            kek: name of the KEK.
            model_key: 32 bytes.
            context: associated data that the wrapped key is bound to.

        Raises:
            KeyAccessError: KEK_UNKNOWN.
            ValueError: the model key does not have 32 bytes, which is a bug of the caller.
        """
        if len(model_key) != MODEL_KEY_SIZE:
            raise ValueError(f"a model key has {MODEL_KEY_SIZE} bytes")
        with self._open_kek(kek) as key:
            identity = fmt.kek_id(key)
            # Random nonces of 96 bits are safe here: a KEK wraps far fewer than 2^32 keys
            # (NIST SP 800-38D, section 8.3).
            nonce = secrets.token_bytes(fmt.NONCE_SIZE)
            body = AESGCM(key.view()).encrypt(nonce, model_key.view(), _aad(identity, context))
        return identity.raw + nonce + body

    def require_recipient(self, recipient: Recipient) -> None:
        """Accept every recipient: the broker seals the key to it.

        Args:
            recipient: whose evidence the policy accepts.
        """

    def rewrap_logged(
        self,
        kek: str,
        blob: bytes,
        context: bytes,
        *,
        recipient: Recipient,  # noqa: ARG002 - the broker seals the key to it
        logged: LoggedRecord,
    ) -> SecretBytes:
        """Unwrap a model key for a logged release; see ``keys.base.KeyStore``.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: associated data that the wrapped key must be bound to.
            recipient: whom the release is for.
            logged: record of the release, whose inclusion in the log was verified.
        """
        require_release(logged, context)
        return self._unwrap(kek, blob, context)

    def recover_for_owner(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        """Unwrap a model key for its owner; see ``keys.base.KeyStore``.

        Args:
            kek: name of the KEK.
            blob: the wrapped key, untrusted.
            context: associated data that the wrapped key must be bound to.
        """
        return self._unwrap(kek, blob, context)

    def close(self) -> None:
        """Wipe the key that decrypts the KEKs. The store cannot be used afterwards."""
        self._keys.close()

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
        return f"<development key store {self._path}, {len(self._document.keys)} keys>"

    def _entry(self, kek: str) -> fmt.SealedKek:
        for entry in self._document.keys:
            if entry.name == kek:
                return entry
        have = ", ".join(self.names()) or "none"
        raise KeyAccessError(
            KeysCode.KEK_UNKNOWN, f"{self._path} has no key {kek[:80]!r}; it has: {have}"
        )

    def _seal_kek(self, name: str, kek: SecretBytes) -> fmt.SealedKek:
        identity = fmt.kek_id(kek)
        nonce = secrets.token_bytes(fmt.NONCE_SIZE)
        body = AESGCM(self._keys.seal_key.view()).encrypt(
            nonce, kek.view(), self._kek_aad(name, identity)
        )
        return fmt.SealedKek(name=name, id=str(identity), sealed=b64(nonce + body))

    def _open_kek(self, name: str) -> SecretBytes:
        entry = self._entry(name)
        sealed = unb64(entry.sealed, what="sealed KEK", size=fmt.SEALED_SIZE)
        aad = self._kek_aad(name, KekId.parse(entry.id))
        return _open(self._keys.seal_key, sealed, aad, KeysCode.KEY_STORE_TAMPERED, name)

    def _kek_aad(self, name: str, identity: KekId) -> bytes:
        salt = unb64(self._document.kdf.salt, what="salt", size=fmt.SALT_SIZE)
        return fmt.kek_aad(salt, name, identity)

    def _unwrap(self, kek: str, blob: bytes, context: bytes) -> SecretBytes:
        with self._open_kek(kek) as key:
            identity = fmt.kek_id(key)
            if len(blob) != WRAPPED_SIZE:
                raise KeyAccessError(
                    KeysCode.KEY_UNWRAP_FAILED,
                    f"wrapped key: want {WRAPPED_SIZE} bytes, got {len(blob)}",
                )
            # The id is compared only to report a wrong KEK clearly; GCM authenticates it as well.
            named = KekId(blob[: KekId.SIZE])
            if named != identity:
                raise KeyAccessError(
                    KeysCode.KEK_MISMATCH, f"wrapped under {named}; {kek!r} is {identity}"
                )
            aad = _aad(identity, context)
            return _open(key, blob[KekId.SIZE :], aad, KeysCode.KEY_UNWRAP_FAILED, kek)


class DevFileKit:
    """Implements ``keys.base.Kit``. A location is the path of a file."""

    asks = "passphrase"

    def open(self, location: str, folder: Path, secret: SecretBytes | None) -> DevFileKeyStore:
        """Open the file; see ``keys.base.Kit`` and ``open_store``.

        Args:
            location: path of the file.
            folder: where a relative path begins.
            secret: the passphrase; the caller closes it.
        """
        return open_store(folder / location, _given(secret))

    def is_new(self, location: str, folder: Path) -> bool:
        """Whether there is no such file.

        Args:
            location: path of the file.
            folder: where a relative path begins.
        """
        return not (folder / location).exists()

    def make_kek(self, location: str, folder: Path, secret: SecretBytes | None, name: str) -> KekId:
        """Generate a KEK, and the file if there is none; see ``keys.base.Kit``.

        Args:
            location: path of the file.
            folder: where a relative path begins.
            secret: the passphrase; the caller closes it.
            name: of the KEK.
        """
        check_name(name)
        path, passphrase = folder / location, _given(secret)
        store = open_store(path, passphrase) if path.exists() else create_store(path, passphrase)
        with store:
            return store.add_kek(name)

    def examine(
        self, location: str, folder: Path, secret: SecretBytes | None, name: str
    ) -> list[Ability]:
        """Say what a file of keys cannot do; see ``keys.base.Kit``.

        Args:
            location: path of the file.
            folder: where a relative path begins.
            secret: the passphrase; the caller closes it.
            name: of the KEK.
        """
        with self.open(location, folder, secret) as store:
            identity = store.kek_id(name)
        file = "the KEK lies in a file, encrypted under a passphrase"
        return [
            Ability("has the key", holds=True, shown=str(identity)),
            Ability("binds keys to their model", holds=True, shown="AES-256-GCM with context"),
            Ability("keeps the KEK from everybody", holds=False, shown=file),
            Ability("rewraps inside", holds=False, shown="the broker has the model key in memory"),
            Ability("is meant for production", holds=False, shown="DEVELOPMENT KEY STORE"),
        ]


KIT = DevFileKit()


def _given(secret: SecretBytes | None) -> SecretBytes:
    if secret is None:
        raise ValueError("this store asks for a passphrase")
    return secret


def _aad(identity: KekId, context: bytes) -> bytes:
    return lp(WRAP_ALGORITHM.encode(), identity.raw, context)


def _open(key: SecretBytes, sealed: bytes, aad: bytes, code: KeysCode, name: str) -> SecretBytes:
    """Decrypt nonce ‖ ciphertext ‖ tag into a buffer that can be wiped."""
    nonce, body = sealed[: fmt.NONCE_SIZE], sealed[fmt.NONCE_SIZE :]
    out = bytearray(len(body) - fmt.TAG_SIZE)
    secret = SecretBytes(out)
    try:
        AESGCM(key.view()).decrypt_into(nonce, body, aad, out)
    except InvalidTag as exc:
        # Wipe the buffer: GCM decrypts before it compares the tag, and with the right key and a
        # wrong context the plaintext is correct although the tag is not.
        secret.close()
        raise KeyAccessError(code, f"key {name!r}: authentication fails") from exc
    return secret


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing the same file.

    The lock is on its folder, because the file itself is replaced by a rename.
    """
    with os_errors(path):
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            os.close(fd)
            raise
    try:
        yield
    finally:
        os.close(fd)
