"""A verifier that knows a device: what it remembers is no verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.claims import MINT, Hardware
from regalia.core.errors import AttestationError
from regalia.tees.nvidia.evidence import prepare
from regalia.tees.nvidia.evidence.collateral import READINGS_MAX
from regalia.tees.nvidia.evidence.models import MODELS
from regalia.tees.nvidia.evidence.plugin import GPU
from regalia.tees.nvidia.evidence.spdm import split_report
from regalia_testing.tees.nvidia.testbed import NONCE
from regalia_testing.testbed import REQUIRED
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from regalia.tees.nvidia.claims import NvidiaClaims
    from regalia.tees.nvidia.evidence import PreparedNvidia
    from regalia.wire.evidence import DeviceEvidence
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed


@pytest.fixture
def prepared(device_testbed: NvidiaTestbed) -> PreparedNvidia:
    return prepare(device_testbed.machine.collateral())


def appraise(
    testbed: NvidiaTestbed, prepared: PreparedNvidia, evidence: DeviceEvidence
) -> NvidiaClaims:
    return verify_fresh(
        GPU,
        evidence,
        anchors=testbed.machine.anchors(),
        collateral=prepared,
        report_data=NONCE,
        at=AppraisalContext(now=testbed.now, rule=REQUIRED, cache=testbed.cache),
    )


def test_the_same_firmware_is_read_once(
    device_testbed: NvidiaTestbed, prepared: PreparedNvidia, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, again = device_testbed.evidence(), device_testbed.evidence()
    assert evidence.report != again.report  # another signature, and random numbers
    cold = appraise(device_testbed, prepared, evidence)
    for name in ("decode_opaque", "match_rims"):
        monkeypatch.setattr(
            f"regalia.tees.nvidia.evidence.verify.{name}",
            lambda *_, **__: pytest.fail("done before"),
        )
    warm = appraise(device_testbed, prepared, again)
    assert warm.evidence_digest == again.digest()
    assert replace(warm, evidence_digest=cold.evidence_digest, mint=MINT) == cold
    assert len(prepared.readings) == 1


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("bad_signature", True, "SIGNATURE_INVALID"),
        ("fwid_mismatch", True, "LEAF_BINDING_MISMATCH"),
        ("leaf_expired", True, "CERT_EXPIRED"),
        ("wrong_measurement", 3, "RIM_MISMATCH"),
    ],
)
def test_what_is_refused_leaves_no_trace(
    device_testbed: NvidiaTestbed, prepared: PreparedNvidia, field: str, value: object, code: str
) -> None:
    for _ in range(2):
        with pytest.raises(AttestationError, match=code):
            appraise(device_testbed, prepared, device_testbed.evidence(**{field: value}))
    assert not prepared.readings
    healthy = device_testbed.evidence()
    appraise(device_testbed, prepared, healthy)
    with pytest.raises(AttestationError, match=code):
        appraise(device_testbed, prepared, device_testbed.evidence(**{field: value}))
    assert len(prepared.readings) == 1


def test_a_reading_is_for_one_model_and_one_kind_of_root(
    device_testbed: NvidiaTestbed, prepared: PreparedNvidia
) -> None:
    evidence = device_testbed.evidence()
    cold = appraise(device_testbed, prepared, evidence)
    ((key, reading),) = prepared.readings.items()
    emptied = replace(reading, rims=(), missing=("everything",))
    other = next(model for model in MODELS.values() if model is not reading.model)
    for foreign in (replace(emptied, model=other), replace(emptied, hardware=Hardware.GENUINE)):
        prepared.readings[key] = foreign
        assert appraise(device_testbed, prepared, evidence) == cold
        assert prepared.readings[key] == reading


def test_readings_are_bounded(device_testbed: NvidiaTestbed, prepared: PreparedNvidia) -> None:
    evidence = device_testbed.evidence()
    appraise(device_testbed, prepared, evidence)
    (reading,) = prepared.readings.values()
    parts = split_report(evidence.report)
    for number in range(READINGS_MAX):
        prepared.remember(parts._replace(opaque=number.to_bytes(4, "big")), reading)
    assert len(prepared.readings) == 1
