"""Input of the commands that work on sealed models: manifests, signers, keys."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regalia.cli.key_files import read_public_keys
from regalia.cli.output import size_text, warn
from regalia.core.errors import CoreCode, KeyAccessError, LocalError, UsageError
from regalia.crypto.dsse import LIMIT
from regalia.crypto.sign import VerifyKey
from regalia.host.localfs import read_file
from regalia.seal.codes import SealCode
from regalia.seal.format.manifest import SUITE_NAME
from regalia.seal.format.sealed import INDEX_NAME, MANIFEST_NAME, WrappedKey, shard_name
from regalia.seal.manifest import ANY_SIGNER, verify_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.core.secret import SecretBytes
    from regalia.core.types import ModelId
    from regalia.crypto.sign import SigningKey
    from regalia.keys.base import KeyStore
    from regalia.seal.format.manifest import Manifest, SealedFile
    from regalia.seal.manifest import Trusted, VerifiedManifest

_ANY = "any"
# A path loses the second slash of an address.
_ADDRESS = re.compile(r"(?:oci|s3|https?):/|dir:")


@dataclass(frozen=True, slots=True)
class OwnerKey:
    """One key-encryption key in the owner's open key store."""

    store: KeyStore
    name: str

    def wrap(self, model_key: SecretBytes, context: bytes) -> WrappedKey:
        """Wrap the model key.

        Args:
            model_key: secret.
            context: what the wrapped key is bound to.
        """
        blob = self.store.wrap(self.name, model_key, context)
        return WrappedKey(kek=self.name, algorithm=self.store.wrap_algorithm, blob=blob)

    def recover(self, wrapped: WrappedKey, context: bytes) -> SecretBytes:
        """Unwrap the model key of an unfinished sealing. The caller closes it.

        Args:
            wrapped: result of ``wrap``, untrusted.
            context: what it must be bound to.

        Raises:
            KeyAccessError: it was wrapped under another key, or for something else.
        """
        return self.store.recover_for_owner(self.name, wrapped.blob, context)

    def has_wrapped(self, wrapped: WrappedKey, context: bytes) -> bool:
        """Whether this key has wrapped a model key.

        Args:
            wrapped: untrusted.
            context: what it must be bound to.

        Raises:
            KeyAccessError: it seems so, but the wrapped key does not open.
        """
        if (wrapped.kek, wrapped.algorithm) != (self.name, self.store.wrap_algorithm):
            return False
        try:
            self.recover(wrapped, context).close()
        except KeyAccessError as exc:
            if exc.code.name != "KEK_MISMATCH":
                raise
            return False
        return True

    def unwrap(self, manifest: VerifiedManifest) -> SecretBytes:
        """The model key, for its owner. The caller closes it. Raises KeyAccessError."""
        content = manifest.content
        return self.store.recover_for_owner(
            self.name, content.wrapped_key.blob, content.wrap_context()
        )


def read_manifest_file(folder: Path) -> bytes:
    """The manifest's bytes, raw and untrusted.

    Raises:
        UsageError: BAD_USAGE, an address stands where a folder should.
        LocalError: it cannot be read.
    """
    if _ADDRESS.match(str(folder)) and not folder.exists():
        raise UsageError(
            CoreCode.BAD_USAGE,
            f"{folder} is an address, and this command reads a folder: `regalia pull` fetches one",
        )
    return read_file(folder / MANIFEST_NAME, limit=LIMIT)


def read_signers(words: tuple[str, ...]) -> Trusted:
    """Read public key files. The single word ``any``, or no word at all, trusts every signer.

    Raises:
        UsageError: ``any`` beside a key.
        LocalError, ParseError: a file is missing or no public key.
    """
    if words in {(), (_ANY,)}:
        return ANY_SIGNER
    if _ANY in words:
        raise UsageError(CoreCode.BAD_USAGE, "--signer any contradicts a named signer")
    return read_public_keys(Path(word) for word in words)


def signer_text(manifest: VerifiedManifest) -> str:
    """Describe who signed, and how far that was checked."""
    if manifest.signer is None:
        return "nobody — UNSIGNED, accepted because you asked for it"
    if manifest.trusted == "named":
        return f"{manifest.signer} — a key that you named"
    return f"{manifest.signer} — any: NOT compared with a key that you trust"


