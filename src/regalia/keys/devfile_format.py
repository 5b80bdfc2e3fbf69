"""The development key store's file. Spec: docs/spec/development-key-store.md."""

from __future__ import annotations

import hmac

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from regalia.core.codec import canonical_json, lp, parse_json, unb64
from regalia.core.errors import CoreCode, IntegrityError, KeyAccessError, ParseError
from regalia.core.secret import SecretBytes
from regalia.keys.base import KekId
from regalia.keys.codes import KeysCode
from regalia.keys.reference import NAME

FORMAT = "regalia/development-key-store/v1"
BANNER = (
    "DEVELOPMENT KEY STORE: key-encryption keys lie in a passphrase-protected file, not in an HSM. "
    "Whoever has the file and the passphrase has every model."
)
LIMIT = 256 * 1024  # bytes of file
KEYS_MAX = 256

SALT_SIZE = 16  # bytes
KEY_SIZE = 32  # bytes
NONCE_SIZE = 12  # bytes, AES-GCM
TAG_SIZE = 16  # bytes, AES-GCM
SEALED_SIZE = NONCE_SIZE + KEY_SIZE + TAG_SIZE

# RFC 9106 section 4, second recommended option: t=3, p=4, m=64 MiB.
ITERATIONS = 3
LANES = 4
MEMORY_KIB = 64 * 1024

# A file is read before anything in it is authentic, so what it may ask of us is bounded.
ITERATIONS_RANGE = (3, 16)
LANES_RANGE = (1, 16)
MEMORY_KIB_RANGE = (64 * 1024, 1024 * 1024)


