"""Tensors on their way into vLLM: from hostile files, through memory that is wiped."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from regalia.core.errors import CoreCode, IntegrityError, LocalError, ParseError, UsageError
from regalia.engines.codes import EngineCode
from regalia.engines.safetensors import HEADER_MAX
from regalia.engines.vllm import staging as vllm_staging
from regalia.engines.vllm import tensors as vllm_tensors
from regalia.engines.vllm.staging import ALIGNMENT, KEPT, StagingArea
from regalia.engines.vllm.tensors import TensorStream, list_tensors
from tests.engines.vllm.plain_files import Files, tensor_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from regalia.core.weights import FilePart

torch.set_num_threads(1)


def u8(count: int, value: int = 7) -> tuple[str, list[int], bytes]:
    return "U8", [count], bytes([value]) * count


def taken(files: Files) -> dict[str, torch.Tensor]:
    stream = TensorStream(files, list_tensors(files))
    found = {name: tensor.clone() for name, tensor in stream}
    assert stream.taken == len(found)
    return found


def test_tensors_arrive_as_they_are() -> None:
    values = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    one = tensor_file(
        a=("F32", [2, 3], values.numpy().tobytes()),
        empty=("F32", [0, 5], b""),
        scalar=("I64", [], (5).to_bytes(8, "little")),
        odd=u8(13),
        after=("F32", [1], np.float32(2.5).tobytes()),
    )
    two = tensor_file(b=("BOOL", [2], b"\x01\x00"), none=("BF16", [3, 0, 2], b""))
    found = taken(Files({"2.safetensors": two, "1.safetensors": one, "config.json": b"{}"}))
    assert list(found) == ["a", "empty", "scalar", "odd", "after", "b", "none"]
    assert torch.equal(found["a"], values)
    assert found["empty"].shape == (0, 5)
    assert found["scalar"].item() == 5
    assert found["after"].item() == 2.5
    assert found["b"].tolist() == [True, False]
    assert (found["none"].shape, found["none"].dtype) == ((3, 0, 2), torch.bfloat16)


@pytest.mark.parametrize("dtype", sorted(vllm_tensors.TORCH_TYPES))
def test_every_type(dtype: str) -> None:
    kind = getattr(torch, vllm_tensors.TORCH_TYPES[dtype])
    size = torch.empty((), dtype=kind).element_size()
    raw = bytes(range(3 * size)) if dtype != "BOOL" else b"\x00\x01\x00"
    found = taken(Files({"a.safetensors": tensor_file(pad=u8(5), t=(dtype, [3], raw))}))["t"]
    assert found.dtype == kind
    assert found.view(torch.uint8).numpy().tobytes() == raw


def test_a_name_in_two_files() -> None:
    files = Files({f"{n}.safetensors": tensor_file(a=u8(1)) for n in range(2)})
    with pytest.raises(IntegrityError) as caught:
        list_tensors(files)
    assert caught.value.code is EngineCode.ENGINE_MODEL_INCOMPLETE


@pytest.mark.parametrize(
    "names", [[], ["config.json"], ["sub/model.safetensors"], ["a.safetensors.index.json"]]
)
def test_no_weights(names: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        list_tensors(Files({name: tensor_file(a=u8(1)) for name in names}))
    assert caught.value.code is EngineCode.ENGINE_NEEDS_SAFETENSORS


GOOD = tensor_file(a=u8(4))
TWICE = (
    b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
    b'"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}'
)
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "less than a length": b"\x01\x00",
    "a length only": GOOD[:8],
    "half a header": GOOD[:20],
    "no data": GOOD[:-4],
    "less data": GOOD[:-1],
    "more data": GOOD + b"x",
    "a header past the end": (1 << 20).to_bytes(8, "little") + GOOD[8:],
    "a header of all memory": ((1 << 64) - 1).to_bytes(8, "little") + GOOD[8:],
    "no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "nested deeply": (100_001).to_bytes(8, "little") + b"{" + b"[" * 100_000,
    "a name twice": len(TWICE).to_bytes(8, "little") + TWICE + b"x" * 8,
    "a gap": tensor_file(a=u8(4)).replace(b"[0, 4]", b"[1, 5]") + b"x",
    "negative": tensor_file(a=u8(4)).replace(b"[4]", b"[-4]"),
    "a pickle": b"\x80\x02}q\x00." * 10,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers(what: str) -> None:
    files = Files({"a.safetensors": HOSTILE[what]})
    with pytest.raises(ParseError) as caught:
        list_tensors(files)
    assert caught.value.code in (CoreCode.MALFORMED, CoreCode.TOO_LARGE)
    assert files.asked <= 2 * len(HOSTILE[what]) + 8, "no more is read than there is"


def test_a_header_that_is_too_long_is_not_read() -> None:
    class Huge(Files):
        def sizes(self) -> Mapping[str, int]:
            return {"a.safetensors": 1 << 50}

        def read(self, parts: Sequence[FilePart]) -> None:
            for part in parts:
                assert part.out.nbytes <= HEADER_MAX + 8
                part.out[:] = b"\xff" * part.out.nbytes

    with pytest.raises(ParseError) as caught:
        list_tensors(Huge({}))
    assert caught.value.code is CoreCode.TOO_LARGE


def test_a_type_that_nobody_computes_with() -> None:
    text = tensor_file(a=u8(4)).replace(b'"U8"', b'"F4"')
    with pytest.raises(UsageError) as caught:
        list_tensors(Files({"a.safetensors": text}))
    assert caught.value.code is EngineCode.ENGINE_MODEL_UNSUPPORTED


def test_an_unfinished_download() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    with pytest.raises(IntegrityError, match="LFS"):
        list_tensors(Files({"a.safetensors": pointer}))


def test_forged_chunks_hand_nothing_out() -> None:
    files = Files({"a.safetensors": tensor_file(a=u8(100), b=u8(100))})
    found = list_tensors(files)
    files.fails = True
    stream = TensorStream(files, found)
    with pytest.raises(IntegrityError):
        list(stream)
    assert stream.taken == 0


def test_many_batches_one_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_tensors, "BATCH", 100)
    data = {f"t{n}": u8(size, n + 1) for n, size in enumerate([1, 99, 100, 500, 0, 30, 30, 30, 30])}
    files = Files({"a.safetensors": tensor_file(**data)})
    for name, tensor in taken(files).items():
        assert tensor.numpy().tobytes() == data[name][2]


# Staging memory


@pytest.fixture
def wiped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of areas, as they are wiped."""
    gc.collect()  # what other tests have left
    sizes: list[int] = []
    memset = vllm_staging.ctypes.memset

    def note(address: int, value: int, size: int) -> Any:  # noqa: ANN401
        sizes.append(size)
        return memset(address, value, size)

    monkeypatch.setattr(vllm_staging.ctypes, "memset", note)
    return sizes


