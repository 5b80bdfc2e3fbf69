"""The contracts of pyproject.toml hold, and each catches what it is named for.

Every row below plants one import into the graph of the code as it stands, where all contracts are
kept, and the named contract must then be broken by the planted module. The graph is built once;
one run of ``lint-imports`` over planted files shows that the command judges as this test does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest
from importlinter.api import read_configuration
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

if TYPE_CHECKING:
    from importlinter import Contract, ContractCheck

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")
TYPES = {
    "forbidden": ForbiddenContract,
    "independence": IndependenceContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}

# contract, the module that is planted, what it imports
LAYERS = [
    ("core", "crypto.aead"),
    ("core", "host.clock"),
    ("core", "wire.evidence"),
    ("crypto", "host.localfs"),
    ("host", "crypto.aead"),
    ("wire", "appraisal.claims"),
    ("appraisal", "seal.manifest"),
    ("measure", "appraisal.claims"),
    ("measure", "policy.evaluate"),
    ("seal", "store.local"),
    ("keys", "tlog.note"),
    ("store", "seal.manifest"),
    ("engines", "store.local"),
    ("tlog", "tees.snp.claims"),
    ("tlog", "control.planted_as_well"),
    ("control", "tlog.verify"),
    ("control", "keys.base"),
    ("control", "appraisal.claims"),
    ("control", "policy.documents"),
    ("appraisal", "tees.snp.claims"),
    ("tees.snp.evidence", "verifier.anchors"),
    ("verifier", "policy.documents"),
    ("policy", "inspect.recognize"),
    ("inspect", "verifier.anchors"),
    ("verifier", "appraise.planted_as_well"),
    ("appraise", "broker.service"),
    ("client", "broker.app"),
    ("broker", "runtime.service"),
    ("gateway", "runtime.service"),
    ("runtime", "cli.output"),
]
POLICY_SEES_NO_EVIDENCE = [
    ("policy", "tees.snp.evidence.verify"),
    ("policy", "tees.nvidia.evidence.wire"),
    ("policy", "verifier.verifier"),
    ("tees.snp.policy", "tees.snp.evidence.verify"),
    ("tees.azure.policy", "tees.snp.evidence.wire"),
    ("tees.snp.claims", "tees.snp.evidence.verify"),  # policies import the claims
    ("policy", "tees.snp.fetch"),  # which imports the report's layout
    ("tees.example.policy", "tees.example.evidence.planted_as_well"),
]
EVIDENCE_SEES_NO_POLICY = [
    ("verifier", "policy.evaluate"),
    ("verifier", "tees.nitro.policy.section"),
    ("tees.tpm.evidence", "policy.documents"),
    ("tees.tpm.evidence", "tees.tpm.policy.plugin"),
    ("tees.snp.claims", "tees.snp.policy.section"),
    ("tees.example.evidence", "tees.example.policy.planted_as_well"),
]
TEES = [
    ("tees.snp", "tees.nvidia.source"),
    ("tees.snp.evidence", "tees.nvidia.evidence.wire"),
    ("tees.snp.evidence", "tees.intel.evidence.wire"),
    ("tees.snp.evidence", "tees.boot.evidence.log"),
    ("tees.nitro.evidence", "tees.boot.evidence.log"),
    ("tees.nvidia.evidence", "tees.tpm.claims"),
    ("tees.azure.evidence", "tees.nitro.evidence.wire"),
    ("tees.azure", "tees.nvidia.claims"),
    ("tees.snp.evidence", "tees.azure.evidence.hcl"),
    ("tees.tpm.evidence", "tees.azure.evidence.guest"),
    ("tees.intel.policy", "tees.azure.policy.plugin"),
    ("tees.boot.evidence", "tees.tpm.evidence.quote"),
    ("tees.boot.policy", "tees.tpm.claims"),
    ("tees.boot.policy", "tees.intel.policy.plugin"),
    ("tees.boot.evidence", "tees.azure.evidence.hcl"),
    ("tees.example.evidence", "tees.snp.evidence.wire"),  # nobody has to list a new TEE
    ("tees.nvidia.policy", "tees.example.claims.planted_as_well"),
]
PURE_PACKAGES = (
    "core",
    "crypto",
    "wire",
    "appraisal",
    "tees",
    "tees.snp",
    "tees.snp.evidence",
    "tees.intel.policy",
    "tees.example.evidence",
    "verifier",
    "verifier.collateral",
    "policy",
    "inspect",
    "appraise",
    "measure",
    "control",
    "seal.format",
)
IO = (
    "host.clock",
    "host.config",
    "host.events",
    "host.fetch",
    "host.listen",
    "host.localfs",
    "host.plugins",
    "host.tsm",
    "asyncio",
    "http",
    "httpx",
    "multiprocessing",
    "select",
    "shutil",
    "socket",
    "socketserver",
    "sqlalchemy",
    "ssl",
    "starlette",
    "subprocess",
    "tempfile",
    "time",
    "urllib",
    "uvicorn",
)
PURE = [
    *((package, each) for package in PURE_PACKAGES for each in ("host.clock", "socket", "httpx")),
    *(("wire", each) for each in IO),
    # Passed before indirect imports counted.
    ("verifier", "host.listen"),
    ("tees.snp.evidence", "host.listen"),
    ("policy", "host.localfs"),
    ("wire", "host.events"),
    ("verifier", "host.plugins"),
    # Indirect: the layers allow each of these, and each leads to a file, a socket or a database.
    ("verifier", "seal.plan"),
    ("policy", "store.http"),
    ("tees.snp.evidence", "tlog.database"),
    ("inspect", "keys.devfile"),
    ("verifier", "tlog.source"),
    ("tees.intel.evidence", "urllib"),
    ("tees.snp", "urllib"),
]
HOST = [
    ("engines", "host.localfs"),
    ("tlog", "host.localfs"),
    ("keys", "host.listen"),
    ("verifier", "host.clock"),
    ("tees.snp", "host.tsm"),
    ("tees.tpm.evidence", "host.localfs"),
    ("gateway", "host.listen"),
]
IO_OF_TEES = [
    ("runtime", "tees.snp.source"),
    ("broker", "tees.nvidia.source"),
    ("cli", "tees.nitro.source"),
    ("verifier", "tees.snp.fetch"),
    ("broker", "tees.intel.fetch"),
    ("tees.snp.evidence", "tees.snp.source"),
    ("tees.tpm.evidence", "tees.tpm.device"),
    ("client", "tees.tpm.device"),
    ("cli", "tees.example.source.planted_as_well"),
]
STORE = [
    ("store", "crypto.aead"),
    ("store", "cryptography"),
    ("store", "keys.devfile"),
    ("store", "core.planted_cipher"),
    ("gateway", "crypto.kem"),
    ("gateway", "keys.base"),
]
KEYS = [
    ("runtime", "keys.devfile"),
    ("client", "keys.base"),
    ("seal", "keys.base"),
    ("gateway", "keys.base"),
    ("cli", "keys.devfile"),
    ("verifier", "keys.logged"),
]
DISTRIBUTIONS = [
    ("regalia.runtime", "regalia_testing.tsm"),
    ("regalia.cli", "regalia_testing.tsm"),
    ("regalia.host", "regalia_demo.deployment"),
    ("regalia.cli", "regalia_demo.command"),
    ("regalia_testing", "regalia_demo.deployment"),
]
EVIDENCE_PLUG_INS = [
    ("verifier", "tees.snp.evidence.verify"),
    ("verifier", "tees.snp.claims"),
    ("verifier", "tees.snp.policy.section"),
    ("verifier.collateral", "tees.intel.evidence.documents"),
    ("verifier", "tees.example.names.planted_as_well"),
]
POLICY_PLUG_INS = [
    ("policy", "tees.snp.policy.rules"),
    ("policy", "tees.snp.claims"),
    ("policy", "tees.nvidia.names"),
    ("policy", "tees.example.names.planted_as_well"),
]
PLANTED = {
    "distributions": DISTRIBUTIONS,
    "layers": LAYERS,
    "policy-sees-no-evidence": POLICY_SEES_NO_EVIDENCE,
    "evidence-sees-no-policy": EVIDENCE_SEES_NO_POLICY,
    "tees": TEES,
    "pure": PURE,
    "host": HOST,
    "io-of-tees": IO_OF_TEES,
    "evidence-plug-ins": EVIDENCE_PLUG_INS,
    "policy-plug-ins": POLICY_PLUG_INS,
    "store": STORE,
    "keys": KEYS,
}
ROWS = [(contract, *row) for contract, rows in PLANTED.items() for row in dict.fromkeys(rows)]
SOURCE = ROOT / "src" / "regalia"
# Packages that the contracts have a place for before they are written.
EXPECTED = {"appraise", "gateway"}
PACKAGES = {path.stem for path in SOURCE.iterdir()} | EXPECTED


def full(name: str) -> str:
    """A module's full name; rows leave out ``regalia``, and name other distributions' as is."""
    return f"regalia.{name}" if name.partition(".")[0] in PACKAGES else name


def contracts() -> dict[str, Contract]:
    read = read_configuration(str(ROOT / "pyproject.toml"))
    return {
        options["id"]: TYPES[options["type"]](options["name"], read["session_options"], options)
        for options in read["contracts_options"]
    }


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    options = read_configuration(str(ROOT / "pyproject.toml"))["session_options"]
    packages = options["root_packages"]
    for package in packages:  # of this tree, not of an installation elsewhere
        spec = find_spec(package)
        assert spec is not None
        assert Path(spec.origin or "").is_relative_to(ROOT)
    assert options["include_external_packages"] == "True"
    assert "exclude_type_checking_imports" not in options
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


def add_module(graph: grimp.ImportGraph, name: str) -> None:
    """With the packages above it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        graph.add_module(".".join(parts[:end]))


