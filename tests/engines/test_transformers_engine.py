"""The engine on memory: same text as from files, weights where they were, every misfit refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from regalia.core.errors import UsageError
from regalia.engines.base import Finish, GenerationRequest, Message, TextDelta
from regalia.engines.codes import EngineCode
from regalia.engines.transformers import TransformersEngine, build_engine
from regalia_testing.models import FilesInMemory, smollm2
from regalia_testing.needles import pick_needles
from tests.engines.memory_scan import memory_blocks

if TYPE_CHECKING:
    from pathlib import Path

torch.set_num_threads(1)
HELLO = (Message("user", "Hello, wie geht es? 😀 ä€"),)


def engine_of(files: FilesInMemory, **options: object) -> TransformersEngine:
    return build_engine(files, model_name="m", options=options)


@pytest.fixture(scope="module")
def engine(tiny: Path) -> TransformersEngine:
    return engine_of(FilesInMemory.of(tiny))


def ask(
    tokens: tuple[int, ...], limit: int = 24, **changes: float | str | tuple[str, ...] | None
) -> GenerationRequest:
    values: dict[str, Any] = {"stop": (), "temperature": 0.0, "top_p": 1.0, "seed": None} | changes
    return GenerationRequest(tokens=tokens, max_tokens=limit, **values)


def text_of(deltas: list[TextDelta]) -> str:
    return "".join(delta.text for delta in deltas)


def run(engine: TransformersEngine, request: GenerationRequest) -> str:
    return text_of(list(engine.generate(request)))


def reference(folder: Path, tokens: tuple[int, ...], limit: int) -> list[int]:
    """Greedy tokens of the same model, loaded from files the usual way."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    answer = model.generate(torch.tensor([tokens]), max_new_tokens=limit, do_sample=False)
    return [int(item) for item in answer[0, len(tokens) :]]


