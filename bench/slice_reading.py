"""How much does a rank read for its slices? Seals a model of Llama's shape, and loads its parts.

Each rank of a tensor-parallel group takes what vLLM's weight loaders take: rows of the projections
into attention and of gate and up, columns of the output of attention and of down, and norms whole.
The worst rank of each group is shown. Columns are counted twice: exactly, and whole, as all of a
matrix lies between the first and the last byte of its columns. Usage: slice_reading.py --help.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from harness import MIB, note, show_table

from regalia.core.secret import SecretBytes
from regalia.crypto.sign import SigningKey
from regalia.engines.vllm.slices import SlicedStream
from regalia.engines.vllm.staging import StagingArea
from regalia.engines.vllm.tensors import list_tensors
from regalia.runtime.hosted.files import SealedFiles
from regalia.runtime.startup import fetch_manifest
from regalia.seal.format.sealed import WrappedKey
from regalia.seal.progress import no_progress
from regalia.seal.reader import open_sealed
from regalia.seal.writer import SealOptions, seal_model
from regalia.store.locate import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regalia.seal.manifest import VerifiedManifest

STRIDES = (MIB, 4 * MIB)
RANKS = (2, 4, 8)
ITEM = 2  # bytes of a bfloat16
_COLUMNS = ("o_proj", "down_proj")  # of which a rank takes columns


@dataclass(frozen=True)
class Shape:
    """Sizes of a model of Llama's kind."""

    hidden: int
    intermediate: int
    layers: int
    vocabulary: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes, in the order in which transformers saves them."""
        wide, inner = self.hidden, self.intermediate
        if self.vocabulary:
            yield "lm_head.weight", (self.vocabulary, wide)
            yield "model.embed_tokens.weight", (self.vocabulary, wide)
        for layer in range(self.layers):
            for name, shape in {
                "input_layernorm": (wide,),
                "mlp.down_proj": (wide, inner),
                "mlp.gate_proj": (inner, wide),
                "mlp.up_proj": (inner, wide),
                "post_attention_layernorm": (wide,),
                "self_attn.k_proj": (wide, wide),
                "self_attn.o_proj": (wide, wide),
                "self_attn.q_proj": (wide, wide),
                "self_attn.v_proj": (wide, wide),
            }.items():
                yield f"model.layers.{layer}.{name}.weight", shape
        yield "model.norm.weight", (wide,)


@dataclass(frozen=True)
class Amount:
    """Bytes of one rank: what it wanted, exactly and with columns counted whole, and read."""

    exactly: int
    whole: int
    read: int


def write_model(folder: Path, shape: Shape) -> int:
    """Write one safetensors file of random numbers. Returns the bytes of its tensors."""
    folder.mkdir()
    header, end = {}, 0
    for name, sizes in shape.tensors():
        size = ITEM * torch.Size(sizes).numel()
        header[name] = {"dtype": "BF16", "shape": sizes, "data_offsets": [end, end + size]}
        end += size
    table = json.dumps(header).encode()
    table += b" " * (-len(table) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(table).to_bytes(8, "little") + table)
        for start in range(0, end, 8 * MIB):
            file.write(os.urandom(min(8 * MIB, end - start)))
    return end


def seal(model: Path, out: Path, stride: int) -> tuple[VerifiedManifest, bytearray]:
    """Seal under a throw-away key. Returns the manifest, and the model key."""
    keys: list[bytearray] = []

    def wrap(key: SecretBytes, _context: bytes) -> WrappedKey:
        keys.append(bytearray(key.view()))
        return WrappedKey("benchmark", "none", b"-")

    owner = SigningKey.generate_ed25519()
    options = SealOptions(version=1, stride=stride)
    sealed = seal_model(model, out, options, wrap=wrap, signing_key=owner, progress=no_progress)
    manifest = fetch_manifest(
        open_store(str(out), out),
        owner_key=str(owner.verify_key.fingerprint),
        model_id=str(sealed.manifest.model_id),
    )
    return manifest, keys[0]


def slice_of(name: str, tensor: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    """What a rank takes of a tensor."""
    if tensor.dim() == 1:
        return tensor
    dimension = int(any(f".{word}." in name for word in _COLUMNS))
    size = tensor.shape[dimension] // ranks
    return tensor.narrow(dimension, rank * size, size)


def load_rank(files: SealedFiles, rank: int, ranks: int) -> Amount:
    """Decrypt and copy one rank's part of everything."""
    stream = SlicedStream(files, list_tensors(files), StagingArea())
    exactly = 0
    for name, tensor in stream:
        part = slice_of(name, tensor, rank, ranks)
        torch.empty(part.shape, dtype=part.dtype).copy_(part)
        exactly += part.numel() * part.element_size()
    files.forget()
    return Amount(exactly, stream.size, files.bytes_read)


def measure(model: Path, folder: Path, stride: int) -> dict[int, Amount]:
    """The rank of each group that reads most, by the size of the group."""
    out = folder / f"sealed-{stride}"
    note(f"sealing in chunks of {stride // MIB} MiB")
    manifest, key = seal(model, out, stride)
    found = {}
    for ranks in RANKS:
        amounts = []
        for rank in range(ranks):
            with SecretBytes(bytearray(key)) as secret:
                reader = open_sealed(open_store(str(out), out), manifest, secret)
            amounts.append(load_rank(SealedFiles(reader, threads=1), rank, ranks))
        found[ranks] = max(amounts, key=lambda amount: amount.read)
        note(f"{ranks} ranks: {found[ranks]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--intermediate", type=int, default=11008)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=0, help="0: no embeddings")
    given = parser.parse_args()
    shape = Shape(given.hidden, given.intermediate, given.layers, given.vocabulary)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = write_model(folder / "model", shape)
        for stride in STRIDES:
            for ranks, amount in measure(folder / "model", folder, stride).items():
                rows.append(
                    [
                        f"{stride // MIB} MiB",
                        str(ranks),
                        *(f"{count / 1e6:.0f}" for count in (amount.exactly, amount.whole)),
                        f"{amount.read / 1e6:.0f}",
                        f"{amount.read / amount.whole:.2f}",
                        f"{amount.read / amount.exactly:.2f}",
                    ]
                )
    show_table(
        f"A rank's part of {size / 1e6:.0f} MB, in MB",
        ["chunks", "ranks", "wanted", "columns whole", "read", "of columns whole", "of wanted"],
        rows,
    )


if __name__ == "__main__":
    main()
