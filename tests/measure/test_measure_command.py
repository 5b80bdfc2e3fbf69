"""``regalia measure`` as people and programs use it."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from regalia.cli.main import run
from regalia.measure.images.ovmf import parse_ovmf
from regalia.tees.intel.measure import PageOrder, tdx_mrtd
from regalia.tees.nitro.eif import parse_eif
from regalia.tees.nitro.measure import measure_eif
from regalia_testing.tees.boot.pe_images import Section, pe_image, uki_image
from regalia_testing.tees.nitro.eif_images import Image, eif_image, usual_sections
from regalia_testing.tees.snp.ovmf_images import Firmware, ovmf_image, tdvf_sections

if TYPE_CHECKING:
    from pathlib import Path

FIRMWARE = ovmf_image(Firmware(tdx=tdvf_sections(Firmware().size)))
ENCLAVE = eif_image(
    Image(sections=usual_sections(kernel=b"k", cmdline=b"c", ramdisks=(b"r", b"app")))
)
KERNEL = pe_image((Section(name=".text", data=b"kernel"),))
PARTS = {".linux": KERNEL, ".cmdline": b"quiet", ".initrd": b"initrd", ".uname": b"6.1"}
SHIM = pe_image((Section(name=".text", data=b"shim"),))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, data in {
        "OVMF.fd": FIRMWARE,
        "plain.fd": ovmf_image(Firmware(sev=())),
        "app.eif": ENCLAVE,
        "uki.efi": uki_image(PARTS),
        "uki258.efi": uki_image(PARTS, systemd="258"),
        "old.efi": uki_image(PARTS, systemd=""),
        "open.efi": uki_image({".linux": KERNEL}),
        "shim.efi": SHIM,
        "vmlinuz": KERNEL,
        "initrd": b"initrd",
        "text": b"not a firmware, not an image",
        "empty": b"",
    }.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    assert run(["measure", *args, "--json"]) == 0, capsys.readouterr()
    captured = capsys.readouterr()
    assert captured.err == ""
    body: dict[str, object] = json.loads(captured.out)
    assert body.pop("ok") is True
    return body


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert run(["measure", *args]) == 0, capsys.readouterr()
    captured = capsys.readouterr()
    return captured.out + captured.err


SNP = ("snp", "OVMF.fd", "--vcpus", "2")
EPYC = ("--vcpu-type", "EPYC-v4")


@pytest.mark.usefixtures("folder")
def test_snp(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sevsnpmeasure", reason="needs the extra `measure`")
    body = answer(capsys, *SNP, *EPYC)
    assert body.keys() == {
        "measurement",
        "vcpus",
        "vcpu_signature",
        "guest_features",
        "vmm",
        "direct_boot",
    }
    assert re.fullmatch("[0-9a-f]{96}", str(body["measurement"]))
    text = shown(capsys, *SNP, *EPYC)
    assert str(body["measurement"]) in text
    assert "--kernel" in text
    assert answer(capsys, *SNP, "--vcpu-cpuid", "23,1,2") == body
    boot = ("--kernel", "vmlinuz", "--initrd", "initrd", "--cmdline", "quiet")
    values = {str(body["measurement"])}
    for extra in (boot, boot[:2], boot[:4], ("--guest-features", "0x21")):
        values.add(str(answer(capsys, *SNP, *EPYC, *extra)["measurement"]))
    values.update(str(answer(capsys, *SNP, "--vmm", v)["measurement"]) for v in ("ec2", "gce"))
    assert len(values) == 7
    assert "command line" in shown(capsys, *SNP, *EPYC, *boot)


@pytest.mark.usefixtures("folder")
def test_snp_without_the_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith(
            ("sevsnpmeasure", "regalia.tees.snp.measure", "regalia.cli.measure.snp")
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sevsnpmeasure", None)
    assert run(["measure", *SNP, *EPYC]) == 2
    said = capsys.readouterr().err
    assert "EXTRA_MISSING" in said
    assert "regalia[measure]" in said


OFF = ("--secure-boot", "off")


@pytest.mark.usefixtures("folder")
def test_uki(capsys: pytest.CaptureFixture[str]) -> None:
    body = answer(capsys, "uki", "uki.efi", *OFF)
    assert (body["bank"], body["systemd"], body["phases"]) == ("sha256", 252, [])
    pcrs = body["pcrs"]
    assert isinstance(pcrs, dict)
    assert sorted(pcrs) == ["11", "4", "9"]
    assert body["notes"] == ["systemd 252 does not measure .uname into PCR 11."]
    events = body["events"]
    assert isinstance(events, list)
    assert len(events) == 4 + 2 + 6
    assert events[0].keys() == {"pcr", "digest", "what"}
    text = shown(capsys, "uki", "uki.efi", *OFF)
    assert all(value in text for value in pcrs.values())
    assert events[0]["digest"] not in text
    assert events[0]["digest"] in shown(capsys, "uki", "uki.efi", *OFF, "--events")
    assert ".uname" in text


@pytest.mark.usefixtures("folder")
def test_uki_options_change_the_registers_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    def pcrs(*args: str) -> dict[str, str]:
        default = () if "--secure-boot" in args else OFF
        found = answer(capsys, "uki", *args, *default)["pcrs"]
        assert isinstance(found, dict)
        return found

    plain = pcrs("uki.efi")
    for args, changed in {
        ("--phases", "enter-initrd:leave-initrd"): {"11"},
        ("--start", "qemu-kernel"): {"4"},
        ("--earlier", "shim.efi"): {"4"},
        ("--earlier", "shim.efi", "--earlier", "shim.efi"): {"4"},
        ("--inner-kernel", "unmeasured"): {"4"},
        ("--inner-kernel", "measured"): set(),
        ("--secure-boot", "on"): {"4"},
        ("--systemd", "254"): {"11"},
        ("--bank", "sha384"): {"4", "9", "11"},
    }.items():
        other = pcrs("uki.efi", *args)
        assert {pcr for pcr, value in plain.items() if other[pcr] != value} == changed, args
    assert len(pcrs("uki.efi", "--bank", "sha384")["4"]) == 96
    assert "9" not in pcrs("open.efi")
    assert pcrs("old.efi", "--systemd", "252")["9"] == plain["9"]
    unmeasured = pcrs("uki258.efi", "--inner-kernel", "unmeasured")
    assert pcrs("uki258.efi") == pcrs("uki258.efi", "--secure-boot", "on") == unmeasured
    assert pcrs("uki258.efi", "--inner-kernel", "measured")["4"] != unmeasured["4"]


@pytest.mark.usefixtures("folder")
def test_a_new_stub_needs_no_word_about_secure_boot(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "uki", "uki258.efi") == answer(capsys, "uki", "uki258.efi", *OFF)


@pytest.mark.usefixtures("folder")
def test_eif(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {str(n): v.hex() for n, v in measure_eif(parse_eif(ENCLAVE)).pcrs.items()}
    assert answer(capsys, "eif", "app.eif") == {"pcrs": wanted}
    text = shown(capsys, "eif", "app.eif")
    assert all(value in text for value in wanted.values())
    assert "not signed" in text


@pytest.mark.usefixtures("folder")
def test_tdvf(capsys: pytest.CaptureFixture[str]) -> None:
    image = parse_ovmf(FIRMWARE)
    for order in (order.value for order in PageOrder):
        mrtd = tdx_mrtd(image, PageOrder(order)).hex()
        assert answer(capsys, "tdvf", "OVMF.fd", "--order", order) == {
            "mrtd": mrtd,
            "order": order,
        }
        assert mrtd in shown(capsys, "tdvf", "OVMF.fd", "--order", order)
    assert answer(capsys, "tdvf", "OVMF.fd")["order"] == "interleaved"


REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "snp, nothing there": (("snp", "none", "--vcpus", "1", *EPYC), 9, "FILE_MISSING"),
    "snp, not firmware": (("snp", "text", "--vcpus", "1", *EPYC), 3, "WRONG_FILE"),
    "snp, empty": (("snp", "empty", "--vcpus", "1", *EPYC), 3, "MALFORMED"),
    "snp, no metadata": (("snp", "plain.fd", "--vcpus", "1", *EPYC), 3, "NO_SEV_METADATA"),
    "snp, no CPU": (SNP, 2, "BAD_USAGE"),
    "snp, two CPUs": ((*SNP, *EPYC, "--vcpu-cpuid", "23,1,2"), 2, "BAD_USAGE"),
    "snp, unknown CPU": ((*SNP, "--vcpu-type", "i486"), 2, "VCPU_TYPE_UNKNOWN"),
    "snp, two numbers": ((*SNP, "--vcpu-cpuid", "23,1"), 2, "BAD_USAGE"),
    "snp, odd numbers": ((*SNP, "--vcpu-cpuid", "23,1,²"), 2, "BAD_USAGE"),
    "snp, large numbers": ((*SNP, "--vcpu-cpuid", "23,1,99"), 2, "VCPU_TYPE_UNKNOWN"),
    "snp, features not hex": ((*SNP, *EPYC, "--guest-features", "x"), 2, "BAD_USAGE"),
    "snp, features without SNP": ((*SNP, *EPYC, "--guest-features", "20"), 2, "BAD_USAGE"),
    "snp, initrd alone": ((*SNP, *EPYC, "--initrd", "initrd"), 2, "BAD_USAGE"),
    "snp, command line alone": ((*SNP, *EPYC, "--cmdline", "x"), 2, "BAD_USAGE"),
    "snp, no kernel there": ((*SNP, *EPYC, "--kernel", "none"), 9, "FILE_MISSING"),
    "uki, nothing there": (("uki", "none"), 9, "FILE_MISSING"),
    "uki, a folder": (("uki", "."), 9, "IO_FAILED"),
    "uki, not PE": (("uki", "text"), 3, "WRONG_FILE"),
    "uki, only a kernel": (("uki", "vmlinuz"), 3, "STUB_VERSION_UNKNOWN"),
    "uki, only a kernel, with a version": (
        ("uki", "vmlinuz", "--systemd", "252", *OFF),
        3,
        "NOT_A_UKI",
    ),
    "uki, unknown stub": (("uki", "old.efi"), 3, "STUB_VERSION_UNKNOWN"),
    "uki, ancient stub": (("uki", "uki.efi", "--systemd", "249", *OFF), 2, "STUB_VERSION_UNKNOWN"),
    "uki, Secure Boot not said": (("uki", "uki.efi"), 2, "BAD_USAGE"),
    "uki, odd phases": (("uki", "uki.efi", "--phases", "a::b", *OFF), 2, "BAD_USAGE"),
    "uki, earlier is not PE": (("uki", "uki.efi", "--earlier", "text", *OFF), 3, "WRONG_FILE"),
    "uki, earlier is not there": (("uki", "uki.efi", "--earlier", "none", *OFF), 9, "FILE_MISSING"),
    "eif, nothing there": (("eif", "none"), 9, "FILE_MISSING"),
    "eif, not EIF": (("eif", "text"), 3, "WRONG_FILE"),
    "eif, empty": (("eif", "empty"), 3, "MALFORMED"),
    "tdvf, nothing there": (("tdvf", "none"), 9, "FILE_MISSING"),
    "tdvf, not firmware": (("tdvf", "text"), 3, "WRONG_FILE"),
    "tdvf, no metadata": (("tdvf", "plain.fd"), 3, "NO_TDX_METADATA"),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_code(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    args, status, code = REFUSED[name]
    if args[0] == "snp":
        pytest.importorskip("sevsnpmeasure", reason="needs the extra `measure`")
    assert run(["measure", *args, "--json"]) == status, capsys.readouterr()
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    assert run(["measure", *args]) == status
    captured = capsys.readouterr()
    assert code in captured.err
    assert "What to do" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "args",
    [
        ("snp", "OVMF.fd", *EPYC),
        ("snp", "OVMF.fd", "--vcpus", "0", *EPYC),
        ("snp", "OVMF.fd", "--vcpus", "1", "--vmm", "xen"),
        ("uki", "uki.efi", "--bank", "sha1"),
        ("uki", "uki.efi", "--start", "grub"),
        ("tdvf", "OVMF.fd", "--order", "random"),
        ("pcr",),
        ("eif",),
    ],
)
def test_usage(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["measure", *args]) == 2
    assert "Usage" in capsys.readouterr().err