def judged(graph: grimp.ImportGraph, contract: str) -> ContractCheck:
    return contracts()[contract].check(deepcopy(graph), verbose=False)


def require_current(name: str, graph: grimp.ImportGraph) -> None:
    """A row that names what was renamed away would show nothing."""
    invented = {*EXPECTED, "example", "planted_as_well", "planted_cipher"} & set(name.split("."))
    assert invented or not name.startswith("regalia") or name in graph.modules, name


def test_every_contract_has_planted_violations() -> None:
    assert set(contracts()) == set(PLANTED)
    assert all(PLANTED.values())


@pytest.mark.parametrize("contract", sorted(PLANTED))
def test_the_house_as_it_stands_is_clean(graph: grimp.ImportGraph, contract: str) -> None:
    check = judged(graph, contract)
    assert check.kept, check.metadata


@pytest.mark.parametrize(("contract", "package", "imported"), ROWS)
def test_a_planted_violation_is_caught(
    graph: grimp.ImportGraph, contract: str, package: str, imported: str
) -> None:
    importer, target = full(package), full(imported)
    require_current(importer, graph)
    require_current(target, graph)
    if importer not in graph.modules or graph.find_children(importer):
        importer += ".planted"  # a package gets a new module, a module the import itself
    planted = deepcopy(graph)
    add_module(planted, importer)
    if target.startswith("regalia"):
        add_module(planted, target)
    planted.add_import(importer=importer, imported=target)
    if target == "regalia.core.planted_cipher":  # one step further away
        planted.add_import(importer=target, imported="cryptography")
    check = judged(planted, contract)
    assert not check.kept
    assert importer in str(check.metadata)


