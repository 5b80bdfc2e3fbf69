"""PCR 4, 9 and 11 of unified kernel images.

The digests of the recorded machine are events that its firmware, stub and kernel logged: QEMU
7.2.22, swtpm, OVMF 2022.11-6 (Debian), systemd-stub 252.39, Linux 6.1.192.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.errors import ParseError, UsageError
from regalia.measure.images.pe import parse_pe
from regalia.measure.pcr import Bank, PcrEvent, replay
from regalia.measure.stub import (
    MEASURED_SINCE,
    archive,
    inner_kernel_measured,
    kernel_initrd,
    load_options,
    stub_version,
    uki_sections,
)
from regalia.measure.uki import PHASES, Start, UkiBoot, measure_uki
from regalia_testing.tees.boot.pe_images import Section, pe_image, uki_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.measure.uki import UkiMeasurement

KERNEL = pe_image((Section(name=".text", data=b"kernel" * 99),), certificates=b"signature")
PARTS: Mapping[str, bytes] = {
    ".osrel": b"ID=test\n",
    ".cmdline": b"quiet ro",
    ".linux": KERNEL,
    ".initrd": b"initrd contents!",
}
BOOT = UkiBoot(
    systemd=252, bank=Bank.SHA256, start=Start.BOOT_OPTION, earlier=(), inner_kernel=True, phases=()
)
RECORDED_PCR4 = (
    "3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba",  # action
    "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119",  # separator
)
RECORDED_NAMES = {
    ".linux": "0da293e37ad5511c59be47993769aacb91b243f7d010288e118dc90e95aaef5a",
    ".osrel": "3fb9e4e3cc810d43",
    ".cmdline": "461203a89f23e36c",
    ".initrd": "15ee37e75f1e8d42",
    ".pcrpkey": "92b1351f7279fc88",
}


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def chain(*digests: bytes) -> bytes:
    """The register after these extensions, written out."""
    value = bytes(32)
    for digest in digests:
        value = sha256(value + digest)
    return value


def image_digest(data: bytes) -> bytes:
    return sha256(b"".join(parse_pe(data).authenticode_parts()))


def measured(parts: Mapping[str, bytes] = PARTS, **change: object) -> UkiMeasurement:
    return measure_uki(parse_pe(uki_image(parts)), replace(BOOT, **change))


def test_registers_written_out() -> None:
    pcrs = measured().pcrs
    action, separator = (bytes.fromhex(digest) for digest in RECORDED_PCR4)
    assert pcrs[4] == chain(action, separator, image_digest(uki_image(PARTS)), image_digest(KERNEL))
    assert pcrs[9] == chain(sha256("quiet ro\0".encode("utf-16-le")), sha256(PARTS[".initrd"]))
    order = (".linux", ".osrel", ".cmdline", ".initrd")
    assert pcrs[11] == chain(
        *itertools.chain.from_iterable(
            (sha256(name.encode() + b"\0"), sha256(PARTS[name])) for name in order
        )
    )
    assert sorted(pcrs) == [4, 9, 11]


def test_events_of_the_recorded_machine() -> None:
    parts = {**PARTS, ".cmdline": b"console=ttyS0 panic=-1 rdinit=/init\n", ".pcrpkey": b"key"}
    events = measured(parts).events
    digests = {(event.pcr, event.what): event.digest.hex() for event in events}
    assert tuple(e.digest.hex() for e in events if e.pcr == 4)[:2] == RECORDED_PCR4
    for name, digest in RECORDED_NAMES.items():
        assert digests[11, f"name of {name}"].startswith(digest)
    command_line = digests[9, "command line (LOADED_IMAGE::LoadOptions)"]
    assert command_line == "2b2bef43aa2a8a2259c2988613f2fc856dd46382603de6084d00df5127e15c33"
    section = digests[11, "contents of .cmdline"]
    assert section == "dae1791c47391904696beef6f01fe29c272f8e66e2abf71f517d7b290365aac0"


def test_an_image_given_to_qemu_is_measured_before_the_firmware_is_ready() -> None:
    action, separator = (bytes.fromhex(digest) for digest in RECORDED_PCR4)
    pcr4 = measured(start=Start.QEMU_KERNEL).pcrs[4]
    assert pcr4 == chain(image_digest(uki_image(PARTS)), action, separator, image_digest(KERNEL))


def test_what_runs_earlier_comes_first() -> None:
    shim, loader = (pe_image((Section(name=".text", data=d),)) for d in (b"shim", b"loader"))
    action, separator = (bytes.fromhex(digest) for digest in RECORDED_PCR4)
    for earlier in ((shim, loader), (loader, shim)):
        images = tuple(parse_pe(image) for image in earlier)
        pcrs = measured(earlier=images).pcrs
        wanted = [image_digest(i) for i in (*earlier, uki_image(PARTS), KERNEL)]
        assert pcrs[4] == chain(action, separator, *wanted)
        moved = measured(earlier=images, start=Start.QEMU_KERNEL).pcrs
        assert moved[4] == chain(wanted[0], action, separator, *wanted[1:])
        assert (pcrs[9], pcrs[11]) == (measured().pcrs[9], measured().pcrs[11])


def test_a_kernel_that_the_firmware_does_not_see() -> None:
    action, separator = (bytes.fromhex(digest) for digest in RECORDED_PCR4)
    pcrs = measured(inner_kernel=False).pcrs
    assert pcrs[4] == chain(action, separator, image_digest(uki_image(PARTS)))


@pytest.mark.parametrize(
    ("version", "secure_boot", "measured_too"),
    [
        (252, False, True),
        (252, True, False),
        (257, False, True),
        (257, True, False),
        (258, False, False),
        (258, True, False),
    ],
)
def test_when_the_firmware_sees_the_kernel(
    version: int, *, secure_boot: bool, measured_too: bool
) -> None:
    assert inner_kernel_measured(version, secure_boot=secure_boot) == measured_too


def test_phases_extend_pcr_11() -> None:
    value = measured().pcrs[11]
    for count in range(1, len(PHASES) + 1):
        value = sha256(value + sha256(PHASES[count - 1].encode()))
        assert measured(phases=PHASES[:count]).pcrs[11] == value


def test_the_other_bank() -> None:
    pcrs = measured(bank=Bank.SHA384).pcrs
    options = hashlib.sha384("quiet ro\0".encode("utf-16-le")).digest()
    initrd = hashlib.sha384(PARTS[".initrd"]).digest()
    first = hashlib.sha384(bytes(48) + options).digest()
    assert pcrs[9] == hashlib.sha384(first + initrd).digest()


@given(st.permutations(list(PARTS)))
def test_pcr_11_does_not_depend_on_the_order_of_the_section_table(order: list[str]) -> None:
    pcrs = measured({name: PARTS[name] for name in order}).pcrs
    assert (pcrs[9], pcrs[11]) == (measured().pcrs[9], measured().pcrs[11])


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_in_the_registers(name: str) -> None:
    other = KERNEL[:-1] + b"\0" if name == ".linux" else PARTS[name] + b"x"
    changed = measured({**PARTS, name: other}).pcrs
    same = {pcr for pcr, value in measured().pcrs.items() if changed[pcr] == value}
    # The kernel's signature is in the image, so in PCR 4 and 11, if not in its own hash.
    assert same == (set() if name in (".cmdline", ".initrd") else {9})


@pytest.mark.parametrize(
    ("version", "names"),
    [
        (252, ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey"),
        (253, ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey"),
        (254, ".linux .osrel .cmdline .initrd .splash .dtb .uname .sbat .pcrpkey"),
        (256, ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey"),
        (
            257,
            (
                ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey"
                " .profile .hwids"
            ),
        ),
    ],
)
def test_versions_measure_different_sections(version: int, names: str) -> None:
    everything = {name: name.encode() for name in MEASURED_SINCE} | PARTS | {".pcrsig": b"{}"}
    for chosen_at_boot in (".dtbauto", ".efifw"):
        everything.pop(chosen_at_boot)
    result = measured(dict(reversed(everything.items())), systemd=version)
    found = [e.what.removeprefix("name of ") for e in result.events if e.what.startswith("name")]
    assert found == names.split()
    ignored = sorted(set(everything) - set(names.split()) - {".pcrsig"})
    assert bool(ignored) == bool(result.notes)
    assert all(name in result.notes[0] for name in ignored)


def test_empty_sections_are_not_measured() -> None:
    result = measured({**PARTS, ".splash": b""})
    assert not any(".splash" in event.what for event in result.events)


def test_without_a_command_line_pcr_9_is_unknown() -> None:
    result = measured({name: data for name, data in PARTS.items() if name != ".cmdline"})
    assert sorted(result.pcrs) == [4, 11]
    assert "PCR 9" in result.notes[0]


def test_without_an_initrd_the_kernel_measures_none() -> None:
    result = measured({name: data for name, data in PARTS.items() if name != ".initrd"})
    assert [event.what for event in result.events if event.pcr == 9] == [
        "command line (LOADED_IMAGE::LoadOptions)"
    ]


@pytest.mark.parametrize(
    ("section", "before_255", "since_255"),
    [
        (b"quiet", "quiet", "quiet"),
        (b"quiet\n", "quiet", "quiet"),
        (b"  a\tb\x01c \n\n", "  a b c", "a b c"),
        (b"a  b", "a  b", "a  b"),
        (b"a\0b", "a", "a"),
        (b"\x7fa\x7fb\x7f", "\x7fa\x7fb\x7f", "a b"),
        (b"\ta", " a", "a"),
        (b"", "", ""),
        (b" \n", "", ""),
        ("ä€😀".encode(), "ä€😀", "ä€😀"),
    ],
)
def test_the_command_line_as_the_kernel_receives_it(
    section: bytes, before_255: str, since_255: str
) -> None:
    for version, text in ((252, before_255), (254, before_255), (255, since_255)):
        wanted = text.encode("utf-16-le") + b"\0\0"
        assert load_options(memoryview(section), version) == wanted


def test_a_command_line_that_is_not_utf8() -> None:
    with pytest.raises(ParseError, match="MALFORMED"):
        measured({**PARTS, ".cmdline": b"\xff\xfe"})


def member(data: bytes) -> tuple[tuple[int, ...], bytes, bytes, bytes]:
    """Fields, name, contents, rest: the kernel's documentation of the newc format."""
    assert data[:6] == b"070701"
    fields = tuple(int(data[6 + 8 * i : 14 + 8 * i], 16) for i in range(13))
    name_end = 110 + fields[11]
    start = -(-name_end // 4) * 4
    end = start + fields[6]
    return fields, data[110 : name_end - 1], data[start:end], data[-(-end // 4) * 4 :]


@pytest.mark.parametrize("contents", [b"", b"1", b"1234", b"12345"])
def test_a_passed_file_is_an_archive_of_its_own(contents: bytes) -> None:
    fields, name, data, rest = member(archive("os-release", contents))
    assert (name, data) == (b".extra", b"")
    assert (fields[0], fields[1], fields[4]) == (1, 0o40555, 1)
    fields, name, data, rest = member(rest)
    assert (name, data) == (b".extra/os-release", contents)
    assert (fields[0], fields[1], fields[4]) == (2, 0o100444, 1)
    fields, name, data, rest = member(rest)
    assert (name, data, rest) == (b"TRAILER!!!", b"", b"")


def test_the_recorded_machine_received_such_archives() -> None:
    """The digest of its initrd, which the kernel logged, is that of its own one and of these."""
    generated = archive("tpm2-pcr-signature.json", b'{"sha256":[]}x')
    generated += archive("tpm2-pcr-public-key.pem", b"PUBKEY ODD\n")
    wanted = "e0f5207b9a73016cfaad0d4f227f19d5f1ff69fe6961dc83bd2968555b820eb8"
    assert hashlib.sha256(generated).hexdigest() == wanted


def initrd_of(parts: Mapping[str, bytes], version: int) -> bytes:
    sections = uki_sections(parse_pe(uki_image(parts)), version)
    return b"".join(bytes(part) for part in kernel_initrd(sections, version))


def test_what_the_kernel_receives_as_initrd() -> None:
    base = {".linux": KERNEL, ".osrel": b"ID=x\n", ".initrd": b"12345"}
    osrel = archive("os-release", b"ID=x\n")
    assert initrd_of(base, 252) == b"12345"  # alone, and so not padded
    assert initrd_of(base, 257) == b"12345\0\0\0" + osrel
    signed = {
        ".pcrpkey": b"key",
        ".pcrsig": b"{}",
        ".ucode": b"microcode",
        ".profile": b"p",
        **base,
    }
    generated = archive("tpm2-pcr-signature.json", b"{}") + archive(
        "tpm2-pcr-public-key.pem", b"key"
    )
    assert initrd_of(signed, 255) == b"12345\0\0\0" + generated
    microcode = signed[".ucode"] + bytes(-len(signed[".ucode"]) % 4)
    assert initrd_of(signed, 256) == microcode + b"12345\0\0\0" + generated
    assert initrd_of(signed, 257) == microcode + b"12345\0\0\0" + generated + osrel + archive(
        "profile", b"p"
    )
    del base[".initrd"]
    assert initrd_of(base, 257) == osrel
    assert initrd_of(base, 256) == b""


def refusal(data: bytes, **change: object) -> str:
    with pytest.raises((ParseError, UsageError)) as caught:
        measure_uki(parse_pe(data), replace(BOOT, **change))
    return caught.value.code.name


def test_refusals() -> None:
    assert refusal(uki_image({".osrel": b"x"})) == "NOT_A_UKI"
    assert refusal(uki_image({**PARTS, ".linux": b""})) == "NOT_A_UKI"
    assert refusal(uki_image({**PARTS, ".linux": b"not a kernel"})) == "MALFORMED"
    assert refusal(uki_image(PARTS), systemd=251) == "STUB_VERSION_UNKNOWN"
    for name, version in ((".dtbauto", 257), (".efifw", 258)):
        parts = {**PARTS, name: b"x"}
        assert refusal(uki_image(parts), systemd=version) == "UKI_UNPREDICTABLE"
        assert name in measured(parts, systemd=version - 1).notes[0]
    for phases in (("",), ("a", ""), ("ü",), ("a\n",), ("a",) * 33):
        assert refusal(uki_image(PARTS), phases=phases) == "BAD_USAGE"


@pytest.mark.parametrize("name", [".linux", ".cmdline", ".profile"])
def test_a_section_that_stands_twice(name: str) -> None:
    twice = [Section(name=n, data=d) for n, d in PARTS.items()]
    twice += [Section(name=name, data=KERNEL)] * (1 if name in PARTS else 2)
    assert refusal(pe_image(twice), systemd=257) == "UKI_UNPREDICTABLE"


def test_a_measured_section_that_is_not_wholly_in_the_file() -> None:
    sections = [Section(name=n, data=d) for n, d in PARTS.items()]
    sections[0] = replace(sections[0], virtual_size=4096)
    assert refusal(pe_image(sections)) == "MALFORMED"


@pytest.mark.parametrize(
    ("text", "version"), [("252.39-1~deb12u1", 252), ("257", 257), ("260~devel", 260)]
)
def test_the_stub_says_its_version(text: str, version: int) -> None:
    assert stub_version(parse_pe(uki_image(PARTS, systemd=text))) == version


@pytest.mark.parametrize("text", ["", "v252", "25200", "x"])
def test_a_stub_that_does_not_say_its_version(text: str) -> None:
    for data in (uki_image(PARTS, systemd=text), pe_image((Section(name=".linux", data=KERNEL),))):
        with pytest.raises(ParseError, match="STUB_VERSION_UNKNOWN"):
            stub_version(parse_pe(data))


def test_replay_of_nothing_and_of_a_lost_event() -> None:
    assert replay([], Bank.SHA256) == {}
    events = [PcrEvent(pcr=4, digest=sha256(bytes((i,))), what="") for i in range(3)]
    whole = replay(events, Bank.SHA256)[4]
    assert all(
        replay(some, Bank.SHA256)[4] != whole
        for count in (1, 2, 3)
        for some in itertools.permutations(events, count)
        if list(some) != events
    )
