"""What each of the three distributions holds, and that `regalia` alone cannot simulate anything."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from configparser import ConfigParser
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = {
    "regalia": ROOT,
    "regalia-testing": ROOT / "testing",
    "regalia-demo": ROOT / "demo",
}
OURS = ("regalia", "_editable_impl_regalia", "__editable__")  # in site-packages, in a checkout
BUILD = (
    "import sys, hatchling.build as backend;"
    "print(getattr(backend, f'build_{sys.argv[1]}')(sys.argv[2]))"
)
ENTRY_POINTS: dict[str, dict[str, set[str]]] = {
    "regalia": {
        "console_scripts": {"regalia"},
        "regalia.device_sources": {"nvidia-gpu"},
        "regalia.engines": {"llama.cpp", "onnxruntime", "transformers", "vllm"},
        "regalia.evidence_sources": {"az-snp", "az-tdx", "nitro", "snp", "tdx", "tpm"},
        "regalia.key_stores": {"aws-kms", "dev-file", "openbao", "pkcs11"},
        "vllm.general_plugins": {"regalia"},
    },
    "regalia-testing": {
        "regalia.evidence_sources": {
            "simulated-az-snp",
            "simulated-az-tdx",
            "simulated-composite",
            "simulated-nitro",
            "simulated-sgx",
            "simulated-snp",
            "simulated-tdx",
        },
        "regalia.simulated_anchors": {"testing"},
    },
    "regalia-demo": {"regalia.commands": {"demo"}},
}


def build(project: str, kind: str, folder: Path) -> Path:
    """Build one distribution with the build backend that is installed; nothing is fetched."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(folder)],
        cwd=PROJECTS[project],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@dataclass(frozen=True)
class Wheel:
    path: Path

    def read(self, name: str) -> str:
        """A file of its dist-info folder; empty if it is not there."""
        with zipfile.ZipFile(self.path) as archive:
            found = [each for each in archive.namelist() if each.endswith(f".dist-info/{name}")]
            return archive.read(found[0]).decode() if found else ""

    def modules(self) -> set[str]:
        with zipfile.ZipFile(self.path) as archive:
            return {name for name in archive.namelist() if ".dist-info/" not in name}

    def metadata(self, field: str) -> list[str]:
        return Parser().parsestr(self.read("METADATA")).get_all(field) or []

    def entry_points(self) -> ConfigParser:
        found = ConfigParser()
        found.read_string(self.read("entry_points.txt"))
        return found


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wheel]:
    folder = tmp_path_factory.mktemp("wheels")
    return {project: Wheel(build(project, "wheel", folder)) for project in PROJECTS}


@pytest.mark.slow
def test_each_wheel_holds_one_package(wheels: dict[str, Wheel]) -> None:
    for project, wheel in wheels.items():
        package = project.replace("-", "_")
        modules = wheel.modules()
        assert {name.split("/")[0] for name in modules} == {package}
        assert f"{package}/__init__.py" in modules


@pytest.mark.slow
def test_no_simulator_is_in_the_product(wheels: dict[str, Wheel]) -> None:
    words = ("simulat", "testing", "demo")
    assert not [name for name in wheels["regalia"].modules() if any(w in name for w in words)]
    assert [name for name in wheels["regalia-testing"].modules() if "simulat" in name]


@pytest.mark.slow
def test_plug_ins_of_each_wheel(wheels: dict[str, Wheel]) -> None:
    for project, wheel in wheels.items():
        points = wheel.entry_points()
        assert {group: set(points[group]) for group in points.sections()} == ENTRY_POINTS[project]
        package = project.replace("-", "_")
        for group in points.sections():
            assert all(value.startswith(f"{package}.") for value in points[group].values())


@pytest.mark.slow
def test_the_three_are_released_together(wheels: dict[str, Wheel]) -> None:
    (version,) = {wheel.metadata("Version")[0] for wheel in wheels.values()}
    needed = {
        "regalia": set(),
        "regalia-testing": {f"regalia=={version}"},
        "regalia-demo": {
            f"regalia[transformers]=={version}",
            f"regalia-testing[models]=={version}",
        },
    }
    for project, wheel in wheels.items():
        plain = [line for line in wheel.metadata("Requires-Dist") if "extra ==" not in line]
        assert {line for line in plain if line.startswith("regalia")} == needed[project]


@pytest.mark.slow
@pytest.mark.parametrize("project", PROJECTS)
def test_a_wheel_from_the_sdist_is_the_same(
    project: str, wheels: dict[str, Wheel], tmp_path: Path
) -> None:
    sdist = build(project, "sdist", tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    if project == "regalia":
        assert not (unpacked / "testing").exists()
        assert not (unpacked / "demo").exists()
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "wheel", str(tmp_path)],
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = Wheel(tmp_path / done.stdout.split()[-1])
    assert again.modules() == wheels[project].modules()