def test_a_package_without_a_place_is_caught(graph: grimp.ImportGraph) -> None:
    planted = deepcopy(graph)
    planted.add_module("regalia.utils")
    check = judged(planted, "layers")
    assert not check.kept
    assert "regalia.utils" in str(check.metadata)


def test_an_exception_that_nothing_uses_is_an_error(graph: grimp.ImportGraph) -> None:
    """Else an exception would outlive its reason."""
    planted = deepcopy(graph)
    planted.remove_import(importer="regalia.tees.intel.fetch", imported="urllib")
    with pytest.raises(Exception, match="No matches for ignored import"):
        judged(planted, "pure")


# Of every contract one violation, as a file.
FILES = {
    "distributions": ("regalia.runtime", "from regalia_testing import tsm"),
    "layers": ("regalia.client", "from regalia.broker import app"),
    "policy-sees-no-evidence": ("regalia.tees.snp.policy", "import regalia.tees.snp.evidence"),
    "evidence-sees-no-policy": ("regalia.tees.snp.evidence", "import regalia.tees.snp.policy"),
    "tees": ("regalia.tees.nitro", "from regalia.tees.nvidia.evidence import wire"),
    "pure": ("regalia.wire", "def later() -> None:\n    import socket"),
    "host": ("regalia.engines", "from regalia.host import localfs"),
    "io-of-tees": ("regalia.broker", "from regalia.tees.snp import source"),
    "store": ("regalia.store", "from cryptography import x509"),
    "evidence-plug-ins": ("regalia.verifier.collateral", "from regalia.tees.snp import claims"),
    "policy-plug-ins": ("regalia.policy", "from regalia.tees.snp import claims"),
    "keys": ("regalia.runtime.openai", "from regalia.keys import base"),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in (SOURCE, ROOT / "testing/regalia_testing", ROOT / "demo/regalia_demo"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(package, tmp_path / package.name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, str]:
    result = subprocess.run(
        [str(LINT), "--no-cache", "--config", str(folder / "pyproject.toml")],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


@pytest.mark.slow
def test_the_command_judges_as_this_test_does(copy: Path) -> None:
    status, said = lint(copy)
    assert status == 0, said
    for package, text in FILES.values():
        (copy / package.replace(".", "/") / "planted.py").write_text(f"{text}\n")
    status, said = lint(copy)
    assert status == 1
    named = {identity: re.escape(contract.name) for identity, contract in contracts().items()}
    assert set(named) == set(FILES)
    for identity, name in named.items():
        assert re.search(rf"^{name} BROKEN\b", said, re.MULTILINE), (identity, said)
    for package, _ in FILES.values():
        assert f"{package}.planted -> " in said
