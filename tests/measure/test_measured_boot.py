"""Boot a unified kernel image under QEMU with a TPM, and compare its registers with ours.

`make boot` installs what that needs, and runs this.

Needs qemu-system-x86, swtpm, ovmf, systemd-boot-efi, binutils, busybox-static and, for Secure Boot,
sbsigntool (Debian's names), and a kernel with built-in TPM driver: REGALIA_BOOT_KERNEL, or the
newest readable /boot/vmlinuz-*. REGALIA_BOOT_STUB names another stub than the installed one.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from regalia.measure.images.pe import parse_pe
from regalia.measure.pcr import Bank
from regalia.measure.stub import inner_kernel_measured, stub_version
from regalia.measure.uki import Start, UkiBoot, measure_uki

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

STUB = Path(os.environ.get("REGALIA_BOOT_STUB", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# Debian's published key pair for tests: with these variables, Secure Boot is on and trusts it.
SECURE_OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
SECURE_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd")
SNAKEOIL = Path("/usr/share/ovmf/PkKek-1-snakeoil.key")
SNAKEOIL_PASSPHRASE = b"snakeoil"
BUSYBOX = Path("/bin/busybox")
PROGRAMS = ("qemu-system-x86_64", "swtpm", "objcopy")
PCRS = (4, 9, 11, 12, 13)
BOOT_SECONDS = 240  # without KVM: 10 s on an idle machine

INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t sysfs sysfs /sys
for bank in sha256 sha384; do for pcr in {" ".join(map(str, PCRS))}; do
echo "@@ $bank $pcr $(/bin/busybox cat /sys/class/tpm/tpm0/pcr-$bank/$pcr)"
done; done
/bin/busybox poweroff -f
"""


