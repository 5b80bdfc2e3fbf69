"""What NVIDIA puts into the opaque data of a measurements report. Names are NVIDIA's.

Integers are little endian; text is ASCII with zero bytes after it. A layout of unknown version is
refused: it could change what the fields mean. Fields of unknown type only add to the others, so
they are kept by number, and a policy may ask that there be none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from regalia.core.errors import CoreCode, ParseError
from regalia.tees.nvidia.names import Feature, Status
from regalia.wire.evidence_codes import EvidenceCode, unsupported_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regalia.tees.nvidia.evidence.spdm import SpdmReport


OPAQUE_VERSIONS = (0, 1)  # OPAQUE_DATA_VERSION, of data without a header
PDI_SIZE = 8  # bytes of a per-device identifier
GPU_PDIS_SIZE = 8 * PDI_SIZE  # bytes at the start of SWITCH_GPU_PDIS; a map of ports follows
TEXT_MAX = 64  # bytes
VBIOS_VERSION_SIZE = 8  # bytes, of a GPU


class OpaqueField(IntEnum):
    """OPAQUE_FIELD_ID_*: types of opaque fields, by their names on a GPU where the two differ."""

    CERT_ISSUER_NAME = 1
    CERT_AUTHORITY_KEY_IDENTIFIER = 2
    DRIVER_VERSION = 3
    GPU_INFO = 4
    SKU = 5
    VBIOS_VERSION = 6
    MANUFACTURER_ID = 7
    TAMPER_DETECTION = 8
    SMC = 9
    VPR = 10
    NVDEC0_STATUS = 11
    MSRSCNT = 12
    CPRINFO = 13
    BOARD_ID = 14
    CHIP_SKU = 15
    CHIP_SKU_MOD = 16
    PROJECT = 17
    PROJECT_SKU = 18
    PROJECT_SKU_MOD = 19
    FWID = 20
    PROTECTED_PCIE_STATUS = 21
    SWITCH_PDI = 22  # GPU: of the switch behind each link; a switch: its own
    FLOORSWEPT_PORTS = 23
    POSITION_ID = 24
    LOCK_SWITCH_STATUS = 25
    SWITCH_GPU_PDIS = 26  # a switch: identifiers of its GPUs
    GPU_LINK_CONN = 32
    SYS_ENABLE_STATUS = 33
    OPAQUE_DATA_VERSION = 34
    CHIP_INFO = 35
    FEATURE_FLAG = 36
    FSP_UCODE_SVN = 37  # security version of the boot processor's microcode


_STATUS = {0xAA: Status.ENABLED, 0x55: Status.DISABLED}
_FEATURES = {0: Feature.MPT, 1: Feature.SPT, 2: Feature.PPCIE}
_KNOWN = frozenset(OpaqueField)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """Decoded opaque data of one device. Text is empty and lists are, where the field is absent."""

    driver_version: str
    vbios_version: str  # e.g. 96.00.5E.00.01
    nvdec0: Status
    protected_pcie: Status
    feature: Feature
    fwid: bytes  # 48, or none
    project: str
    project_sku: str
    chip_sku: str
    chip: str  # CHIP_INFO
    pdi: bytes  # a switch's own
    switch_pdis: tuple[bytes, ...]  # a GPU's, sorted, each once, as the switches state their own
    gpu_pdis: tuple[bytes, ...]  # a switch's, sorted, each once
    additions: tuple[int, ...]  # types of fields that are not known here, sorted


def decode_opaque(report: SpdmReport, *, switch: bool) -> Opaque:
    """Decode what verification and policies look at.

    Args:
        report: parsed, untrusted.
        switch: whether the device is a switch, where some fields have another meaning.

    Raises:
        ParseError: MALFORMED or UNSUPPORTED_VERSION.
    """
    fields = dict(report.opaque)
    if report.opaque_version is None:  # else the header tells, and this field means nothing
        version = int.from_bytes(fields.get(OpaqueField.OPAQUE_DATA_VERSION, b""), "little")
        if version not in OPAQUE_VERSIONS:
            raise unsupported_version("opaque data: version", version, OPAQUE_VERSIONS)
    pdis = fields.get(OpaqueField.SWITCH_PDI, b"")
    links = fields.get(OpaqueField.SWITCH_GPU_PDIS, b"") if switch else b""
    if switch and len(pdis) not in (0, PDI_SIZE):
        raise _malformed(f"SWITCH_PDI of {len(pdis)} bytes")
    if links and len(links) < GPU_PDIS_SIZE:
        raise _malformed(f"SWITCH_GPU_PDIS of {len(links)} bytes")
    ppcie = _status(fields, OpaqueField.PROTECTED_PCIE_STATUS)
    return Opaque(
        driver_version=_text(fields, OpaqueField.DRIVER_VERSION),
        vbios_version=_switch_vbios(fields) if switch else _gpu_vbios(fields),
        nvdec0=_status(fields, OpaqueField.NVDEC0_STATUS),
        protected_pcie=ppcie,
        feature=_feature(fields, ppcie),
        fwid=_fwid(fields),
        project=_text(fields, OpaqueField.PROJECT),
        project_sku=_text(fields, OpaqueField.PROJECT_SKU),
        chip_sku=_text(fields, OpaqueField.CHIP_SKU),
        chip=_text(fields, OpaqueField.CHIP_INFO),
        pdi=pdis if switch else b"",
        switch_pdis=() if switch else _identifiers(pdis),
        gpu_pdis=_identifiers(links[:GPU_PDIS_SIZE]),
        additions=tuple(sorted(fields.keys() - _KNOWN)),
    )


def _text(fields: Mapping[int, bytes], field: OpaqueField) -> str:
    """ASCII up to the zero bytes that end it."""
    raw = fields.get(field)
    if raw is None:
        return ""
    raw = raw.rstrip(b"\x00")
    text = raw.decode("ascii", "replace")
    if len(raw) > TEXT_MAX or not raw.isascii() or not text.isprintable():
        raise _malformed(f"{field.name} is not printable ASCII of at most {TEXT_MAX} bytes")
    return text


def _gpu_vbios(fields: Mapping[int, bytes]) -> str:
    """The low 32 bits, high byte first, then the byte above them: 96.00.5E.00.01."""
    raw = fields.get(OpaqueField.VBIOS_VERSION, b"")
    if not raw:
        return ""
    if len(raw) != VBIOS_VERSION_SIZE or any(raw[5:]):
        raise _malformed(f"VBIOS_VERSION is {raw[:32].hex()}")
    return ".".join(f"{byte:02X}" for byte in (*reversed(raw[:4]), raw[4]))


def _switch_vbios(fields: Mapping[int, bytes]) -> str:
    return _text(fields, OpaqueField.VBIOS_VERSION).upper()


def _status(fields: Mapping[int, bytes], field: OpaqueField) -> Status:
    raw = fields.get(field)
    if raw is None:
        return Status.UNSTATED
    if len(raw) != 1 or raw[0] not in _STATUS:
        raise _malformed(f"{field.name} is {raw[:8].hex()}, want aa or 55")
    return _STATUS[raw[0]]


def _feature(fields: Mapping[int, bytes], ppcie: Status) -> Feature:
    """FEATURE_FLAG; before it existed, PROTECTED_PCIE_STATUS told one of the three."""
    raw = fields.get(OpaqueField.FEATURE_FLAG)
    if raw is None:
        return Feature.PPCIE if ppcie is Status.ENABLED else Feature.UNSTATED
    flag = int.from_bytes(raw, "little")
    if not raw or flag not in _FEATURES:
        raise ParseError(EvidenceCode.UNSUPPORTED_VERSION, f"FEATURE_FLAG is {raw[:8].hex()}")
    return _FEATURES[flag]


def _fwid(fields: Mapping[int, bytes]) -> bytes:
    fwid = fields.get(OpaqueField.FWID, b"")
    if len(fwid) not in (0, 48):
        raise _malformed(f"FWID of {len(fwid)} bytes, want 48")
    return fwid


def _identifiers(raw: bytes) -> tuple[bytes, ...]:
    """Links repeat them; they are written in the reverse of how a device states its own."""
    if not raw:
        return ()
    if len(raw) % PDI_SIZE:
        raise _malformed(f"a list of device identifiers has {len(raw)} bytes")
    found = {raw[at : at + PDI_SIZE][::-1] for at in range(0, len(raw), PDI_SIZE)}
    return tuple(sorted(found - {bytes(PDI_SIZE)}))


def _malformed(what: str) -> ParseError:
    return ParseError(CoreCode.MALFORMED, f"opaque data: {what}")