@pytest.mark.parametrize("name", ["tiny", "sharded"])
def test_same_text_as_from_files(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    engine = engine_of(FilesInMemory.of(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": item.role, "content": item.content} for item in HELLO]
    tokens = engine.encode_chat(HELLO)
    assert list(tokens) == tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_dict=False
    )
    deltas = list(engine.generate(ask(tokens)))
    want = reference(folder, tokens, 24)
    # Random bytes: a character that is begun at the very end is not shown.
    assert text_of(deltas) == tokenizer.decode(want, skip_special_tokens=True).rstrip("\ufffd")
    usage = deltas[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(tokens), len(want))
    assert [delta.finish for delta in deltas[:-1]] == [None] * (len(deltas) - 1)


def test_every_weight_lies_in_the_given_memory(tiny: Path) -> None:
    files = FilesInMemory.of(tiny)
    engine = engine_of(files)
    whole = torch.frombuffer(files.memory, dtype=torch.uint8)
    low, high = whole.data_ptr(), whole.data_ptr() + len(whole)
    weights = dict(engine._model.named_parameters(remove_duplicate=False))
    assert len(weights) == engine.tensors_inside == 21  # 20 in the file, and the tied head
    for name, tensor in weights.items():
        assert low <= tensor.data_ptr() < high, name
        assert tensor.data_ptr() % 64 == 0, name
        assert not tensor.requires_grad
    # They are not only there, they are used: zeros in the memory are zeros in the model.
    request = ask(engine.encode_chat(HELLO), 4)
    before = run(engine, request)
    start, stop = files._places["model.safetensors"]
    files.memory[start + 4096 : stop] = bytes(stop - start - 4096)
    assert run(engine, request) != before


FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": 16},
    "Gemma3Text": {"head_dim": 16, "sliding_window": 16, "query_pre_attn_scalar": 16},
    "Phi3": {"pad_token_id": 0},
    "Llama": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_compute_the_same(family: str, tiny: Path, tmp_path: Path) -> None:
    """Computed buffers (rotary frequencies, embedding scales) are what the library computes."""
    config = getattr(transformers, f"{family}Config")(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
        **FAMILIES[family],
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    engine = engine_of(FilesInMemory.of(tmp_path))
    tokens = torch.tensor([[(7 * item) % 250 + 3 for item in range(40)]])
    with torch.inference_mode():
        want = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)(tokens).logits
        assert torch.equal(engine._model(tokens).logits, want)


def test_streams_whole_characters(engine: TransformersEngine) -> None:
    tokens = engine.encode_text("streaming")
    decode = engine._codec.decode
    pieces = [delta.text for delta in engine.generate(ask(tokens, 200, temperature=1.0, seed=5))]
    ids = [
        t for t in engine._tokens(ask(tokens, 200, temperature=1.0, seed=5), 200) if t is not None
    ]
    ends = [number for number, token in enumerate(ids) if token in engine._ends]
    assert "".join(pieces) == decode(ids[: ends[0]] if ends else ids).rstrip("\ufffd")
    assert max(len(piece) for piece in pieces) > 1, "random bytes: some piece was held back"


def test_a_long_prompt_can_be_stopped_between_parts(engine: TransformersEngine) -> None:
    tokens = tuple(3 + number % 200 for number in range(engine._prefill_step + 9))
    deltas = list(engine.generate(ask(tokens, 3)))
    assert deltas[0] == TextDelta("")
    assert deltas[-1].finish is not None
    whole = torch.tensor([tokens])
    with torch.inference_mode():
        first = int(engine._model(whole).logits[0, -1].argmax())
    assert first == next(t for t in engine._tokens(ask(tokens, 3), 3) if t is not None)


def test_sampling_repeats_with_its_seed(engine: TransformersEngine) -> None:
    tokens = engine.encode_text("dice")

    def roll(seed: int | None, **changes: float | str | tuple[str, ...] | None) -> str:
        return run(engine, ask(tokens, 12, temperature=1.5, seed=seed, **changes))

    assert roll(1) == roll(1)
    assert len({roll(seed) for seed in (1, 2, 3, None)}) > 1
    greedy = run(engine, ask(tokens, 12))
    assert roll(1, top_p=0.0) == greedy
    assert run(engine, ask(tokens, 12, temperature=1e-5, seed=1)) == greedy


def test_stop_strings_and_limits(engine: TransformersEngine) -> None:
    tokens = engine.encode_chat(HELLO)
    whole = run(engine, ask(tokens, 24))
    stop = whole[5:8]
    assert stop not in whole[:5]
    deltas = list(engine.generate(ask(tokens, 24, stop=(stop, "not there"))))
    assert text_of(deltas) == whole[: whole.index(stop)]
    assert deltas[-1].finish is Finish.STOP
    last = list(engine.generate(ask(tokens, 1)))[-1]
    assert last.finish is Finish.LENGTH
    assert last.usage is not None
    assert last.usage.completion_tokens == 1


def test_the_context_bounds_the_answer(tiny: Path) -> None:
    engine = engine_of(FilesInMemory.of(tiny), context_max=12)
    assert engine.context_length == 12
    last = list(engine.generate(ask(tuple(range(3, 13)), 50)))[-1]
    assert last.usage is not None
    assert last.usage.completion_tokens <= 2
    for size in (12, 13):
        with pytest.raises(UsageError) as caught:
            engine.generate(ask(tuple(range(3, 3 + size)), 1))
        assert caught.value.code is EngineCode.PROMPT_TOO_LONG


def test_end_of_text_ends_the_answer(engine: TransformersEngine) -> None:
    tokens = engine.encode_chat(HELLO)
    produced = [t for t in engine._tokens(ask(tokens, 6), 6) if t is not None]
    shorter = TransformersEngine(
        engine._model, engine._codec, model_name="m", context_length=512,
        interleaves=True, prefill_step=256,
        ends=frozenset({produced[3]}), inside=0,
    )  # fmt: skip
    deltas = list(shorter.generate(ask(tokens, 6)))
    assert deltas[-1].finish is Finish.STOP
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == produced.index(produced[3]) + 1


def test_closing_ends_the_work(engine: TransformersEngine) -> None:
    deltas = engine.generate(ask(engine.encode_text("close"), 500))
    next(deltas)
    deltas.close()  # type: ignore[attr-defined]
    assert next(deltas, None) is None


@pytest.mark.parametrize("tokens", [(), (-1,), (259,), (3, 1 << 40)])
def test_tokens_out_of_range(engine: TransformersEngine, tokens: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        engine.check_tokens(tokens)
    assert caught.value.code is EngineCode.PROMPT_UNUSABLE


def test_prompts_that_the_model_cannot_take(engine: TransformersEngine, tiny: Path) -> None:
    with pytest.raises(UsageError, match="no tokens"):
        engine.encode_text("")
    bare = FilesInMemory({p.name: p.read_bytes() for p in tiny.iterdir() if p.suffix != ".jinja"})
    with pytest.raises(UsageError, match="no chat template"):
        engine_of(bare).encode_chat(HELLO)


OPENS = """
    import os, sys
    from pathlib import Path
    from regalia_testing.models import FilesInMemory
    files = FilesInMemory.of(Path(sys.argv[1]))
    seen = []
    def hook(event, args):
        if event == "open" and isinstance(args[0], (str, bytes)):
            mode, flags = args[1], args[2]
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                seen.append(("write", os.fsdecode(args[0])))
            elif str(args[0]).startswith(sys.argv[2]):
                seen.append(("read", os.fsdecode(args[0])))
        elif event == "os.mkdir" and not os.path.isdir(args[0]):
            seen.append((event, repr(args)))
        elif event in ("socket.connect", "socket.getaddrinfo", "tempfile.mkstemp",
                       "tempfile.mkdtemp", "subprocess.Popen", "os.exec", "os.fork"):
            seen.append((event, repr(args)))
    sys.addaudithook(hook)
    from regalia.engines.base import GenerationRequest, Message
    from regalia.engines.transformers import build_engine
    engine = build_engine(files, model_name="m", options={})
    tokens = engine.encode_chat((Message("user", "hi"),))
    list(engine.generate(GenerationRequest(tokens, 4, (), 0.0, 1.0, None)))
    print([item for item in seen if "__pycache__" not in item[1]])
"""


def test_opens_no_file_and_no_socket(tiny: Path, tmp_path: Path) -> None:
    """From the library's import to the answer: nothing of the model is read from or written to
    disk, nothing temporary is made, nobody is called.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OPENS), str(tiny), str(tiny.parent)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.rglob("*")) == []


SECOND_COPIES = """
    import re, sys
    from pathlib import Path
    from regalia.engines.base import GenerationRequest, Message
    from regalia.engines.transformers import build_engine
    from regalia_testing.models import FilesInMemory
    import ctypes
    files = FilesInMemory.of(Path(sys.argv[1]))
    engine = build_engine(files, model_name="m", options={})
    tokens = engine.encode_chat((Message("user", "Tell me about kings."),))
    list(engine.generate(GenerationRequest(tokens, 8, (), 0.0, 1.0, None)))
    address = ctypes.addressof(ctypes.c_char.from_buffer(files.memory))
    print(address, len(files.memory), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs to read another process's memory")
def test_running_the_model_makes_no_second_copy(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """After an answer, pieces of the weights lie in the given memory and nowhere else: not in
    torch's heap, nor in packing buffers of its matrix kernels.
    """
    folder = smollm2(tmp_path_factory.getbasetemp().parent / "regalia-smollm2")
    needles = pick_needles(folder / "model.safetensors", 100, seed=1)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SECOND_COPIES), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address, size = (int(item) for item in process.stdout.readline().split())
        inside, outside = memory_blocks(process.pid, [(address, size)])
        assert needles.found_in(inside) == 100, "the control: they are found where they are"
        assert needles.found_in(outside) == 0


def packed_needles(folder: Path) -> dict[str, list[bytes]]:
    """Pieces of each matrix as kernels lay it out for themselves, by the name of the layout."""
    found: dict[str, list[bytes]] = {"transposed": [], "pairs of rows": [], "widened": []}
    for name, weight in load_file(folder / "model.safetensors").items():
        if weight.dim() != 2 or "proj" not in name:
            continue
        tile = weight[:16, 8:40]
        raw = tile.contiguous().view(torch.int16)
        pairs = raw.view(16, 16, 2).transpose(0, 1).contiguous()
        found["transposed"].append(raw.t().contiguous()[3].numpy().tobytes())
        found["pairs of rows"].append(pairs[5].numpy().tobytes())
        found["widened"].append(tile[2].float().numpy().tobytes())
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="needs to read another process's memory")
@pytest.mark.parametrize("packing", [False, True])
def test_no_packed_copy_of_a_matrix_is_left(packing: bool, tiny: Path) -> None:  # noqa: FBT001
    """Kernels that pack matrices are off. The control keeps a transposed copy, which is found."""
    code = textwrap.dedent(SECOND_COPIES)
    if packing:
        each = "[getattr(engine._model.model.layers[0].mlp, name + '_proj')"
        keep = f"kept = {each}.weight.t().contiguous() for name in ('gate', 'up', 'down')]"
        code = code.replace("address =", f"{keep}\naddress =")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tiny)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address, size = (int(item) for item in process.stdout.readline().split())
        _, outside = memory_blocks(process.pid, [(address, size)])
    whole = b"\n".join(outside)
    counts = {
        layout: sum(piece in whole for piece in pieces)
        for layout, pieces in packed_needles(tiny).items()
    }
    assert counts.pop("transposed") == (3 if packing else 0)
    assert not any(counts.values()), counts


def test_libraries_that_pack_matrices_are_off(engine: TransformersEngine) -> None:
    assert engine.interleaves
    assert not torch.backends.mkldnn.enabled
    assert os.environ["MKL_DISABLE_FAST_MM"] == "1"


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = smollm2(tmp_path_factory.getbasetemp().parent / "regalia-smollm2")
    engine = engine_of(FilesInMemory.of(folder))
    assert engine.tensors_inside == 273
    tokens = engine.encode_chat((Message("user", "What is the capital of France?"),))
    deltas = list(engine.generate(ask(tokens, 32)))
    assert "Paris" in text_of(deltas)
    assert deltas[-1].finish is Finish.STOP
