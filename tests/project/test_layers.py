"""DESIGN section 4 is enforced: each kind of violation, planted in a copy, is caught."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "regalia"
LINT = Path(sys.executable).with_name("lint-imports")

VIOLATIONS = {
    "attest sees a policy": ("attest", "from regalia.policy import evaluate"),
    "policy sees evidence verified elsewhere": ("policy", "from regalia.attest import snp"),
    "core looks up": ("core", "from regalia.formats import evidence"),
    "formats and crypto meet": ("formats", "from regalia.crypto import dsse"),
    "a service calls another": ("client", "from regalia.broker import app"),
    "the store holds a cipher": ("store", "from regalia.crypto import aead"),
    "the store holds a foreign cipher": ("store", "from cryptography import x509"),
    "the runtime holds the key store": ("runtime", "from regalia.keys import devfile"),
    "the product imports a test double": ("runtime", "from regalia_testing import snp"),
    "the command line imports a test double": ("cli", "from regalia_testing import snp"),
    "a verifier opens a socket": ("attest", "import httpx"),
    "a format opens a socket": ("formats", "import socket"),
    "a measurement opens a socket": ("measure", "import httpx"),
    "a measurement sees a policy": ("measure", "from regalia.policy import evaluate"),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT), "--no-cache", "--config", str(folder / "pyproject.toml")],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(SOURCE, tmp_path / "regalia", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_house_as_it_stands_is_clean(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_is_caught(copy: Path, name: str) -> None:
    package, statement = VIOLATIONS[name]
    (copy / "regalia" / package / "planted.py").write_text(f"{statement}\n")
    result = lint(copy)
    assert result.returncode != 0
    assert "planted" in result.stdout


@pytest.mark.slow
def test_a_package_without_a_place_is_caught(copy: Path) -> None:
    (copy / "regalia" / "utils").mkdir()
    (copy / "regalia" / "utils" / "__init__.py").touch()
    result = lint(copy)
    assert result.returncode != 0
    assert "utils" in result.stdout


CLOCKS = re.compile(r"\b(datetime\.now|datetime\.utcnow|time\.time|date\.today|system_clock)\b")


@pytest.mark.parametrize("package", ["attest", "policy", "formats", "crypto", "measure", "seal"])
def test_islands_and_formats_read_no_clock(package: str) -> None:
    for path in sorted((SOURCE / package).rglob("*.py")):
        code = ast.unparse(ast.parse(path.read_text()))
        assert not CLOCKS.search(code), path.name
