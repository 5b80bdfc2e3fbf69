"""Simulated SPDM reports: what a device in a given state would sign, and its signature."""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from regalia.tees.nvidia.evidence.rims import RimKind
from regalia.tees.nvidia.evidence.spdm import SIGNATURE_SIZE, SpdmReport
from regalia.tees.nvidia.evidence.verify import PUBLISHED_NONCE
from regalia.tees.nvidia.evidence.wire import GPU_PDIS_SIZE, OpaqueField
from regalia.wire.evidence import DeviceKind

if TYPE_CHECKING:
    from regalia_testing.tees.nvidia.defects import NvidiaDefects

STALE_NONCE = hashlib.sha256(b"regalia: the challenge of another day").digest()
PART = ("G520", "0200", "885")  # project, project SKU, chip SKU
GPU_BLOCKS, SWITCH_BLOCKS = 64, 31
VBIOS_INDICES = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12)
DRIVER_INDICES = (7, *range(21, 42))
SWITCH_INDICES = tuple(range(1, 12))
INDICES = {
    RimKind.GPU_DRIVER: DRIVER_INDICES,
    RimKind.GPU_VBIOS: VBIOS_INDICES,
    RimKind.SWITCH_BIOS: SWITCH_INDICES,
}
_DISABLED, _ENABLED = b"\x55", b"\xaa"
_UNKNOWN_FIELD = 99
_PPCIE = 2
# Value types of fields in opaque data with a header, as seen: texts, versions, digests, states.
_VALUE_TYPES: dict[int, int] = {
    OpaqueField.VBIOS_VERSION: 0x86,
    OpaqueField.CHIP_SKU: 0x82,
    OpaqueField.PROJECT: 0x82,
    OpaqueField.PROJECT_SKU: 0x82,
    OpaqueField.DRIVER_VERSION: 0x86,
    OpaqueField.NVDEC0_STATUS: 0x82,
    OpaqueField.FWID: 0x01,
    OpaqueField.PROTECTED_PCIE_STATUS: 0x85,
    OpaqueField.OPAQUE_DATA_VERSION: 0x86,
    OpaqueField.FEATURE_FLAG: 0x85,
}


def measurement(model: str, index: int) -> bytes:
    """What healthy firmware of a model measures at a RIM index."""
    return hashlib.sha384(f"regalia simulated {model} {index}".encode()).digest()


def build_report(
    model: str,
    kind: DeviceKind,
    nonce: bytes,
    opaque: tuple[tuple[int, bytes], ...],
    defects: NvidiaDefects,
) -> SpdmReport:
    """The report of a device in the state that the defects say, with an empty signature."""
    switch = kind is DeviceKind.NVIDIA_SWITCH
    referenced = SWITCH_INDICES if switch else (*VBIOS_INDICES, *DRIVER_INDICES)
    values = [
        measurement(model, index) if index in referenced else bytes(48)
        for index in range(SWITCH_BLOCKS if switch else GPU_BLOCKS)
    ]
    if defects.wrong_measurement >= 0:
        values[defects.wrong_measurement] = hashlib.sha384(b"other firmware").digest()
    if defects.stale_nonce:
        nonce = STALE_NONCE
    new = defects.opaque_header
    return SpdmReport(
        nonce=PUBLISHED_NONCE if defects.published_nonce else nonce,
        slot=0,
        indices=bytes(range(1, len(values) + 1)),
        kinds=b"\x01" * len(values),
        values=tuple(values),
        responder_nonce=secrets.token_bytes(32),
        opaque=opaque,
        opaque_version=bytes((new, 0, 0, 0)) if new >= 0 else None,
        opaque_value_types=tuple(_VALUE_TYPES.get(kind, 0) for kind, _ in opaque)
        if new >= 0
        else (),
        signature=bytes(SIGNATURE_SIZE),
    )


def gpu_opaque(fwid: bytes, switches: tuple[bytes, ...], defects: NvidiaDefects) -> _Opaque:
    """A GPU's opaque data; ``switches`` are the identifiers of those behind its links."""
    project, project_sku, chip_sku = PART
    fields = [
        (OpaqueField.VBIOS_VERSION, _vbios(defects.vbios_version)),
        (OpaqueField.CHIP_SKU, chip_sku.encode().ljust(9, b"\x00")),
        (OpaqueField.PROJECT, project.encode() + b"\x00"),
        (OpaqueField.PROJECT_SKU, project_sku.encode() + b"\x00"),
        (OpaqueField.DRIVER_VERSION, defects.driver_version.encode() + b"\x00"),
        (OpaqueField.NVDEC0_STATUS, _ENABLED if defects.nvdec_enabled else _DISABLED),
    ]
    if not defects.old_opaque:
        ppcie = defects.feature == _PPCIE
        fields += [
            (OpaqueField.FWID, fwid),
            (OpaqueField.PROTECTED_PCIE_STATUS, _ENABLED if ppcie else _DISABLED),
            (OpaqueField.SWITCH_PDI, b"".join(pdi[::-1] * 2 for pdi in switches)),
            (OpaqueField.OPAQUE_DATA_VERSION, struct.pack("<H", defects.opaque_version)),
            (OpaqueField.FEATURE_FLAG, struct.pack("<H", defects.feature)),
        ]
    return _finish(fields, defects)


def switch_opaque(pdi: bytes, gpus: tuple[bytes, ...], defects: NvidiaDefects) -> _Opaque:
    """A switch's opaque data; ``gpus`` are the identifiers of those on its ports."""
    links = b"".join(gpu[::-1] for gpu in gpus).ljust(GPU_PDIS_SIZE, b"\x00")
    fields = [
        (OpaqueField.VBIOS_VERSION, defects.vbios_version.encode()),
        (OpaqueField.SWITCH_PDI, pdi),
        (OpaqueField.SWITCH_GPU_PDIS, links + b"\xff" * GPU_PDIS_SIZE),
    ]
    return _finish(fields, defects)


def sign_report(
    report: SpdmReport, key: ec.EllipticCurvePrivateKey, defects: NvidiaDefects
) -> bytes:
    """The report's bytes, signed; defects of structure are made before signing."""
    if defects.duplicate_block:
        report = replace(report, indices=bytes((1, 1)) + report.indices[2:])
    body = report.encode()[:-SIGNATURE_SIZE]
    scalars = decode_dss_signature(key.sign(body, ec.ECDSA(SHA384())))
    signature = b"".join(scalar.to_bytes(48, "big") for scalar in scalars)
    if defects.bad_signature:
        signature = bytes((signature[0] ^ 1,)) + signature[1:]
    behind = bytes(defects.zeros_behind) + (b"\x01" if defects.trailing_byte else b"")
    raw = body + signature + behind
    return raw[:-1] if defects.truncated else raw


_Opaque = tuple[tuple[int, bytes], ...]


def _finish(fields: list[tuple[OpaqueField, bytes]], defects: NvidiaDefects) -> _Opaque:
    unknown = ((_UNKNOWN_FIELD, b"?"),) if defects.unknown_opaque else ()
    return (*((int(kind), data) for kind, data in fields), *unknown)


def _vbios(text: str) -> bytes:
    parts = bytes.fromhex(text.replace(".", ""))
    return parts[3::-1] + parts[4:] + bytes(3)