def warn_of_any_signer(manifest: VerifiedManifest) -> None:
    """Warn that the signer was not compared with any trusted key."""
    if manifest.trusted == _ANY:
        warn(
            f"signer: any — {manifest.signer} signed, and was not compared with a key you trust; "
            "give --signer OWNER.pub"
        )


def read_base(sealed: Path, owner: SigningKey | None) -> ModelId:
    """The model that an adapter is sealed for.

    Args:
        sealed: folder of the sealed model, or its manifest alone.
        owner: key that signs the adapter, and must have signed the model; None accepts any signer.

    Raises:
        LocalError: the manifest cannot be read, or BASE_UNUSABLE.
        ParseError, IntegrityError: as ``verify_manifest``.
    """
    data = read_manifest_file(sealed) if sealed.is_dir() else read_file(sealed, limit=LIMIT)
    signers = ANY_SIGNER if owner is None else (owner.verify_key,)
    content = verify_manifest(data, signers=signers, minimum_version=1).content
    if content.base is not None:
        raise LocalError(SealCode.BASE_UNUSABLE, f"{sealed} is itself an adapter of {content.base}")
    return content.model_id


def manifest_facts(manifest: Manifest) -> list[tuple[str, str]]:
    """What a manifest says, for people."""
    geometry = manifest.geometry
    shards = "1 shard" if geometry.shard_count == 1 else f"{geometry.shard_count} shards"
    layout = f"1 index, {shards}; chunks of {geometry.stride // 1024} KiB"
    base = [] if manifest.base is None else [("adapter of", str(manifest.base))]
    return [
        ("model id", str(manifest.model_id)),
        *base,
        ("version", str(manifest.version)),
        ("seal id", str(manifest.seal_id)),
        ("suite", SUITE_NAME),
        ("plaintext", size_text(geometry.stream_size)),
        ("ciphertext", size_text(manifest.stored_total())),
        ("layout", layout),
        ("model key", f"wrapped by {manifest.wrapped_key.kek} ({manifest.wrapped_key.algorithm})"),
    ]


def manifest_files(manifest: Manifest) -> dict[str, SealedFile]:
    """The encrypted files by name."""
    files = {INDEX_NAME: manifest.index}
    return files | {shard_name(number): shard for number, shard in enumerate(manifest.shards)}


def manifest_json(manifest: Manifest) -> dict[str, object]:
    """What a manifest says, for programs."""
    signer = None if manifest.signer is None else VerifyKey(manifest.signer).fingerprint
    return {
        "model_id": str(manifest.model_id),
        "base": None if manifest.base is None else str(manifest.base),
        "version": manifest.version,
        "seal_id": str(manifest.seal_id),
        "suite": SUITE_NAME,
        "signer": None if signer is None else str(signer),
        "kek": manifest.wrapped_key.kek,
        "wrap_algorithm": manifest.wrapped_key.algorithm,
        "stride": manifest.geometry.stride,
        "shard_chunks": manifest.geometry.shard_chunks,
        "plaintext_bytes": manifest.geometry.stream_size,
        "ciphertext_bytes": manifest.stored_total(),
        "files": {
            name: {
                "bytes": file.size,
                "digest": str(file.digest),
                "prefix_digest": str(file.prefix_digest),
            }
            for name, file in manifest_files(manifest).items()
        },
    }


@contextmanager
def open_key_store(reference: str, passphrase_file: Path | None) -> Iterator[OwnerKey]:
    """Open the key store that a key reference names, and find the key.

    Args:
        reference: names store and key, as ``keys.reference`` reads it.
        passphrase_file: of the store; None to ask for it.

    Raises:
        UsageError: the reference is malformed, or names a store that cannot be used here.
        KeyAccessError: the store does not open, or has no such key.
    """
    from regalia.cli.key_stores import load_kit, secret_of, warn_of_store
    from regalia.keys.reference import parse_reference

    parsed = parse_reference(reference)
    kit = load_kit(parsed.scheme)
    with secret_of(kit, passphrase_file, confirm=False) as secret:
        store = kit.open(parsed.location, Path(), secret)
    try:
        store.kek_id(parsed.name)  # refuse a wrong name before the long work begins
        warn_of_store(store)
        yield OwnerKey(store, parsed.name)
    finally:
        store.close()
