"""A package that was not installed is no bug."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from regalia.core.errors import CoreCode, UsageError
from regalia.core.extras import EXTRAS, missing_extra
from regalia.host import plugins

# Distributions that are not installed here, because they take minutes to build.
ABSENT = {"llama_cpp": ["llama-cpp-python"]}
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_the_table_says_what_the_project_does() -> None:
    named = {
        extra: {re.match(r"[\w-]+", line)[0].lower() for line in lines}  # type: ignore[index]
        for extra, lines in PROJECT["optional-dependencies"].items()
        if extra != "dev"
    }
    installed = ABSENT | dict(packages_distributions())
    for module, extra in EXTRAS.items():
        distributions = {name.lower() for name in installed.get(module, [module])}
        assert distributions & named[extra], module
    assert set(EXTRAS.values()) == named.keys()
    # Every package of an extra has a module here, so that none is reported as a bug.
    modules = {name.lower() for module in EXTRAS for name in installed.get(module, [module])}
    assert set().union(*named.values()) <= modules


@pytest.mark.parametrize("module", ["torch", "torch.nn", "tpm2_pytss.utils"])
def test_a_missing_package_names_its_extra(module: str) -> None:
    refusal = missing_extra(ModuleNotFoundError("x", name=module))
    assert refusal is not None
    assert refusal.code == CoreCode.EXTRA_MISSING
    assert f"pip install 'regalia[{EXTRAS[module.partition('.')[0]]}]'" in refusal.what


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("x", name="regalia.gone"),
        ModuleNotFoundError("x", name="torchvision"),
        ModuleNotFoundError("x"),
        ImportError("broken", name="torch"),  # installed, and cannot be used
    ],
)
def test_other_failures_are_not_explained_away(error: ImportError) -> None:
    assert missing_extra(error) is None


def test_a_plugin_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("regalia.tees.tpm.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(UsageError) as refusal:
        plugins.load(plugins.EVIDENCE_SOURCES, "tpm")
    assert refusal.value.code == CoreCode.EXTRA_MISSING


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("tpm2_pytss", ["attest", "enroll", "request", "--out", "never.json"]),
        ("sevsnpmeasure", ["measure", "snp", __file__, "--vcpus", "1"]),
    ],
)
def test_a_command_whose_package_is_missing(module: str, command: list[str]) -> None:
    program = f"import sys; sys.modules[{module!r}] = None\nfrom regalia.cli.main import run\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}sys.exit(run({command!r}))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "[EXTRA_MISSING]" in done.stderr
    assert f"regalia[{EXTRAS[module]}]" in done.stderr
