"""Every simulated platform is kept in a folder, is plain about what it is, and is a plug-in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia.core.codec import canonical_json
from regalia.core.errors import LocalError, ParseError, UsageError
from regalia.wire.evidence import Tee
from regalia_testing.folder import MARKER
from regalia_testing.sources import (
    open_azure_snp,
    open_azure_tdx,
    open_nitro,
    open_sgx,
    open_snp,
    open_tdx,
)
from regalia_testing.tees.azure.simulator import AzureSimulator
from regalia_testing.tees.intel.authority import IntelKeys
from regalia_testing.tees.intel.simulator import IntelSimulator
from regalia_testing.tees.nitro.simulator import NitroSimulator
from regalia_testing.tees.snp.simulator import SnpSimulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.wire.evidence import EvidenceSource
    from regalia_testing.tees.snp.authority import SnpKeys

    Open = Callable[[dict[str, object]], EvidenceSource]

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Kind:
    """One kind of simulated platform.

    Attributes:
        create: makes one in a folder; only SNP's takes long, and takes keys that exist.
        open: reads one again.
        private: names of the files that nobody else may read.
        collateral: names of the files that verifiers are given.
        sources: its plug-ins.
        mistyped: defects of the wrong type, which the sources refuse.
        hardware: where in the folder the collateral's folder lies.
    """

    create: Callable[[Path, SnpKeys], object]
    open: Callable[[Path], object]
    private: frozenset[str]
    collateral: frozenset[str]
    sources: tuple[Open, ...]
    mistyped: tuple[dict[str, object], ...] = ({"debug": 1}, {"debug": "yes"})
    hardware: str = "."


def azure(tee: Tee) -> Callable[[Path, SnpKeys], object]:
    return lambda folder, keys: AzureSimulator.create(folder, tee, now=NOW, keys=keys)


SNP_COLLATERAL = frozenset({"ark.der", "ask.der", "asvk.der", "crl.der"})
INTEL_COLLATERAL = frozenset(
    {
        *("root.der", "chain.pem", "root.crl", "platform.crl", "processor.crl"),
        *("tcb-info-sgx.json", "tcb-info-tdx.json", "qe-identity.json", "td-qe-identity.json"),
    }
)
KINDS = {
    "snp": Kind(
        lambda folder, keys: SnpSimulator.create(folder, "Genoa", now=NOW, keys=keys),
        SnpSimulator.open,
        frozenset({"ark.key", "ask.key", "asvk.key", "chip.secret"}),
        SNP_COLLATERAL,
        (open_snp,),
        ({"debug": 1}, {"vmpl": True}, {"signing_key": "ark"}),
    ),
    "intel": Kind(
        lambda folder, _: IntelSimulator.create(folder, now=NOW),
        IntelSimulator.open,
        frozenset(f"{field.name}.key" for field in fields(IntelKeys)),
        INTEL_COLLATERAL,
        (open_tdx, open_sgx),
        ({"debug": 1}, {"debug": "yes"}, {"level": "Fine"}),
    ),
    "nitro": Kind(
        lambda folder, _: NitroSimulator.create(folder, clock=lambda: NOW),
        NitroSimulator.open,
        frozenset({"root.key", "regional.key", "zonal.key", "instance.key"}),
        frozenset({"root.der"}),
        (open_nitro,),
    ),
    "azure-snp": Kind(
        azure(Tee.AZURE_SNP),
        AzureSimulator.open,
        frozenset({"ak.key"}),
        SNP_COLLATERAL,
        (open_azure_snp,),
        ({"vmpl": "1"}, {"console_enabled": 1}),
        hardware="hardware",
    ),
    "azure-tdx": Kind(
        azure(Tee.AZURE_TDX),
        AzureSimulator.open,
        frozenset({"ak.key"}),
        INTEL_COLLATERAL,
        (open_azure_tdx,),
        ({"vmpl": "1"}, {"console_enabled": 1}),
        hardware="hardware",
    ),
}


@pytest.fixture(scope="session")
def kept(
    authority_keys: SnpKeys, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("kept") / kind
            KINDS[kind].create(made[kind], authority_keys)
        return made[kind]

    return get


@pytest.fixture
def copy(kept: Callable[[str], Path], kind: str, tmp_path: Path) -> Path:
    return shutil.copytree(kept(kind), tmp_path / "copy")


def private_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in {".key", ".secret"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_in_the_folder(kept: Callable[[str], Path], kind: str) -> None:
    folder = kept(kind)
    assert "protected from nobody" in (folder / MARKER).read_text()
    assert folder.stat().st_mode & 0o077 == 0
    assert {path.name for path in private_files(folder)} == KINDS[kind].private
    for path in private_files(folder):
        assert path.stat().st_mode & 0o777 == 0o600
    given = folder / KINDS[kind].hardware / "collateral"
    assert {path.name for path in given.iterdir()} == KINDS[kind].collateral


@pytest.mark.parametrize("kind", KINDS)
def test_no_folder_is_overwritten(
    kept: Callable[[str], Path], authority_keys: SnpKeys, kind: str, tmp_path: Path
) -> None:
    with pytest.raises(LocalError) as refusal:
        KINDS[kind].create(kept(kind), authority_keys)
    assert refusal.value.code.name == "FILE_EXISTS"
    with pytest.raises(LocalError):
        KINDS[kind].open(tmp_path / "absent")


PRIVATE = [(kind, name) for kind in KINDS for name in sorted(KINDS[kind].private)]


@pytest.mark.parametrize(("kind", "name"), [*((kind, "platform.json") for kind in KINDS), *PRIVATE])
def test_a_damaged_folder(copy: Path, kind: str, name: str) -> None:
    """Whatever it is that opening reads."""
    whole = (copy / name).read_bytes()
    for data in (b"", b"{}", b"not a key", whole[:-1]):
        (copy / name).write_bytes(data)
        with pytest.raises(ParseError):
            KINDS[kind].open(copy)


@pytest.mark.parametrize(("kind", "name"), PRIVATE)
def test_a_key_that_others_may_read(copy: Path, kind: str, name: str) -> None:
    (copy / name).chmod(0o644)
    with pytest.raises(LocalError) as refusal:
        KINDS[kind].open(copy)
    assert refusal.value.code.name == "INSECURE_MODE"


def unusable(kind: str, folder: str) -> list[dict[str, object]]:
    wrong: list[object] = [[], ["debug"], {"no_such": True}, *KINDS[kind].mistyped]
    return [
        {},
        {"platform": ""},
        {"platform": 5},
        {"platform": folder, "unknown": 1},
        *({"platform": folder, "defects": defects} for defects in wrong),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_unusable_options(kept: Callable[[str], Path], kind: str) -> None:
    folder = str(kept(kind))
    for open_source in KINDS[kind].sources:
        assert open_source({"platform": folder}).simulated
        for options in unusable(kind, folder):
            with pytest.raises(UsageError) as refusal:
                open_source(options)
            assert refusal.value.code.name == "BAD_CONFIG", canonical_json(options)
        with pytest.raises(LocalError):
            open_source({"platform": folder + "/nowhere"})
