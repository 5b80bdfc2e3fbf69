"""A sealing that ends early, and the runs that go on with it."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from regalia.core.errors import LocalError
from regalia.core.secret import SecretBytes
from regalia.seal.format.sealed import stored_size
from regalia.seal.writer import SealOptions, seal_model
from regalia_testing.sealed import PAYLOAD, STRIDE, OwnedModel, pattern, write_model
from tests.seal.owner_store import OwnerStore

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.core.errors import Code
    from regalia.crypto.sign import SigningKey
    from regalia.seal.writer import SealResult

CHUNKS = 2  # of a shard
SHARD = CHUNKS * PAYLOAD
B_SIZE = 2 * SHARD + 1000
C_OFFSET = -(-(64 + B_SIZE) // 64) * 64
# One file goes through three shards, and the next one ends where a shard ends.
FILES = {
    "a.txt": b"first",
    "b.bin": pattern(B_SIZE),
    "c.bin": pattern(3 * SHARD - C_OFFSET, 3),
    "d.bin": pattern(SHARD + 500, 5),
    "empty": b"",
    "z.json": b'{"end":1}',
}
TOTAL = 10  # chunks
SIZE = 4 * SHARD + 500 + 8 + 64  # of the stream, or a little more


class Stop(Exception):  # noqa: N818 - it stands for Ctrl-C
    pass


class Bench:
    """A model, and runs that seal it."""

    def __init__(self, folder: Path, owner: SigningKey) -> None:
        self.folder = folder
        self.model = write_model(folder / "model", FILES)
        self.out = folder / "sealed"
        self.store = OwnerStore()
        self.owner = owner

    def seal(self, stop_at: int | None = None, **changes: object) -> SealResult:
        """Run, or stop after this many chunks were read."""
        options = {"version": 1, "stride": STRIDE, "shard_chunks": CHUNKS, "threads": 2}

        def progress(done: int, total: int) -> None:
            if stop_at is not None and done >= min(stop_at * PAYLOAD, total):
                self.wait_for(stop_at // CHUNKS)
                raise Stop

        return seal_model(
            self.model,
            self.out,
            SealOptions(**options | changes),  # type: ignore[arg-type]
            wrap=self.store.wrap,
            unwrap=self.store.unwrap,
            signing_key=self.owner,
            progress=progress,
        )

    def wait_for(self, shards: int) -> None:
        """Wait until so many shards are on the disk: reading is ahead of writing."""
        deadline = time.monotonic() + 20
        for number in range(shards):
            shard = self.left() / "sealed" / f"shard-{number:05}.seal"
            whole = stored_size(min(SHARD, SIZE - number * SHARD), STRIDE)
            while not shard.exists() or shard.stat().st_size < whole:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        time.sleep(0.05)

    def stop(self, chunks: int = 7) -> Path:
        """A run that ends early. Returns what it left."""
        with pytest.raises(Stop):
            self.seal(stop_at=chunks)
        return self.left()

    def left(self) -> Path:
        (folder,) = self.folder.glob(".sealed.regalia-*")
        return folder

    def opens_to_the_model(self) -> None:
        """The sealed model is whole, and opens to the files of the model."""
        assert sorted(path.name for path in self.folder.iterdir()) == ["model", "sealed"]
        sealed = OwnedModel(
            self.out, self.model, SecretBytes.copy_of(self.store.model_key), self.owner
        )
        sealed.verify()
        loaded = sealed.load()
        found = {path.name: path.read_bytes() for path in self.model.iterdir()}
        assert {path: bytes(loaded.view(path)) for path in loaded.paths()} == found
        sealed.recover(self.folder / "opened")
        assert {p.name: p.read_bytes() for p in (self.folder / "opened").iterdir()} == found
        shutil.rmtree(self.folder / "opened")

    def stays_refused(self, code: Code, *words: str, **changes: object) -> None:
        """A run is refused, and what an earlier one left stays."""
        before = sorted(path.name for path in self.left().rglob("*"))
        with pytest.raises(LocalError) as caught:
            self.seal(**changes)
        assert caught.value.code is code
        assert all(word in caught.value.what for word in words), caught.value.what
        assert sorted(path.name for path in self.left().rglob("*")) == before
