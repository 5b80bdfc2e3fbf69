"""The page of architectures is true for a sample, and of the library that is installed."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import make_compatibility_table as compatibility
import pytest
import torch
import transformers

from regalia.engines.transformers import build_engine
from regalia_testing.models import FilesInMemory, tiny_llama

torch.set_num_threads(1)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
SERVED = (
    "llama",
    "mistral",
    "qwen2",
    "gemma3_text",
    "gpt_bigcode",
    "mamba",
    "deepseek_v3",
    "jamba",
)
REFUSED = ("rwkv", "minimax", "camembert")


@pytest.mark.slow
def test_a_sample_is_as_the_page_says() -> None:
    findings = compatibility.examine_all([*SERVED, *REFUSED])
    outcomes = {finding.kind: finding.outcome for finding in findings}
    want = dict.fromkeys(SERVED, "served") | dict.fromkeys(REFUSED, "refused")
    assert outcomes == want, findings
    page = PAGE.read_text()
    served = re.search(r"\*\*Served[^:]*:\*\* (.*)", page)
    assert served is not None
    assert all(f"`{kind}`" in served.group(1) for kind in SERVED)
    assert all(re.search(rf"^\| `{kind}` \| ENGINE_", page, re.MULTILINE) for kind in REFUSED)


def test_the_page_is_of_the_installed_library() -> None:
    assert f"transformers {transformers.__version__}," in PAGE.read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model as the library and as the engine load it."""
    folder = tiny_llama(tmp_path_factory.mktemp("tiny"))
    library = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return library, build_engine(FilesInMemory.of(folder), model_name="m", options={})


def compared(library: Any, engine: Any) -> compatibility.Finding:  # noqa: ANN401
    prompt = torch.tensor([compatibility.PROMPT])
    logits = compatibility.last_logits(library, prompt)
    return compatibility.compare("llama", library, engine, logits)


def test_equal_models_are_served(served: tuple[Any, Any]) -> None:
    library, engine = deepcopy(served)
    assert compared(library, engine).outcome == "served"


@pytest.mark.parametrize("number", [0, 3, -1])
def test_one_bit_of_a_weight_is_a_defect(served: tuple[Any, Any], number: int) -> None:
    library, engine = deepcopy(served)
    weight = list(engine._model.parameters())[number].data.flatten().view(torch.uint8)
    weight[0] ^= 1
    finding = compared(library, engine)
    assert finding.outcome == "DEFECT"
    assert "tensors differ" in finding.detail


def test_a_missing_buffer_is_a_defect(served: tuple[Any, Any]) -> None:
    library, engine = deepcopy(served)
    library.register_buffer("one_more", torch.zeros(1))
    assert "one_more" in compared(library, engine).detail


def test_other_arithmetic_with_the_same_weights_is_a_defect(served: tuple[Any, Any]) -> None:
    library, engine = deepcopy(served)
    engine._model.lm_head.register_forward_hook(lambda _module, _given, out: out * (1 + 2**-7))
    finding = compared(library, engine)
    assert (finding.outcome, finding.detail[:12]) == ("DEFECT", "other logits")


def test_bits_are_compared_and_not_numbers() -> None:
    nan = torch.tensor([float("nan"), 0.0])
    assert compatibility.same_bits(nan, nan.clone())
    assert not compatibility.same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not compatibility.same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16))
    assert not compatibility.same_bits(torch.zeros(2), torch.zeros(1, 2))
