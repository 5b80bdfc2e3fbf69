"""What merging an adapter leaves in the memory of its process: merged weights in their place."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from regalia_testing.adapters import PREFIX, TINY_LAYERS, WEIGHTS, tiny_adapter
from tests.engines.memory_scan import memory_blocks

if TYPE_CHECKING:
    from pathlib import Path

torch.set_num_threads(1)

# The adapter's bytes never pass through Python's heap, as in a runtime.
MERGE = """
    import ctypes, sys
    from pathlib import Path
    from regalia.engines.base import GenerationRequest, Message
    from regalia.engines.transformers import build_engine
    from regalia_testing.models import FilesInMemory
    base, folder = FilesInMemory.of(Path(sys.argv[1])), Path(sys.argv[2])
    adapter = FilesInMemory({path.name: bytes(path.stat().st_size) for path in folder.iterdir()})
    for name, (start, stop) in adapter._places.items():
        with (folder / name).open("rb", buffering=0) as file:
            file.readinto(memoryview(adapter.memory)[start:stop])
    engine = build_engine.with_adapter(base, adapter, model_name="m", options={})
    if sys.argv[3] == "wiped":
        for pages in (adapter.memory, *adapter.extra):
            pages[:] = bytes(len(pages))
    tokens = engine.encode_chat((Message("user", "Tell me about kings."),))
    list(engine.generate(GenerationRequest(tokens, 8, (), 0.0, 1.0, None)))
    address = ctypes.addressof(ctypes.c_char.from_buffer(base.memory))
    print(address, len(base.memory), flush=True)
    sys.stdin.read()
"""


def pieces(base: Path, adapter: Path) -> dict[str, list[bytes]]:
    """A few bytes out of the middle of everything that merging reads and makes."""
    tensors = load_file(adapter / WEIGHTS)
    old = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    found: dict[str, list[bytes]] = {"matrices": [], "products": [], "sums": [], "merged": []}
    for layer in TINY_LAYERS:
        a, b = (tensors[f"{PREFIX}{layer}.lora_{which}.weight"] for which in "AB")
        product = (b @ a) * 4.0
        wide = old[f"{layer}.weight"].float() + product
        found["matrices"] += [_piece(a), b.contiguous().view(-1)[20:28].numpy().tobytes()]
        found["products"].append(_piece(product))
        found["sums"].append(_piece(wide))
        found["merged"].append(_piece(wide.to(torch.bfloat16).view(torch.int16)))
    return found


def _piece(matrix: torch.Tensor) -> bytes:
    return matrix[2, 16:40].contiguous().numpy().tobytes()


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs to read another process's memory")
@pytest.mark.parametrize("wiped", [True, False])
def test_nothing_of_the_adapter_is_left(tiny: Path, tmp_path: Path, wiped: bool) -> None:  # noqa: FBT001
    """The control leaves the adapter's memory as it is, and then all of it is found."""
    adapter = tiny_adapter(tmp_path / "adapter")
    arguments = [str(tiny), str(adapter), "wiped" if wiped else "left"]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(MERGE), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address, size = (int(item) for item in process.stdout.readline().split())
        inside, outside = (
            b"\n".join(found) for found in memory_blocks(process.pid, [(address, size)])
        )
    every = pieces(tiny, adapter)
    assert all(piece in inside for piece in every["merged"]), "the control: where they belong"
    left = {name: sum(piece in outside for piece in found) for name, found in every.items()}
    if wiped:
        assert not any(left.values()), left
    else:
        assert left["matrices"] == len(every["matrices"])
        assert left["products"], "the last product is still in its space"
        assert not left["merged"]
