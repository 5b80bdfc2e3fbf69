"""The pages say what the code does, and their commands run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regalia.measure.codes import MeasureCode
from regalia.measure.images import ovmf, pe
from regalia.measure.stub import MEASURED_SINCE, OLDEST
from regalia.measure.uki import PHASES
from regalia.tees.intel.measure import PageOrder
from regalia.tees.nitro import eif
from regalia_testing.pages import blocks_of, run_blocks
from regalia_testing.tees.boot.pe_images import Section, pe_image, uki_image
from regalia_testing.tees.nitro.eif_images import Image, eif_image, usual_sections
from regalia_testing.tees.snp.ovmf_images import Firmware, ovmf_image, tdvf_sections

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs" / "spec" / "measurements.md").read_text(encoding="utf-8")
HOWTO = (ROOT / "docs" / "howto" / "compute-reference-values.md").read_text(encoding="utf-8")


def test_the_spec_names_the_codes_and_the_numbers_of_the_code() -> None:
    for code in MeasureCode:
        if code is not MeasureCode.NOT_A_UKI:
            assert code.name in SPEC, code
    for guid in (
        *(ovmf.TABLE_FOOTER, ovmf.SEV_ES_RESET_BLOCK, ovmf.SEV_HASH_TABLE),
        *(ovmf.SEV_METADATA, ovmf.TDX_METADATA, ovmf.TDX_METADATA_HEADER),
    ):
        assert str(guid) in SPEC
    assert f"at most {ovmf.LIMIT >> 20} MiB" in SPEC
    assert f"at most {pe.LIMIT >> 30} GiB" in SPEC
    assert f"header of {eif.HEADER_SIZE} " in SPEC
    assert f"before {OLDEST}" in SPEC
    assert all(f"`{order}`" in SPEC for order in PageOrder)
    assert ", ".join(PHASES[:-1]) in SPEC


def test_the_spec_lists_the_sections_in_their_order() -> None:
    part = SPEC[SPEC.index("### 3.4") : SPEC.index("### 3.5")]
    listed = part[part.index("`.linux`") : part.index("Then H(word)")]
    found = re.findall(r"`(\.\w+)`(?: \((\d+)\))?", listed)
    sections = {name: int(since or OLDEST) for name, since in found}
    chosen_at_boot = {
        name: int(since) for name, since in re.findall(r"`(\.dtbauto|\.efifw)` \((\d+)\)", part)
    }
    assert sections | chosen_at_boot == MEASURED_SINCE
    order = [name for name in MEASURED_SINCE if name in sections]
    assert list(sections) == order


@pytest.mark.slow
def test_the_commands_of_the_howto_run(tmp_path: Path) -> None:
    pytest.importorskip("sevsnpmeasure", reason="needs the extra `measure`")
    kernel = pe_image((Section(name=".text", data=b"kernel"),))
    other = pe_image((Section(name=".text", data=b"other"),))
    for name, data in {
        "OVMF.fd": ovmf_image(Firmware(tdx=tdvf_sections(Firmware().size))),
        "vmlinuz": kernel,
        "initrd.img": b"initrd",
        "linux.efi": uki_image({".linux": kernel, ".cmdline": b"ro", ".initrd": b"initrd"}),
        "shimx64.efi": other,
        "systemd-bootx64.efi": other,
        "app.eif": eif_image(
            Image(sections=usual_sections(kernel=b"k", cmdline=b"c", ramdisks=(b"r", b"a")))
        ),
    }.items():
        (tmp_path / name).write_bytes(data)
    blocks = blocks_of(HOWTO)
    assert len(blocks) == 11
    done = run_blocks(tmp_path, blocks)
    values = re.findall(r"\b[0-9a-f]{64,96}\b", done.stdout)
    # 3 + 3 launches, 4 times 3 registers and their events, 3 registers, 2 orders.
    assert len(set(values)) > 20