class Kdf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Argon2id and its parameters."""

    algorithm: str
    iterations: int
    lanes: int
    memory_kib: int
    salt: str


class SealedKek(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One KEK under the file's key."""

    name: str
    id: str  # kek:<64 hex>
    sealed: str  # base64 of nonce ‖ ciphertext ‖ tag, 60 bytes


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file. ``mac`` covers everything else in it."""

    format: str
    banner: str
    kdf: Kdf
    commitment: str  # base64, 32 bytes: tells a wrong passphrase from a changed file
    keys: list[SealedKek]
    mac: str  # base64, 32 bytes

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self)

    def mac_input(self) -> bytes:
        """Canonical JSON of the same document with an empty ``mac``."""
        return canonical_json(msgspec.structs.replace(self, mac=""))


def parse_document(data: bytes) -> Document:
    """Parse an untrusted file, and bound what its KDF parameters may ask for.

    Raises:
        ParseError: MALFORMED, TOO_LARGE or KEY_STORE_PARAMETERS.
    """
    what = "development key store"
    document = parse_json(data, Document, limit=LIMIT, what=what)
    if document.format != FORMAT or document.banner != BANNER:
        raise ParseError(CoreCode.MALFORMED, f"{what}: format {document.format[:80]!r}")
    kdf = document.kdf
    bounds = {
        "iterations": (kdf.iterations, ITERATIONS_RANGE),
        "lanes": (kdf.lanes, LANES_RANGE),
        "memory_kib": (kdf.memory_kib, MEMORY_KIB_RANGE),
    }
    for name, (value, (low, high)) in bounds.items():
        if not low <= value <= high:
            raise ParseError(
                KeysCode.KEY_STORE_PARAMETERS, f"{what}: {name} {value}, want {low} to {high}"
            )
    if kdf.algorithm != "argon2id":
        raise ParseError(
            KeysCode.KEY_STORE_PARAMETERS, f"{what}: KDF {kdf.algorithm[:40]!r}, want argon2id"
        )
    unb64(kdf.salt, what=f"{what}: salt", size=SALT_SIZE)
    unb64(document.commitment, what=f"{what}: commitment", size=KEY_SIZE)
    unb64(document.mac, what=f"{what}: mac", size=KEY_SIZE)
    _check_keys(document.keys, what)
    return document


def _check_keys(keys: list[SealedKek], what: str) -> None:
    names = [entry.name for entry in keys]
    if len(names) > KEYS_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"{what}: {len(names)} keys, at most {KEYS_MAX}")
    if names != sorted(set(names)):
        raise ParseError(CoreCode.MALFORMED, f"{what}: key names are not sorted and unique")
    for entry in keys:
        if not NAME.fullmatch(entry.name):
            raise ParseError(CoreCode.MALFORMED, f"{what}: key name {entry.name[:80]!r}")
        KekId.parse(entry.id)
        unb64(entry.sealed, what=f"{what}: sealed", size=SEALED_SIZE)


def derive(secret: SecretBytes, info: str) -> SecretBytes:
    """HKDF-SHA256 (RFC 5869) without salt, 32 bytes.

    Args:
        secret: input key material.
        info: binds the purpose.
    """
    out = bytearray(KEY_SIZE)
    kdf = HKDF(algorithm=hashes.SHA256(), length=KEY_SIZE, salt=None, info=info.encode())
    kdf.derive_into(secret.view(), out)
    return SecretBytes(out)


def kek_id(kek: SecretBytes) -> KekId:
    """The public name of a KEK."""
    with derive(kek, "regalia/kek-id/v1") as name:
        return KekId(name.view().tobytes())


def kek_aad(salt: bytes, name: str, identity: KekId) -> bytes:
    """What the seal of one KEK is bound to.

    Args:
        salt: the file's.
        name: the KEK's.
        identity: the KEK's, drawn when it was made.
    """
    return lp(f"{FORMAT}/kek".encode(), salt, name.encode(), identity.raw)


class FileKeys:
    """The keys that a passphrase and a file's KDF parameters give."""

    __slots__ = ("commitment", "mac_key", "seal_key")

    def __init__(self, passphrase: SecretBytes, kdf: Kdf) -> None:
        """Run Argon2id: 64 MiB and a quarter of a second with the parameters that we write."""
        root = bytearray(KEY_SIZE)
        try:
            Argon2id(
                salt=unb64(kdf.salt, what="salt", size=SALT_SIZE),
                length=KEY_SIZE,
                iterations=kdf.iterations,
                lanes=kdf.lanes,
                memory_cost=kdf.memory_kib,
            ).derive_into(passphrase.view(), root)  # type: ignore[arg-type] # takes any buffer
        except MemoryError as exc:
            raise KeyAccessError(
                KeysCode.KEY_STORE_PARAMETERS, f"no {kdf.memory_kib} KiB of memory for Argon2id"
            ) from exc
        with SecretBytes(root) as secret:
            self.seal_key = derive(secret, f"{FORMAT}/seal")
            self.mac_key = derive(secret, f"{FORMAT}/mac")
            with derive(secret, f"{FORMAT}/commitment") as commitment:
                self.commitment = commitment.view().tobytes()

    def mac(self, document: Document) -> bytes:
        """HMAC-SHA256 over the whole document but its ``mac``."""
        mac = HMAC(self.mac_key.view(), hashes.SHA256())
        mac.update(document.mac_input())
        return mac.finalize()

    def check(self, document: Document, *, what: str) -> None:
        """Return if this passphrase made this file, whole.

        Args:
            document: the file as parsed, untrusted.
            what: names the file in the error.

        Raises:
            KeyAccessError: KEY_STORE_LOCKED.
            IntegrityError: KEY_STORE_TAMPERED.
        """
        want = unb64(document.commitment, what="commitment", size=KEY_SIZE)
        if not hmac.compare_digest(self.commitment, want):
            raise KeyAccessError(
                KeysCode.KEY_STORE_LOCKED, f"{what}: the passphrase does not open it"
            )
        if not hmac.compare_digest(
            self.mac(document), unb64(document.mac, what="mac", size=KEY_SIZE)
        ):
            raise IntegrityError(
                KeysCode.KEY_STORE_TAMPERED, f"{what}: its authentication code does not hold"
            )

    def close(self) -> None:
        """Wipe."""
        self.seal_key.close()
        self.mac_key.close()
