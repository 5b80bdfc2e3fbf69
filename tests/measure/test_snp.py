"""The launch digest of SEV-SNP: the library behind it, held to a second implementation."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regalia.core.errors import ParseError, UsageError
from regalia.measure.images.ovmf import parse_ovmf
from regalia_testing.tees.snp.ovmf_images import (
    HASH_TABLE_GPA,
    PAGE,
    SEV_SECTIONS,
    Firmware,
    ovmf_image,
)
from tests.measure import independent

pytest.importorskip("sevsnpmeasure", reason="needs the extra `measure`")
from regalia.tees.snp import measure as snp

if TYPE_CHECKING:
    from collections.abc import Callable

FIRMWARE = Firmware()
SIGNATURE = snp.vcpu_signature("EPYC-v4")
LAUNCH = snp.SnpLaunch(
    vcpus=2, vcpu_signature=SIGNATURE, guest_features=1, vmm=snp.Vmm.QEMU, direct_boot=None
)
BOOT = snp.DirectBoot(kernel=b"kernel" * 1000, initrd=b"initrd", cmdline="console=ttyS0")


def measure(firmware: Firmware = FIRMWARE, **change: object) -> str:
    return snp.snp_measurement(ovmf_image(firmware), replace(LAUNCH, **change)).hex()


def expected(firmware: Firmware = FIRMWARE, **change: object) -> str:
    values: dict[str, Any] = {
        "vcpus": 2,
        "signature": SIGNATURE,
        "features": 1,
        "reset_eip": firmware.reset_eip,
        "hashes": None,
    }
    return independent.snp(ovmf_image(firmware), firmware.sev, **values | change)


@pytest.mark.parametrize("vcpus", [1, 2, 3, 64])
def test_vcpus(vcpus: int) -> None:
    assert measure(vcpus=vcpus) == expected(vcpus=vcpus)


@pytest.mark.parametrize("features", [0x1, 0x21, 0x201])
def test_guest_features(features: int) -> None:
    assert measure(guest_features=features) == expected(features=features)


@pytest.mark.parametrize("name", ["EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"])
def test_vcpu_types(name: str) -> None:
    signature = snp.vcpu_signature(name)
    assert measure(vcpu_signature=signature) == expected(signature=signature)


def test_cpuid_numbers_give_the_same_signatures() -> None:
    assert snp.vcpu_signature_of(family=23, model=1, stepping=2) == SIGNATURE == 0x800F12
    milan = snp.vcpu_signature_of(family=25, model=1, stepping=1)
    assert milan == snp.vcpu_signature("EPYC-Milan") == 0xA00F11


@pytest.mark.parametrize("initrd", [b"initrd", b""])
@pytest.mark.parametrize("cmdline", ["console=ttyS0", ""])
def test_direct_boot(initrd: bytes, cmdline: str) -> None:
    boot = replace(BOOT, initrd=initrd, cmdline=cmdline)
    page = independent.kernel_hashes(BOOT.kernel, initrd, cmdline, offset=HASH_TABLE_GPA % PAGE)
    assert measure(direct_boot=boot) == expected(hashes=page)


def test_debian_ovmf(debian_ovmf: bytes) -> None:
    sections = parse_ovmf(debian_ovmf).sev_sections
    reset = parse_ovmf(debian_ovmf).reset_eip
    assert sections is not None
    assert reset is not None
    wanted = independent.snp(
        debian_ovmf,
        tuple((s.gpa, s.size, int(s.kind)) for s in sections),
        vcpus=4,
        signature=SIGNATURE,
        features=1,
        reset_eip=reset,
        hashes=None,
    )
    assert snp.snp_measurement(debian_ovmf, replace(LAUNCH, vcpus=4)).hex() == wanted
    with pytest.raises(ParseError, match="NO_KERNEL_HASHES"):
        snp.snp_measurement(debian_ovmf, replace(LAUNCH, direct_boot=BOOT))


def test_everything_counts() -> None:
    other = ovmf_image(replace(FIRMWARE, fill=b"\x5b"))
    values = [
        measure(),
        snp.snp_measurement(other, LAUNCH).hex(),
        measure(vcpus=1),
        measure(guest_features=0x21),
        measure(vcpu_signature=snp.vcpu_signature("EPYC-Milan")),
        measure(vmm=snp.Vmm.EC2),
        measure(vmm=snp.Vmm.GCE),
        measure(direct_boot=BOOT),
        measure(direct_boot=replace(BOOT, kernel=b"other")),
        measure(direct_boot=replace(BOOT, initrd=b"other")),
        measure(direct_boot=replace(BOOT, cmdline="other")),
        measure(replace(FIRMWARE, sev=tuple(reversed(SEV_SECTIONS)))),
        measure(replace(FIRMWARE, reset_eip=0x80B008)),
    ]
    assert len(set(values)) == len(values)


def without_hashes() -> Firmware:
    return replace(FIRMWARE, sev=tuple(s for s in SEV_SECTIONS if s[2] != 0x10))


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "no SEV metadata": (lambda: measure(replace(FIRMWARE, sev=())), "NO_SEV_METADATA"),
    "no reset block": (lambda: measure(replace(FIRMWARE, reset_eip=None)), "NO_SEV_METADATA"),
    "no hashes page": (
        lambda: measure(without_hashes(), direct_boot=BOOT),
        "NO_KERNEL_HASHES",
    ),
    "no hash table": (
        lambda: measure(replace(FIRMWARE, hash_table_gpa=None), direct_boot=BOOT),
        "NO_KERNEL_HASHES",
    ),
    "hash table elsewhere": (
        lambda: measure(replace(FIRMWARE, hash_table_gpa=0x810000), direct_boot=BOOT),
        "MALFORMED",
    ),
    "two hashes pages": (
        lambda: measure(
            replace(FIRMWARE, sev=(*SEV_SECTIONS, (0x900000, PAGE, 0x10))), direct_boot=BOOT
        ),
        "MALFORMED",
    ),
    "hash table at the end of its page": (
        lambda: measure(replace(FIRMWARE, hash_table_gpa=0x80FFF8), direct_boot=BOOT),
        "MALFORMED",
    ),
    "not firmware": (
        lambda: snp.snp_measurement(b"text", LAUNCH).hex(),
        "MALFORMED",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_firmware_refused(name: str) -> None:
    build, code = REFUSED[name]
    with pytest.raises(ParseError) as refusal:
        build()
    assert refusal.value.code.name == code


@pytest.mark.parametrize(
    "change",
    [
        {"vcpus": 0},
        {"vcpus": 1025},
        {"guest_features": 0},
        {"guest_features": 0x20},
        {"guest_features": 1 << 64 | 1},
        {"guest_features": -1},
        {"direct_boot": replace(BOOT, cmdline="a\0b")},
    ],
)
def test_impossible_launches(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="BAD_USAGE"):
        measure(**change)


@pytest.mark.parametrize("numbers", [(-1, 0, 0), (271, 0, 0), (25, 256, 0), (25, 1, 16)])
def test_impossible_cpus(numbers: tuple[int, int, int]) -> None:
    family, model, stepping = numbers
    with pytest.raises(UsageError, match="VCPU_TYPE_UNKNOWN"):
        snp.vcpu_signature_of(family=family, model=model, stepping=stepping)


def test_an_unknown_type_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"VCPU_TYPE_UNKNOWN.*EPYC-Genoa"):
        snp.vcpu_signature("Opteron")


def test_what_the_library_refuses_has_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (RuntimeError, AssertionError, KeyError, ValueError, AttributeError):

        def fail(*_: object, error: type[Exception] = error, **__: object) -> bytes:
            raise error("odd")

        monkeypatch.setattr("regalia.tees.snp.measure.guest.calc_launch_digest", fail)
        with pytest.raises(ParseError, match=f"MALFORMED.*{error.__name__}"):
            measure()


def test_no_descriptor_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        measure(direct_boot=BOOT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_answers_do_not_change_with_the_library() -> None:
    """For EC2 and GCE there is no second implementation here: an update must not pass unseen."""
    values = [measure(vmm=vmm, direct_boot=boot) for vmm in snp.Vmm for boot in (None, BOOT)]
    pinned = "fd1b75c8ff32629c2f73b9829b03366dce8a3b298391fc98f4d18e76898a5bc4"
    assert hashlib.sha256("".join(values).encode()).hexdigest() == pinned
