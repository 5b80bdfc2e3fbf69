"""The page on engines: settings are accepted, tables are the product's, the export is run."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from regalia.core.errors import UsageError
from regalia.engines.llama_cpp import build_engine as llama_cpp
from regalia.engines.llama_cpp.builder import Options as LlamaOptions
from regalia.engines.llama_cpp.codec import RUN_MAX
from regalia.engines.onnx import build_engine as onnx
from regalia.engines.onnx.builder import Options as OnnxOptions
from regalia.engines.onnx.graph import GRAPH_MAX, INLINE_MAX
from regalia.engines.transformers import build_engine as transformers
from regalia.runtime.openai.embeddings import NUMBERS_MAX
from regalia.runtime.openai.schema import INPUTS_MAX
from regalia_testing.models import FilesInMemory
from regalia_testing.pages import blocks_of, run_blocks
from tests.engines.onnx_models import minilm_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/engines.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs/reference/configuration-runtime.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENGINES = {"transformers": transformers, "llama.cpp": llama_cpp, "onnxruntime": onnx}
TRANSFORMERS = {"threads", "prefill_step", "context_max"}  # their table is in the reference
SECTIONS = [
    tomllib.loads(text)["engine"]
    for text in re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
]


def test_settings_are_accepted() -> None:
    assert [section["name"] for section in SECTIONS] == list(ENGINES)
    for section in SECTIONS:
        builder: Any = ENGINES[section["name"]]
        if section["name"] != "llama.cpp" or find_spec("llama_cpp"):
            builder.check(section["options"])
        assert set(section["options"]) <= {name for name, _ in rows(section["name"])} | TRANSFORMERS
        with pytest.raises(UsageError, match="no_such_option"):
            builder.check(section["options"] | {"no_such_option": 1})


def rows(heading: str) -> Iterator[tuple[str, str]]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            name, default, _ = (cell.strip() for cell in line.strip("|").split("|"))
            yield name.strip("`"), default


@pytest.mark.parametrize(
    ("heading", "options"), [("llama.cpp", LlamaOptions), ("onnxruntime", OnnxOptions)]
)
def test_tables_of_options_are_whole(heading: str, options: type[msgspec.Struct]) -> None:
    fields = {item.name: item.default for item in msgspec.structs.fields(options)}
    assert [name for name, _ in rows(heading)] == list(fields)
    for name, default in rows(heading):
        assert fields[name] is None or default == str(fields[name]), name


def test_engines_and_extras_are_announced() -> None:
    table = re.findall(r"^\| `([\w.]+)` \| .*'regalia\[([\w-]+)\]'", PAGE, re.MULTILINE)
    assert [name for name, _ in table] == list(ENGINES)
    for name, extra in table:
        assert extra in PROJECT["optional-dependencies"]
        assert name in PROJECT["entry-points"]["regalia.engines"]


def test_numbers_and_codes_are_those_of_the_code() -> None:
    for page in (PAGE, REFERENCE):
        assert f"{INPUTS_MAX}" in page
        assert f"{NUMBERS_MAX:,}" in page
    assert f"{RUN_MAX} characters" in PAGE
    assert f"above {INLINE_MAX // 1024} KiB" in PAGE
    assert f"at most {GRAPH_MAX >> 20} MiB" in PAGE
    codes = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE))
    assert len(named) == 3
    assert all(f"| `{name}` |" in codes for name in named)


def test_the_target_of_make_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "$ make engine-llama-cpp" in PAGE
    assert "\nengine-llama-cpp:\n" in makefile
    tests = re.search(r"LLAMA_CPP_TESTS := (.*?)\n\n", makefile.replace("\\\n", " "), re.DOTALL)
    assert tests is not None
    assert all((ROOT / path).is_file() for path in tests[1].split())
    needing = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if "llama_cpp" in path.name
    }
    assert needing <= set(tests[1].split()), "each test that needs the library is run there"


@pytest.mark.slow
def test_the_export_is_served(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the exporter needs it")
    pytest.importorskip("onnxruntime", reason="the engine runs on it")
    minilm_folder()
    run_blocks(tmp_path, blocks_of(PAGE))
    folder = tmp_path / "embedder"
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    engine = onnx(FilesInMemory(files), model_name="m", options=SECTIONS[2]["options"])
    cat, kitten, tax = (
        np.array(vector)
        for vector in engine.embed(tuple(map(engine.encode_text, ("a cat", "a kitten", "tax"))))
    )
    assert cat @ kitten > 0.6
    assert cat @ tax < 0.4
