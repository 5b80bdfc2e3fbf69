"""Decoded fields as people read them: versions as versions, long bytes by their ends.

What is left out or shortened here stands in full in ``--raw`` and ``--json``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from regalia.core.clock import rfc3339
from regalia.core.errors import ParseError
from regalia.tees.nvidia.evidence.spdm import parse_report
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from regalia.core.plain import Plain
    from regalia.inspect.recognized import Recognized
    from regalia.wire.evidence import DeviceEvidence

    Members = dict[str, Plain]

_HEX = frozenset("0123456789abcdef")
_NOTHING: tuple[Plain, ...] = (None, "", [], {})
_SECURITY_VERSIONS = frozenset({"tee_tcb_svn", "tee_tcb_svn2", "cpu_svn"})
_SHORT = 32  # hex digits that are shown in full
_HEAD, _TAIL = 12, 6  # hex digits of a longer value
_ENTRIES_MAX = 6  # of a list
_LIST_WIDTH = 72  # characters of a list in one line
# Signatures and what they are over: no person reads them.
_LEFT_OUT = frozenset(
    {"signature", "signature_r", "signature_s", "signed", "protected", "payload", "TPMT_SIGNATURE"}
)
# Where the components stand among the eight bytes (SEV-SNP ABI, TCB_VERSION).
_TCB_AT = MappingProxyType({"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7})
_TURIN_TCB_AT = MappingProxyType({"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7})
_TURIN = 26  # CPUID family


def compact(found: Recognized, parts: Members) -> Members:
    """The parts for a page that fits one screen.

    Args:
        found: what was decoded; untrusted.
        parts: all of its fields.
    """
    devices = (*found.devices, *(found.evidence.devices if found.evidence else ()))
    out: Members = {}
    for name, value in parts.items():
        if name.startswith("device ") and isinstance(value, dict):
            out[name] = _device(devices[int(name.removeprefix("device "))], value)
        elif name == "ATTESTATION_REPORT" and isinstance(value, dict):
            out[name] = _small(_snp(value))
        elif name == "event log" and isinstance(value, dict):
            out[name] = {"events": _count(value.get("events"))}
        elif name == "bits that are set" and isinstance(value, dict):
            known = out.get(name)
            out[name] = {**(known if isinstance(known, dict) else {}), **_small(value)}
        elif name not in _LEFT_OUT:
            out[name] = _value(name, value)
    return out


def _small(values: Members) -> Members:
    """Members that say something, each shortened; those of zeros are named in one line."""
    said = {
        name: value
        for name, value in values.items()
        if name not in _LEFT_OUT and value not in _NOTHING
    }
    zeros = [name for name, value in said.items() if isinstance(value, str) and _is_zeros(value)]
    out = {name: _value(name, value) for name, value in said.items() if name not in zeros}
    return {**out, "zeros": ", ".join(zeros)} if zeros else out


def _is_zeros(text: str) -> bool:
    return len(text) > 1 and not text.strip("0")


def _value(name: str, value: Plain) -> Plain:
    if isinstance(value, dict):
        return _registers(value) if _is_numbered(value) else _mapping(name, value)
    if isinstance(value, list):
        return _list(value)
    if isinstance(value, str):
        return _components(value) if name in _SECURITY_VERSIONS else _ends(value)
    if name == "timestamp" and isinstance(value, int):
        return _moment(value)
    return value


def _moment(milliseconds: int) -> str:
    try:
        return rfc3339(datetime.fromtimestamp(milliseconds // 1000, UTC))
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"


def _mapping(name: str, value: Members) -> Plain:
    """Nested fields; the quoting enclave's own are a line of their own."""
    if name == "qe":
        report = value.get("qe_report")
        svn = report.get("isv_svn") if isinstance(report, dict) else None
        return f"quoting enclave, ISVSVN {svn}"
    return _small(value)


def _is_numbered(value: Members) -> bool:
    return bool(value) and all(name.isdecimal() for name in value)


