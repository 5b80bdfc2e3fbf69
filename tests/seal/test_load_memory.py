"""How much memory a load takes beside the model, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from regalia_testing.sealed import seal_testbed

if TYPE_CHECKING:
    from pathlib import Path

    from regalia.crypto.sign import SigningKey

MIB = 1 << 20
SIZE = 512 * MIB
PEAK = 1.02  # of the model

SCRIPT = """
import mmap, sys
from pathlib import Path
from regalia.core.secret import SecretBytes
from regalia.seal.manifest import ANY_SIGNER, verify_manifest
from regalia.seal.progress import no_progress
from regalia.seal.reader import Piece, open_sealed
from regalia.store.local import LocalBlobs

def kib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))

sealed, key = Path(sys.argv[1]), SecretBytes(bytearray.fromhex(sys.stdin.readline()))
manifest = verify_manifest(
    (sealed / "manifest.json").read_bytes(), signers=ANY_SIGNER, minimum_version=1
)
before = kib("VmRSS")
with LocalBlobs(sealed) as blobs:
    reader = open_sealed(blobs, manifest, key)
    size = reader.stream_size
    memory = memoryview(mmap.mmap(-1, size))
    {load}
print((kib("VmHWM") - before) * 1024 / size)
"""
WHOLE = "reader.read_all(memory, threads=2, progress=no_progress)"
# Rows of a matrix, of which each rank takes a part: hardly a chunk lies inside of one piece.
ROWS = (
    "row = 3 * (1 << 20) // 4\n"
    "    pieces = [Piece(at, memory[at : at + row]) for at in range(0, size - row, row)]\n"
    "    reader.load_into(pieces, threads=2, progress=no_progress)"
)


@pytest.mark.slow
@pytest.mark.parametrize("load", [WHOLE, ROWS], ids=["whole", "rows"])
def test_a_load_takes_little_more_than_the_model(
    tmp_path: Path, owner: SigningKey, load: str
) -> None:
    (tmp_path / "model").mkdir()
    with (tmp_path / "model" / "w").open("wb") as file:
        file.truncate(SIZE)
    sealed = seal_testbed(tmp_path / "model", tmp_path / "sealed", owner, stride=MIB)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT).format(load=load), str(sealed.folder)],
        input=sealed.key.view().hex(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 0.99 < float(done.stdout) <= PEAK
