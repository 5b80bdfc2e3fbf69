"""Fixtures that every test may use. Simulated platforms are made once."""

from __future__ import annotations

import base64
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from regalia_testing.policy_scenario import PolicyScenario
from regalia_testing.tees.nvidia.authority import NvidiaKeys
from regalia_testing.tees.nvidia.simulator import NvidiaSimulator
from regalia_testing.tees.nvidia.testbed import NvidiaTestbed
from regalia_testing.tees.snp.authority import SnpKeys
from regalia_testing.tees.snp.simulator import SnpSimulator
from regalia_testing.tees.snp.testbed import SnpTestbed
from tests.rsa_keys import RelatedRsaKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_DEFAULT_VECTORS = Path(__file__).parents[2] / "shared" / "vectors"


@pytest.fixture(scope="session", autouse=True)
def quick_rsa_keys() -> Iterator[None]:
    """Have keys made of few primes: fresh ones took most of the time of all tests.

    Keys of one process are distinct. Processes that tests start make fresh ones.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rsa, "generate_private_key", RelatedRsaKeys().generate)
        yield


@pytest.fixture(scope="session", autouse=True)
def bytecode_of_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let processes that tests start keep bytecode, where none may be written beside the sources.

    Otherwise each of them compiles the whole package, which takes longer than what it does.
    """
    with pytest.MonkeyPatch.context() as patch:
        if sys.dont_write_bytecode:
            folder = tmp_path_factory.getbasetemp().parent / "bytecode"
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            patch.setenv("PYTHONPYCACHEPREFIX", str(folder))
        yield


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Folder with real hardware evidence; it lies beside the project, not in it."""
    folder = Path(os.environ.get("REGALIA_VECTORS", _DEFAULT_VECTORS))
    if not (folder / "README.md").exists():
        pytest.skip("real hardware evidence is absent: set REGALIA_VECTORS to its folder")
    return folder


@pytest.fixture(scope="session")
def certificates() -> Callable[[Path], tuple[bytes, ...]]:
    """Reads certificates, DER or PEM, as the folders of real evidence hold them."""

    def read(path: Path) -> tuple[bytes, ...]:
        data = path.read_bytes()
        if path.suffix == ".der":
            return (data,)
        blocks = re.findall(rb"-----BEGIN CERTIFICATE-----(.+?)-----END", data, re.DOTALL)
        return tuple(base64.b64decode(block) for block in blocks)

    return read


@pytest.fixture(scope="session")
def authority_keys() -> SnpKeys:
    return SnpKeys.generate()


@pytest.fixture(scope="session")
def testbed_of(
    authority_keys: SnpKeys, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], SnpTestbed]:
    made: dict[str, SnpTestbed] = {}

    def get(product: str) -> SnpTestbed:
        if product not in made:
            folder = tmp_path_factory.mktemp("snp") / product
            platform = SnpSimulator.create(folder, product, now=NOW, keys=authority_keys)
            made[product] = SnpTestbed(platform, NOW)
        return made[product]

    return get


@pytest.fixture(scope="session")
def testbed(testbed_of: Callable[[str], SnpTestbed]) -> SnpTestbed:
    return testbed_of("Genoa")


@pytest.fixture(scope="session")
def device_keys() -> NvidiaKeys:
    return NvidiaKeys.generate()


@pytest.fixture(scope="session")
def device_testbed(device_keys: NvidiaKeys) -> NvidiaTestbed:
    """Two GPUs and two switches of one machine."""
    return NvidiaTestbed(NvidiaSimulator.make(2, 2, now=NOW, keys=device_keys), NOW)


@pytest.fixture(scope="session")
def blackwell_testbed(device_keys: NvidiaKeys) -> NvidiaTestbed:
    machine = NvidiaSimulator.make(1, now=NOW, keys=device_keys, gpu_model="GB100")
    return NvidiaTestbed(machine, NOW)


@pytest.fixture
def scenario() -> PolicyScenario:
    return PolicyScenario()
