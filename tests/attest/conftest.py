"""Simulated platforms for every test here; their RSA keys are made once."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia.testing.nvidia import SimulatedDevices
from regalia.testing.nvidia_authority import DeviceKeys
from regalia.testing.nvidia_bench import DeviceBench
from regalia.testing.snp import SimulatedPlatform
from regalia.testing.snp_authority import AuthorityKeys
from regalia.testing.snp_bench import SnpBench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


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
