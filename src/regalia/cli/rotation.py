"""Moves sealed models from one key-encryption key to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.cli.sealing import read_manifest_file
from regalia.core.errors import CoreCode, LocalError
from regalia.crypto.dsse import parse_envelope
from regalia.host.localfs import replace_file
from regalia.keys.base import RewrapsInside
from regalia.seal.format.sealed import MANIFEST_NAME, WrappedKey
from regalia.seal.manifest import rewrapped_manifest, verify_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.cli.sealing import OwnerKey
    from regalia.crypto.sign import SigningKey


@dataclass(frozen=True, slots=True)
class Rotation:
    """From which key to which. Both may be in one store."""

    source: OwnerKey
    target: OwnerKey

    def rewrap(self, wrapped: WrappedKey, context: bytes) -> WrappedKey:
        """Wrap a model key under the target, and check that it opens.

        A store that can do both by itself never gives the model key to this process.

        Args:
            wrapped: under the source, untrusted.
            context: what it is bound to.

        Raises:
            KeyAccessError: the source has not wrapped it, or a store cannot be used.
            LocalError: the target does not give back what it took.
        """
        store, to = self.source.store, self.target.name
        if store is self.target.store and isinstance(store, RewrapsInside):
            blob = store.rewrap_under(self.source.name, wrapped.blob, context, to=to)
            store.rewrap_under(to, blob, context, to=to)  # before the old manifest is replaced
            return WrappedKey(kek=to, algorithm=store.wrap_algorithm, blob=blob)
        with self.source.recover(wrapped, context) as model_key:
            moved = self.target.wrap(model_key, context)
            with self.target.recover(moved, context) as again:
                if not again.matches(model_key):
                    raise LocalError(CoreCode.IO_FAILED, f"{to!r} opens to another key")
        return moved


@dataclass(frozen=True, slots=True)
class Rotated:
    """What became of one sealed model.

    Attributes:
        rotated: False if the target had wrapped its key already.
        lost_signatures: how many other owners' signatures the new manifest lacks.
    """

    rotated: bool
    lost_signatures: int


def rotate_folder(folder: Path, rotation: Rotation, owner: SigningKey) -> Rotated:
    """Replace the manifest of one sealed model by one for another key.

    Args:
        folder: of the sealed model.
        rotation: from which key to which.
        owner: the key that signed the model.

    Raises:
        ParseError, IntegrityError: the manifest is not the owner's.
        KeyAccessError: the source has not wrapped its key, or a store cannot be used.
        LocalError: it cannot be read or written; it is then unchanged.
    """
    data = read_manifest_file(folder)
    manifest = verify_manifest(data, signers=(owner.verify_key,), minimum_version=1)
    context = manifest.content.wrap_context()
    if rotation.target.has_wrapped(manifest.wrapped_key, context):
        return Rotated(rotated=False, lost_signatures=0)
    wrapped = rotation.rewrap(manifest.wrapped_key, context)
    replace_file(folder / MANIFEST_NAME, rewrapped_manifest(manifest, wrapped, owner))
    signatures = len(parse_envelope(data, what="manifest").signatures)
    return Rotated(rotated=True, lost_signatures=signatures - 1)
