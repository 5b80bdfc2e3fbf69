"""The commands in README and tutorial are run, as they stand there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from regalia_demo.attacks import ATTACKS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:<!-- wait (\S+) -->\n)?", re.MULTILINE | re.DOTALL)
WAIT = """
answers() {{ python -c 'import httpx; httpx.get("{url}").raise_for_status()'; }}
for _ in $(seq 600); do answers 2>/dev/null && break; sleep 0.2; done
answers
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tutorial_script() -> str:
    """Every block in its order, under ``set -e``; each service is awaited, as a reader would."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    parts = ["set -euo pipefail\nset -m\n"]
    for block, url in BLOCK.findall(text):
        parts.append(block)
        if url:
            parts.append(WAIT.format(url=url))
    script = "".join(parts)
    for port in ("8441", "8443", "8444", "8480"):
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    return script


@pytest.mark.slow
def test_the_tutorial_works_as_written(tmp_path: Path, model_cache: Path) -> None:
    # The reader's first step makes the model; the cache saves the conversion, not the command.
    script = tutorial_script().replace(
        "python -m regalia_testing model model", f"cp -r {model_cache}/smollm2 model"
    )
    script = script.replace('export PATH="$PWD/.venv/bin:$PATH"', f'export PATH="{BIN}:$PATH"')
    process = subprocess.Popen(
        ["/bin/bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-4000:]
    for expected in (
        "CIPHERTEXT_CHANGED",  # the damaged copy
        "SIMULATED",
        "Paris",
        "nowhere",
        "SEALED_PATH_ONLY",
        "HOLDERS",
        "the same",
        "runtime.lease.returned",  # a clean stop, as step 7 says
        "broker.lease.taken_back",
    ):
        assert expected in output, f"{expected} not in:\n{output[-6000:]}"
    assert "Traceback" not in output


def test_the_readme_names_what_make_does() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\$ (.*)$", readme, re.MULTILINE)[:2] == ["make demo", "make test"]
    for target, command in (("demo", "regalia demo"), ("test", "pytest")):
        done = subprocess.run(
            ["/usr/bin/make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert command in done.stdout
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in ci


def test_the_readme_shows_every_theft() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for number, attack in enumerate(ATTACKS, 1):
        assert f"{number:>2}  {attack.title} " in readme
