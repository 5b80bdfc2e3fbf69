"""Whoever reads the output may go: a command then ends quietly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regalia.core.errors import EXIT_INTERRUPTED


@pytest.mark.parametrize(
    "arguments", [["policy", "explain", "POLICY"], ["attest", "verify", "--help"], ["--help"]]
)
def test_a_reader_that_is_gone(arguments: list[str]) -> None:
    policy = Path(__file__).parents[1] / "vectors" / "policy" / "release-policy.json"
    arguments = [str(policy) if word == "POLICY" else word for word in arguments]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "regalia", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == EXIT_INTERRUPTED
