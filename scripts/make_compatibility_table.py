"""Which architectures are served? python scripts/make_compatibility_table.py [NAMES].

For every causal language model that the installed library knows: builds a tiny one with random
weights, saves it as the library does, loads it both ways, and compares weights, logits and
greedy tokens bit by bit. A model is served equal to the library, or refused with a code. Anything
else is a defect, and ends with status 1.

Some kernels round by how their operands are aligned in memory, so that the library does not equal
itself once its own weights have moved. After all weights were found equal, both models therefore
compute with the very same memory, and a difference is then one of code.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from regalia.core.errors import RegaliaError
from regalia.engines.base import GenerationRequest
from regalia.engines.transformers import build_engine
from regalia_testing.models import FilesInMemory, tiny_llama

BEGIN, END = "<!-- architectures -->", "<!-- end of architectures -->"
PARAMETERS_MAX = 20_000_000
PROMPT = tuple(range(5, 17))
NEW = 4  # tokens
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

# Settings by their names in all architectures, and a small value of each. The library checks that
# they go together; where these do not, OTHERWISE has what that architecture wants.
SMALL: dict[str, int | float] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 259),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "n_embed", "embedding_size"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size"), 96),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 4),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads",), 2),
    **dict.fromkeys(("head_dim", "v_head_dim", "kv_channels", "d_kv"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim"), 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("eos_token_id",), 2),
    **dict.fromkeys(("bos_token_id",), 1),
    **dict.fromkeys(("pad_token_id",), 0),
    **dict.fromkeys(("initializer_range", "init_std"), 0.3),
}
LAYER_LISTS = (
    "layer_types",
    "layers_block_type",
    "mlp_layer_types",
    "attention_layers",
    "activation_sparsity_pattern",
    "num_attention_heads_per_layer",
)
MLA = {"qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "head_dim": 16, "num_key_value_heads": 4}
MLA_TYPES = (
    "axk1 axk2 deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa minicpm3 youtu"
)
OTHERWISE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(MLA_TYPES.split(), MLA),
    "bamba": {
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_expand": 2,
        "attn_layer_indices": [1, 3],
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "gemma3n_text": {"intermediate_size": 96, "num_kv_shared_layers": 0},
    "gemma4_text": {"per_layer_config": None},
    "deepseek_v2": MLA | {"n_routed_experts": 4, "num_experts_per_tok": 2, "topk_group": 1},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "laguna": {"num_attention_heads_per_layer": [4] * 4},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_expand": 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2},
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "xlnet": {"d_head": 16},
    "zaya": {"num_experts_per_tok": 1},
    "rwkv": {"attention_hidden_size": 64},
    "reformer": {"is_decoder": True},
    "dbrx": {},
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What happened to one model type."""

    kind: str
    outcome: str  # served, refused, not built or DEFECT
    detail: str


