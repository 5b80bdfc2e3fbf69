"""Fixtures that every test may use. Simulated platforms are made once: their RSA keys take time."""

from __future__ import annotations

import base64
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from regalia_testing.policy_scene import Scene
from regalia_testing.tees.nvidia.authority import DeviceKeys
from regalia_testing.tees.nvidia.bench import DeviceBench
from regalia_testing.tees.nvidia.simulator import SimulatedDevices
from regalia_testing.tees.snp.authority import AuthorityKeys
from regalia_testing.tees.snp.bench import SnpBench
from regalia_testing.tees.snp.simulator import SimulatedPlatform

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_DEFAULT_VECTORS = Path(__file__).parents[2] / "shared" / "vectors"


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
def authority_keys() -> AuthorityKeys:
    return AuthorityKeys.generate()


@pytest.fixture(scope="session")
def bench_of(
    authority_keys: AuthorityKeys, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], SnpBench]:
    made: dict[str, SnpBench] = {}

    def get(product: str) -> SnpBench:
        if product not in made:
            folder = tmp_path_factory.mktemp("snp") / product
            platform = SimulatedPlatform.create(folder, product, now=NOW, keys=authority_keys)
            made[product] = SnpBench(platform, NOW)
        return made[product]

    return get


@pytest.fixture(scope="session")
def bench(bench_of: Callable[[str], SnpBench]) -> SnpBench:
    return bench_of("Genoa")


@pytest.fixture(scope="session")
def device_keys() -> DeviceKeys:
    return DeviceKeys.generate()


@pytest.fixture(scope="session")
def device_bench(device_keys: DeviceKeys) -> DeviceBench:
    """Two GPUs and two switches of one machine."""
    return DeviceBench(SimulatedDevices.make(2, 2, now=NOW, keys=device_keys), NOW)


@pytest.fixture(scope="session")
def blackwell_bench(device_keys: DeviceKeys) -> DeviceBench:
    machine = SimulatedDevices.make(1, now=NOW, keys=device_keys, gpu_model="GB100")
    return DeviceBench(machine, NOW)


@pytest.fixture
def scene() -> Scene:
    return Scene()
