"""The benchmark for GPUs: without one it says so, and its code runs on the CPU as well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench" / "load_cuda.py"
pytestmark = pytest.mark.slow


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_that_it_did_not_run() -> None:
    assert bench().stderr == "not run: this machine has no GPU that torch can use\n"


def test_every_byte_arrives_through_the_slots() -> None:
    """The benchmark compares them itself before it measures, and fails if one differs."""
    done = bench("--device", "cpu", "--size-mb", "80", "--rounds", "1", "--json")
    assert len(json.loads(done.stdout)) == 4
