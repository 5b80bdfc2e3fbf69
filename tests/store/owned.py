"""A sealed model to send around, and what its owner signed of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regalia.cli.transfer import blobs_of, image_of
from regalia.crypto.sign import SigningKey
from regalia_testing.sealed import pattern, seal_testbed, write_model

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.store.image import Blob, Image
    from regalia_testing.sealed import OwnedModel


@dataclass(frozen=True)
class Sent:
    """A sealed model, as push and pull see it."""

    owned: OwnedModel
    image: Image
    blobs: tuple[Blob, ...]
    manifest: bytes
    signer: Path  # file of the owner's public key

    @property
    def folder(self) -> Path:
        return self.owned.folder

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def same(self, folder: Path) -> bool:
        """Whether a folder holds these files, byte for byte, and nothing else."""
        return {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in self.folder.iterdir()
        }


def sealed(folder: Path, size: int = 500_000, version: int = 7) -> Sent:
    """Seal a model of about this many bytes."""
    model = write_model(folder / "model", {"a.bin": pattern(size), "b.json": b"{}"})
    owned = seal_testbed(model, folder / "sealed", SigningKey.generate_ed25519())
    signer = folder / "owner.pub"
    signer.write_bytes(owned.owner.verify_key.to_pem())
    data, manifest = owned.manifest_path.read_bytes(), owned.verified()
    assert manifest.content.version == version
    return Sent(owned, image_of(data, manifest), blobs_of(manifest), data, signer)