def small(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a tiny model: numbers from SMALL, lists cut to its layers."""
    changed = {}
    for name, value in settings.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in SMALL and number:
            changed[name] = SMALL[name]
        elif isinstance(value, dict) and name.endswith("config"):
            changed[name] = small(value)
        elif isinstance(value, list) and name in LAYER_LISTS:
            layers = int(SMALL["num_hidden_layers"])
            kinds = list(dict.fromkeys(value)) * layers  # some of every kind
            changed[name] = kinds[:layers]
        else:
            changed[name] = value
    return changed


def tiny_config(kind: str) -> Any:  # noqa: ANN401 - untyped library
    """The configuration of a tiny model of this type."""
    known = CONFIG_MAPPING[kind]
    settings = small(known().to_dict()) | OTHERWISE.get(kind, {})
    return known.from_dict(known._decode_special_floats(settings))  # noqa: SLF001


def built(kind: str, folder: Path) -> str:
    """Build and save a tiny model. Returns why that did not work, or nothing."""
    try:
        config = tiny_config(kind)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        count = sum(parameter.numel() for parameter in model.parameters())
        if count > PARAMETERS_MAX:
            return f"its smallest has {count:,} parameters"
        torch.manual_seed(1)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    except Exception as exc:  # noqa: BLE001 - the architectures raise whatever they like
        return f"these settings do not build one: {type(exc).__name__}"
    return ""


def tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers by name, tied ones under each of their names."""
    return {
        name: tensor.data
        for named in (model.named_parameters, model.named_buffers)
        for name, tensor in named(remove_duplicate=False)
    }


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether type, shape and every bit agree; a NaN equals itself, and -0.0 is not 0.0."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pair = [tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*pair)


def unequal_tensors(library: torch.nn.Module, ours: torch.nn.Module) -> list[str]:
    """Names of tensors that only one model has, or that differ in a bit."""
    want, seen = tensors_of(library), tensors_of(ours)
    common = want.keys() & seen.keys()
    differ = {name for name in common if not same_bits(want[name], seen[name])}
    return sorted((want.keys() ^ seen.keys()) | differ)


def place(library: torch.nn.Module, ours: torch.nn.Module) -> None:
    """Let the library's model compute with our weights, where they lie."""
    memory = tensors_of(ours)
    for named in (library.named_parameters, library.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            tensor.data = memory[name]


def last_logits(model: Any, prompt: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - untyped library
    """The logits after the prompt's last token."""
    with torch.inference_mode():
        logits: torch.Tensor = model(prompt).logits[0, -1]
    return logits


def greedy(model: Any, prompt: torch.Tensor) -> list[int]:  # noqa: ANN401 - untyped library
    """What the library's own generation says.

    Ends and forced ends are settings of generation, not of the architecture.
    """
    answer = model.generate(
        prompt, max_new_tokens=NEW, do_sample=False, eos_token_id=-1, forced_eos_token_id=None
    )
    tokens: list[int] = answer[0, len(PROMPT) :].tolist()
    return tokens


def examine(kind: str, tokenizer: Path, folder: Path) -> Finding:
    """Build, load both ways, and compare."""
    why = built(kind, folder)
    if why:
        return Finding(kind, "not built", why)
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, folder)
    prompt = torch.tensor([PROMPT])
    try:
        library = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        elsewhere = last_logits(library, prompt)
        greedy(library, prompt)
    except Exception as exc:  # noqa: BLE001 - the architectures raise whatever they like
        return Finding(kind, "not built", f"the library does not run it: {type(exc).__name__}")
    try:
        engine = build_engine(FilesInMemory.of(folder), model_name="m", options={})
    except RegaliaError as exc:
        return Finding(kind, "refused", f"{exc.code.name}: {exc.what}")
    return compare(kind, library, engine, elsewhere)


def compare(kind: str, library: Any, engine: Any, elsewhere: torch.Tensor) -> Finding:  # noqa: ANN401
    """Weights first, then what both make of them; `elsewhere` has the logits from before."""
    ours = engine._model  # noqa: SLF001 - weights and tokens are what is compared
    unequal = unequal_tensors(library, ours)
    if unequal:
        return Finding(kind, "DEFECT", f"{len(unequal)} tensors differ: {', '.join(unequal[:3])}")
    prompt = torch.tensor([PROMPT])
    place(library, ours)
    want_logits, want = last_logits(library, prompt), greedy(library, prompt)
    request = GenerationRequest(PROMPT, NEW, (), 0.0, 1.0, 1)
    tokens = engine._tokens(request, NEW)  # noqa: SLF001
    seen = [token for token in tokens if token is not None]
    if seen != want:
        return Finding(kind, "DEFECT", f"{seen}, the library says {want}")
    if not same_bits(want_logits, last_logits(ours, prompt)):
        return Finding(kind, "DEFECT", "other logits than the library's, with the same weights")
    moved = "" if same_bits(want_logits, elsewhere) else "rounds by where its weights lie"
    return Finding(kind, "served", moved)


def examine_all(kinds: list[str]) -> list[Finding]:
    """Every type in its turn, with a line for each."""
    findings = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        tokenizer = tiny_llama(base / "tokenizer")
        for number, kind in enumerate(kinds, 1):
            start = time.perf_counter()
            folder = base / "model"
            try:
                finding = examine(kind, tokenizer, folder)
            except Exception as exc:  # noqa: BLE001
                finding = Finding(kind, "DEFECT", f"{type(exc).__name__}: {str(exc)[:100]}")
            shutil.rmtree(folder, ignore_errors=True)
            findings.append(finding)
            took = time.perf_counter() - start
            print(
                f"{number:3}/{len(kinds)} {kind:28} {finding.outcome:9} {took:4.1f} s "
                f" {finding.detail[:90]}",
                file=sys.stderr,
                flush=True,
            )
    return findings


def table(findings: list[Finding]) -> str:
    """The findings for the page, by outcome."""
    served = ", ".join(f"`{item.kind}`" for item in findings if item.outcome == "served")
    lines = [f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}."]
    lines += ["", f"**Served, equal to the library to the last bit:** {served}.", ""]
    for outcome, title in (("refused", "Refused by name"), ("not built", "Not tried")):
        lines += [f"| {title} | why |", "|---|---|"]
        lines += [f"| `{f.kind}` | {f.detail} |" for f in findings if f.outcome == outcome]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Examine, print and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="model types; all without")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    findings = examine_all(options.names or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
    print(table(findings))
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        options.write.write_text(f"{before}{BEGIN}\n{table(findings)}{END}{after}")
    counts = Counter(finding.outcome for finding in findings)
    print(dict(counts), file=sys.stderr)
    return 1 if counts["DEFECT"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
