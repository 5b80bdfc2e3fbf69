"""The index of the specification names every vector, and scripts give the same bytes again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import make_convention_vectors
import make_index_vectors
import make_message_vectors
import make_pkcs11_vectors
import make_proof_vectors
import make_statement_vectors
import make_store_vectors
import pytest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
INDEX = (ROOT / "docs" / "spec" / "README.md").read_text(encoding="utf-8")
SCRIPTS = (
    make_convention_vectors,
    make_index_vectors,
    make_message_vectors,
    make_pkcs11_vectors,
    make_proof_vectors,
    make_statement_vectors,
    make_store_vectors,
)


def rows() -> list[tuple[list[str], list[str], str]]:
    """Of the table of vectors: files, pages and what they prove."""
    table = INDEX[INDEX.index("## Vectors") :]
    out = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            files, pages, proves = cells
            out.append(
                (re.findall(r"`([^`]+)`", files), re.findall(r"\]\(([^)]+)\)", pages), proves)
            )
    return out


def test_every_file_stands_in_the_table() -> None:
    files = {str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*") if path.is_file()}
    named: set[str] = set()
    for patterns, pages, proves in rows():
        assert pages, patterns
        assert proves, patterns
        for pattern in patterns:
            found = {str(path.relative_to(VECTORS)) for path in VECTORS.glob(pattern)}
            assert found, f"{pattern} names nothing"
            assert not found & named, f"{pattern} names a file again"
            named |= found
    assert len(files) > 150
    assert named == files


def test_every_page_of_the_table_names_its_vectors() -> None:
    for patterns, pages, _ in rows():
        texts = [(ROOT / "docs" / "spec" / page.partition("#")[0]).read_text() for page in pages]
        for pattern in patterns:
            # A page may name the folder of what has one name for each defect.
            names = {Path(pattern).name, pattern}
            folder = Path(pattern).parts[0]
            names |= {f"{folder}/", f"vectors/{folder}`"} if "*" in pattern else set()
            assert any(name in text for name in names for text in texts), pattern


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_script_gives_the_same_bytes(script: object) -> None:
    path = Path(str(script.__file__))  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, str(path), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_changed_vector_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = make_convention_vectors.files()
    monkeypatch.setattr(sys, "argv", ["script"])
    assert make_convention_vectors.write_or_compare(tmp_path, files) == 0
    monkeypatch.setattr(sys, "argv", ["script", "--check"])
    assert make_convention_vectors.write_or_compare(tmp_path, files) == 0
    (tmp_path / "texts.json").write_bytes(files["texts.json"] + b" ")
    assert make_convention_vectors.write_or_compare(tmp_path, files) == 1
    (tmp_path / "texts.json").unlink()
    assert make_convention_vectors.write_or_compare(tmp_path, files) == 1
    assert capsys.readouterr().out.count("texts.json is not what this script writes") == 2