@dataclass(frozen=True)
class Installation:
    """Some wheels beside what else this environment has, and nothing of the checkout."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path, *wheels: Wheel) -> Installation:
        third_party, ours = folder / "third-party", folder / "ours"
        third_party.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not path.name.startswith(OURS):
                (third_party / path.name).symlink_to(path)
        for wheel in wheels:
            shutil.unpack_archive(wheel.path, ours, "zip")
        return cls((ours, third_party))

    def python(self, program: str, *args: object) -> subprocess.CompletedProcess[str]:
        """Run it without site-packages (-S), where this checkout is installed."""
        return subprocess.run(
            [sys.executable, "-S", "-P", "-c", program, *map(str, args)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, self.folders))},
            cwd=self.folders[0],
            capture_output=True,
            text=True,
            check=False,
        )

    def regalia(self, *args: object) -> subprocess.CompletedProcess[str]:
        return self.python("from regalia.cli.main import main; main()", *args)


@pytest.fixture(scope="module")
def alone(wheels: dict[str, Wheel], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation.of(tmp_path_factory.mktemp("alone"), wheels["regalia"])


@pytest.fixture(scope="module")
def with_testing(
    wheels: dict[str, Wheel], tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    folder = tmp_path_factory.mktemp("with-testing")
    return Installation.of(folder, wheels["regalia"], wheels["regalia-testing"])


BROKER = """\
[state]
database = "sqlite:///state.db"
[log]
database = "sqlite:///log.db"
origin = "log.example"
key = "no-such-key"
[keys]
store = "dev-file:no-such-store"
[attest]
collateral = "no-such-collateral"
dangerous_simulated_anchor = "no-such-root.der"
[[models]]
manifest = "no-such-manifest"
policy = "no-such-policy"
owner_keys = ["no-such-key"]
"""
RUNTIME = """\
store = "no-such-store"
broker = "http://127.0.0.1:9"
measured_config = "no-such-config.json"
dangerous_simulated_tee = true
[evidence]
source = "simulated-snp"
"""
TRUST = ("--dangerous-simulated-anchor", "no-such-root.pem")
# Everything that these name is missing too, so whatever else is looked at first shows.
COMMANDS: dict[str, tuple[str, ...]] = {
    "attest verify": (
        *("attest", "verify", "no-such-evidence", "--policy", "no-such-policy"),
        *("--challenge", "any", "--now", "no-time", *TRUST),
    ),
    "policy pin": ("policy", "pin", "no-such-evidence", *TRUST),
    "policy explain": ("policy", "explain", "no-such-policy", *TRUST),
    "collateral fetch": ("collateral", "fetch", "no-such-evidence", *TRUST),
    "chat": ("chat", "--url", "http://127.0.0.1:9", "--policy", "no-such-policy", *TRUST),
    "broker check": ("broker", "check", "--config", "{folder}/broker.toml"),
    "broker serve": ("broker", "serve", "--config", "{folder}/broker.toml"),
    "serve": ("serve", "--config", "{folder}/runtime.toml"),
    "serve --evidence-only": (
        *("serve", "--config", "{folder}/runtime.toml", "--evidence-only", "{folder}/out.json"),
    ),
}


def command(name: str, folder: Path) -> list[str]:
    (folder / "broker.toml").write_text(BROKER)
    (folder / "runtime.toml").write_text(RUNTIME)
    return [word.format(folder=folder) for word in COMMANDS[name]]


@pytest.mark.slow
def test_the_product_alone_runs(alone: Installation) -> None:
    shown = alone.regalia("--help")
    assert shown.returncode == 0, shown.stderr
    assert "attest" in shown.stdout
    assert "demo" not in shown.stdout
    for package in ("regalia_testing", "regalia_demo"):
        missing = alone.python(f"import {package}")
        assert "ModuleNotFoundError" in missing.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_product_alone_refuses_simulation(
    name: str, alone: Installation, tmp_path: Path
) -> None:
    refused = alone.regalia(*command(name, tmp_path), "--json")
    assert "Traceback" not in refused.stderr
    assert refused.returncode == 2, refused.stderr
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "SIMULATION_NOT_INSTALLED"
    assert "regalia-testing" in error["what"]
    assert {path.name for path in tmp_path.iterdir()} == {"broker.toml", "runtime.toml"}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_with_regalia_testing_it_goes_on(
    name: str, with_testing: Installation, tmp_path: Path
) -> None:
    refused = with_testing.regalia(*command(name, tmp_path), "--json")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert json.loads(refused.stdout)["error"]["code"] != "SIMULATION_NOT_INSTALLED"


@pytest.mark.slow
def test_no_simulated_source_without_the_setting(alone: Installation, tmp_path: Path) -> None:
    config = tmp_path / "runtime.toml"
    config.write_text(RUNTIME.replace("dangerous_simulated_tee = true\n", ""))
    program = (
        "from regalia.runtime.attester import open_source;"
        "from regalia.runtime.config import load_config;"
        "from pathlib import Path; import sys;"
        "config = load_config(Path(sys.argv[1]));"
        "open_source(config.evidence, dangerous_simulated_tee=config.dangerous_simulated_tee)"
    )
    refused = alone.python(program, config)
    assert "PLUGIN_UNKNOWN" in refused.stderr
    assert "simulated-snp" in refused.stderr


def test_only_genuine_anchors_are_made_in_the_product() -> None:
    calls = [
        (path, node)
        for path in sorted((ROOT / "src").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "pinned"
    ]
    assert {path.parent.parent.name for path, _ in calls} == {"appraisal", "snp", "tpm"}
    for path, node in calls:
        assert ast.unparse(node.args[0]) == "Hardware.GENUINE", path
