"""The pages name every step and every code, and the numbers that are in the code."""

from __future__ import annotations

from pathlib import Path

from regalia.appraisal.check import Check
from regalia.tees.nvidia.evidence import anchors, checks, key_denials, spdm
from regalia.tees.nvidia.evidence import rims as rim
from regalia.tees.nvidia.evidence.codes import NvidiaCode
from regalia.tees.nvidia.evidence.models import MODELS
from regalia.tees.nvidia.evidence.verify import PUBLISHED_NONCE
from regalia.tees.nvidia.evidence.wire import OpaqueField
from regalia.tees.nvidia.names import Feature
from regalia.verifier import composite

SPEC = Path(__file__).parents[3] / "docs" / "spec"
APPRAISAL = (SPEC / "nvidia-appraisal.md").read_text(encoding="utf-8")
RIM = (SPEC / "rim.md").read_text(encoding="utf-8")


def test_steps_and_codes() -> None:
    steps = [
        each.name
        for module in (checks, composite)
        for each in vars(module).values()
        if isinstance(each, Check)
    ]
    assert len(steps) == 13
    assert [name for name in steps if f"`{name}`" not in APPRAISAL] == []
    codes = [*NvidiaCode.__members__, "COMPOSITE_MISMATCH", "NONCE_WELL_KNOWN", "CERT_REVOKED"]
    assert [code for code in codes if f"`{code}`" not in APPRAISAL + RIM] == []


def test_numbers_and_names() -> None:
    for text in (
        f"at most {spdm.REPORT_MAX} bytes",
        f"at most {spdm.OPAQUE_MAX}",
        PUBLISHED_NONCE.hex(),
        anchors.NVIDIA_DEVICE_ROOT_SPKI_SHA256,
        anchors.DEVICE_ROOT_NAME,
        *MODELS,
        *(str(each) for each in Feature),
    ):
        assert text in APPRAISAL, text
    for field in (
        OpaqueField.DRIVER_VERSION,
        OpaqueField.FWID,
        OpaqueField.SWITCH_PDI,
        OpaqueField.SWITCH_GPU_PDIS,
        OpaqueField.OPAQUE_DATA_VERSION,
        OpaqueField.FEATURE_FLAG,
    ):
        assert f"| {field.value} | {field.name} |" in APPRAISAL, field.name
    for text in (
        anchors.NVIDIA_RIM_ROOT_SPKI_SHA256,
        rim.FORMAT,
        key_denials.FORMAT,
        f"at most {rim.LIMIT // 1024} KiB",
        f"from 0 to {rim.INDEX_MAX}",
        f"1 to {rim.ALTERNATIVES_MAX} different",
        *rim.RimKind,
    ):
        assert text in RIM, text
