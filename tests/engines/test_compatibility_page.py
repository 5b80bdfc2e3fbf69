"""The page of architectures is true for a sample, and of the library that is installed."""

from __future__ import annotations

import re
from pathlib import Path

import make_compatibility_table as compatibility
import pytest
import torch
import transformers

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