def kernel() -> Path:
    named = os.environ.get("REGALIA_BOOT_KERNEL")
    found = [Path(named)] if named else sorted(Path("/boot").glob("vmlinuz-*"), reverse=True)
    readable = [path for path in found if os.access(path, os.R_OK)]
    if not readable:
        pytest.skip("no kernel: `make boot` fetches one, REGALIA_BOOT_KERNEL names another")
    return readable[0]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that become sections."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [str(path) for path in (STUB, OVMF, OVMF_VARS, BUSYBOX) if not path.exists()]
    if missing:
        pytest.skip(f"absent: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("boot")
    shutil.copy(kernel(), folder / "linux")
    system = [
        ("bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes()),
        ("init", stat.S_IFREG | 0o755, INIT.encode()),
        *((name, stat.S_IFDIR | 0o755, b"") for name in ("dev", "sys")),
    ]
    # One byte more, so that it needs padding before others.
    (folder / "initrd").write_bytes(cpio([("bin", stat.S_IFDIR | 0o755, b""), *system]) + b"\0")
    (folder / "ucode").write_bytes(cpio([("microcode", stat.S_IFREG | 0o644, b"none")]))
    (folder / "cmdline").write_text("  console=ttyS0 panic=-1\trdinit=/init \n")
    (folder / "osrel").write_text("ID=regalia-test\n")
    (folder / "uname").write_text("6.1.0")
    (folder / "pcrsig").write_text('{"sha256":[]}')
    (folder / "pcrpkey").write_text("not a real key")
    (folder / "profile").write_text("ID=main\n")
    (folder / "hwids").write_bytes(bytes(16))
    return folder


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An archive of (name, mode, contents)."""
    out = b""
    for inode, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return out


def build(folder: Path, *names: str) -> Path:
    """Add sections to the stub, each at an address of its own behind the stub's."""
    image = folder / f"{'-'.join(names)}.efi"
    data = STUB.read_bytes()
    (header,) = struct.unpack_from("<I", data, 0x3C)
    (address,) = struct.unpack_from("<Q", data, header + 24 + 24)  # ImageBase
    address += 0x100000
    command = ["objcopy"]
    for name in names:
        command += ["--add-section", f".{name}={folder / name}"]
        command += ["--change-section-vma", f".{name}={address:#x}"]
        address += -(-(folder / name).stat().st_size // 0x1000) * 0x1000
    subprocess.run([*command, STUB, image], check=True)
    return image


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Path]:
    """A software TPM of this boot's own."""
    state, socket = tmp_path / "tpm", tmp_path / "tpm.sock"
    state.mkdir()
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}"),
            *("--ctrl", f"type=unixio,path={socket}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while not socket.exists():
            assert time.monotonic() < deadline, "swtpm does not start"
            time.sleep(0.05)
        yield socket
    finally:
        process.kill()
        process.wait()


def boot(
    folder: Path, tpm: Path, how: list[str], *, secure: bool = False
) -> dict[tuple[str, int], str]:
    """The registers that the booted machine reads from its TPM."""
    variables, serial = folder / "vars.fd", folder / "serial"
    shutil.copy(SECURE_VARS if secure else OVMF_VARS, variables)
    flash = "if=pflash,format=raw"
    machine = "q35,accel=tcg" + (",smm=on" if secure else "")
    if secure:
        how = [*how, "-global", "driver=cfi.pflash01,property=secure,value=on"]
    subprocess.run(
        [
            *("qemu-system-x86_64", "-machine", machine, "-cpu", "max", "-m", "512"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-drive", f"{flash},unit=0,readonly=on,file={SECURE_OVMF if secure else OVMF}"),
            *("-drive", f"{flash},unit=1,file={variables}"),
            *("-chardev", f"socket,id=tpm,path={tpm}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
            *("-device", "tpm-crb,tpmdev=tpm0", "-serial", f"file:{serial}", *how),
        ],
        check=True,
        timeout=BOOT_SECONDS,
    )
    text = serial.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r"@@ (sha\d+) (\d+) ([0-9A-F]+)", text)
    assert found, text[-2000:]
    return {(bank, int(pcr)): value.lower() for bank, pcr, value in found}


def disk(folder: Path, image: Path) -> list[str]:
    """A disk whose default boot file is the image."""
    place = folder / "esp" / "EFI" / "BOOT"
    place.mkdir(parents=True)
    shutil.copy(image, place / "BOOTX64.EFI")
    return [
        *("-drive", f"if=none,id=esp,format=raw,readonly=on,file=fat:{folder / 'esp'}"),
        *("-device", "virtio-blk-pci,drive=esp,bootindex=1"),
    ]


def compare(
    machine: dict[tuple[str, int], str], image: Path, start: Start, *, secure: bool
) -> None:
    parsed = parse_pe(image.read_bytes())
    version = stub_version(parsed)
    for bank in Bank:
        setup = UkiBoot(
            systemd=version,
            bank=bank,
            start=start,
            earlier=(),
            inner_kernel=inner_kernel_measured(version, secure_boot=secure),
            phases=(),
        )
        computed = measure_uki(parsed, setup).pcrs
        assert sorted(computed) == [4, 9, 11]
        for pcr, value in computed.items():
            assert machine[bank, pcr] == value.hex(), (bank, pcr)
        for untouched in (12, 13):
            assert set(machine[bank, untouched]) == {"0"}


PARTS = (
    ("osrel", "cmdline", "uname", "linux", "initrd"),
    ("pcrpkey", "initrd", "linux", "pcrsig", "cmdline"),
    ("linux", "ucode", "initrd", "cmdline", "osrel", "profile", "hwids"),
)


@pytest.mark.parametrize("start", list(Start))
@pytest.mark.parametrize("names", PARTS)
def test_the_machine_has_the_registers_that_were_computed(
    names: tuple[str, ...], start: Start, parts: Path, tpm: Path, tmp_path: Path
) -> None:
    image = build(parts, *names)
    how = ["-kernel", str(image)] if start is Start.QEMU_KERNEL else disk(tmp_path, image)
    compare(boot(tmp_path, tpm, how), image, start, secure=False)


def test_with_secure_boot(parts: Path, tpm: Path, tmp_path: Path) -> None:
    missing = [str(p) for p in (SECURE_OVMF, SECURE_VARS, SNAKEOIL) if not p.exists()]
    missing += [] if shutil.which("sbsign") else ["sbsign"]
    if missing:
        pytest.skip(f"absent: {', '.join(missing)}")
    key = load_pem_private_key(SNAKEOIL.read_bytes(), SNAKEOIL_PASSPHRASE)
    clear = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(clear)
    image = tmp_path / "signed.efi"
    subprocess.run(
        [
            *("sbsign", "--key", tmp_path / "key.pem", "--cert", SNAKEOIL.with_suffix(".pem")),
            *("--output", image, build(parts, *PARTS[0])),
        ],
        check=True,
        capture_output=True,
    )
    machine = boot(tmp_path, tpm, disk(tmp_path, image), secure=True)
    compare(machine, image, Start.BOOT_OPTION, secure=True)