def _registers(value: Members) -> str:
    """Those that are not zero by their first digits, in their order."""
    shown = [
        f"{name} {text[:_HEAD]}"
        for name, text in sorted(value.items(), key=lambda member: int(member[0]))
        if isinstance(text, str) and text.strip("0")
    ]
    return f"{len(shown)} of {len(value)} are not zero: {', '.join(shown) or 'none'}"


def _list(values: list[Plain]) -> Plain:
    if all(isinstance(value, str | int) for value in values):
        line = ", ".join(_ends(str(value)) for value in values)
        if len(line) <= _LIST_WIDTH:
            return line or "none"
    if len(values) > _ENTRIES_MAX or any(isinstance(value, dict | list) for value in values):
        named = [value.get("kid") for value in values if isinstance(value, dict)]
        words = [str(name) for name in named if name]
        return ", ".join(words) if len(words) == len(values) else _count(values)
    return [_ends(str(value)) for value in values]


def _count(value: Plain) -> str:
    return f"{len(value)} entries" if isinstance(value, list | dict) else str(value)


def _is_hex(text: str) -> bool:
    return not len(text) % 2 and _HEX.issuperset(text)


def _ends(text: str) -> str:
    """A long value by its ends; zeros as such."""
    if len(text) <= _SHORT or not _is_hex(text):
        return text if len(text) <= _LIST_WIDTH else f"{text[:_LIST_WIDTH]}..."
    size = f"{len(text) // 2} bytes"
    for digit, word in (("0", "zeros"), ("f", "ones")):
        if not text.strip(digit):
            return f"{word} ({size})"
    return f"{text[:_HEAD]}...{text[-_TAIL:]} ({size})"


def _components(text: str) -> str:
    """Security versions, one number for each component; zeros at the end are left out."""
    if not _is_hex(text):
        return text
    raw = bytes.fromhex(text)
    return ".".join(map(str, raw.rstrip(b"\x00"))) or "0"


def _snp(report: Members) -> Members:
    """Versions as versions, and the TCB by component."""
    family = report.get("cpuid_fam_id")
    places = _TURIN_TCB_AT if family == _TURIN else _TCB_AT
    out: Members = {}
    for name, value in report.items():
        if name.endswith("_tcb") and isinstance(value, str) and _is_hex(value):
            raw = bytes.fromhex(value)
            out[name] = ", ".join(f"{part} {raw[at]}" for part, at in places.items())
        elif name.startswith("cpuid_"):
            out["cpu"] = _joined(
                report, "family {cpuid_fam_id} model {cpuid_mod_id} stepping {cpuid_step}"
            )
        elif name.partition("_")[2] in ("build", "minor", "major"):
            which = name.partition("_")[0]
            pattern = f"{{{which}_major}}.{{{which}_minor}} build {{{which}_build}}"
            out[f"{which}_firmware"] = _joined(report, pattern)
        elif name == "policy" and isinstance(value, int):
            out[name] = f"ABI {value >> 8 & 0xFF}.{value & 0xFF} or later; bits below"
        elif name != "platform_info":
            out[name] = value
    return out


def _joined(values: Members, pattern: str) -> str:
    return pattern.format_map(values)


def _device(device: DeviceEvidence, fields: Members) -> Members:
    """A device by what its report says of itself."""
    out: Members = {"kind": fields.get("kind"), "nonce": _value("", fields.get("nonce"))}
    try:
        opaque = decode_opaque(
            parse_report(device.report), switch=device.kind is DeviceKind.NVIDIA_SWITCH
        )
    except ParseError as exc:
        return {**out, "opaque data": exc.what}
    if opaque.driver_version:
        out["driver"] = opaque.driver_version
    out |= {"vbios": opaque.vbios_version, "mode": opaque.feature.value}
    if opaque.chip:
        out["chip"] = opaque.chip
    out |= {"measurements": _count(fields.get("values"))}
    return {**out, "certificates": fields.get("certificates")}