def test_an_area_is_wiped_when_its_last_tensor_is_gone(wiped: list[int]) -> None:
    staging = StagingArea()
    array = staging.take(1000)
    array[:] = 7
    views = [torch.from_numpy(array[:500]), torch.from_numpy(array[500:])]
    address = array.ctypes.data
    del array
    gc.collect()
    assert wiped == []
    reshaped = views[1].view(5, 100)[2]
    views.clear()
    gc.collect()
    assert wiped == [], "one view lives"
    assert reshaped.tolist() == [7] * 100
    del reshaped
    gc.collect()
    assert wiped == [1000]
    again = staging.take(900)
    assert again.ctypes.data == address, "used again"
    assert not again.any()


def test_an_area_is_not_used_again_while_a_tensor_lives() -> None:
    staging = StagingArea()
    one = torch.from_numpy(staging.take(1000)[100:101])
    two = staging.take(1000)
    two[:] = 9
    assert one.item() == 0


def test_an_area_that_comes_back_while_another_is_taken(wiped: list[int]) -> None:
    staging = StagingArea()
    array = staging.take(100)
    with staging._lock:  # as when the garbage collector runs within ``take``
        del array
    assert wiped == [100]
    assert len(staging._free) == 1


def test_areas_are_kept_in_small_number_and_of_fitting_size(wiped: list[int]) -> None:
    staging = StagingArea()
    arrays = [staging.take(100) for _ in range(KEPT + 2)]
    arrays.clear()
    gc.collect()
    assert wiped == [100] * (KEPT + 2)
    assert len(staging._free) == KEPT
    huge = staging.take(1 << 24)
    assert len(staging._free) == KEPT, "too small"
    del huge
    gc.collect()
    assert len(staging._free) == KEPT
    small = staging.take(10)
    assert len(small) == 10
    staging.close()
    assert staging._free == []


def test_an_area_is_taken_from_dumps_and_children() -> None:
    staging = StagingArea()
    array = staging.take(1 << 20)
    start = array.ctypes.data
    with open("/proc/self/smaps") as maps:  # noqa: PTH123 - a file of the kernel
        text = maps.read()
    (flags,) = [
        part.partition("VmFlags:")[2].split("\n")[0].split()
        for part in text.split(f"{start:x}-")[1:]
    ]
    assert {"dd", "dc"} <= set(flags), "not dumped, not forked"


def test_an_empty_area() -> None:
    assert len(StagingArea().take(0)) == 0


def test_memory_that_cannot_be_had() -> None:
    with pytest.raises(LocalError):
        StagingArea().take(1 << 60)


def test_tensors_of_a_stream_keep_their_batch_and_no_longer(wiped: list[int]) -> None:
    files = Files({"a.safetensors": tensor_file(a=u8(100), b=u8(100))})
    stream = TensorStream(files, list_tensors(files))
    kept = next(tensor for name, tensor in stream if name == "b")
    gc.collect()
    assert kept.tolist() == [7] * 100
    assert not wiped
    del kept, stream
    gc.collect()
    assert len(wiped) == 1
    assert wiped[0] >= 100 + ALIGNMENT
