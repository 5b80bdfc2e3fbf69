"""Runs the commands on a page of the documentation, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# This interpreter's, whatever else a reader may have installed.
_COMMANDS = f"""set -euo pipefail
regalia() {{ "{sys.executable}" -m regalia "$@"; }}
python() {{ "{sys.executable}" "$@"; }}
"""


def blocks_of(page: str) -> list[str]:
    """The commands of each block of shell on a page."""
    return _BLOCK.findall(page)


def run_blocks(folder: Path, blocks: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run them in one shell that stops at the first that fails.

    Raises:
        AssertionError: one failed; with what was printed.
    """
    done = subprocess.run(  # noqa: S603 - the project's own pages
        ["/bin/bash", "-c", _COMMANDS + "".join(blocks)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or "Traceback" in done.stderr:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done
