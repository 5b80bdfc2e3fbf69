"""Flipping a byte of a device's report, or moving a part of it, never yields acceptance."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.nvidia.evidence import NvidiaAnchors, NvidiaCollateral, prepare
from regalia.tees.nvidia.evidence.nvtrust import parse_nvidia_evidence
from regalia.tees.nvidia.evidence.plugin import GPU
from regalia.tees.nvidia.evidence.spdm import REQUEST_SIZE, parse_report
from regalia_testing.testbed import ANY
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia.wire.evidence import DeviceEvidence
    from regalia_testing.tees.nvidia.testbed import NvidiaTestbed

HEADER, BLOCK = 8, 55  # bytes of the response's header, and of one measurement block


def codes_of_flips(
    evidence: DeviceEvidence, verify: Callable[[DeviceEvidence], object]
) -> set[str]:
    """Flip one bit of every byte, the signature's included."""
    verify(evidence)  # unaltered, it is accepted
    seed = random.randrange(2**32)  # noqa: S311 - which bit to flip is no secret
    chosen = random.Random(seed)  # noqa: S311 - likewise
    codes: set[str] = set()
    for position in range(len(evidence.report)):
        altered = bytearray(evidence.report)
        altered[position] ^= 1 << chosen.randrange(8)
        try:
            verify(replace(evidence, report=bytes(altered)))
        except (ParseError, AttestationError) as refusal:
            codes.add(refusal.code.name)
        else:
            pytest.fail(f"accepted with byte {position} altered (seed {seed})")
    return codes


def test_every_byte_of_a_simulated_report(device_testbed: NvidiaTestbed) -> None:
    codes = codes_of_flips(device_testbed.evidence(), device_testbed.verify)
    assert {"SIGNATURE_INVALID", "MALFORMED", "RESERVED_BIT_SET"} <= codes


def test_every_byte_of_a_real_report(vectors: Path) -> None:
    data = (vectors / "nvidia/sdk/hopper_evidence.json").read_bytes()
    (evidence,) = parse_nvidia_evidence(data)
    nonce = parse_report(evidence.report).nonce
    collateral = prepare(NvidiaCollateral())
    at = AppraisalContext(now=datetime(2026, 1, 1, tzinfo=UTC), rule=ANY, cache=Cache())

    def verify(altered: DeviceEvidence) -> object:
        return verify_fresh(
            GPU,
            altered,
            anchors=NvidiaAnchors.production(),
            collateral=collateral,
            report_data=nonce,
            at=at,
        )

    assert "SIGNATURE_INVALID" in codes_of_flips(evidence, verify)


def blocks_of(report: bytes) -> tuple[bytes, list[bytes], bytes]:
    start = REQUEST_SIZE + HEADER
    count = report[REQUEST_SIZE + 4]
    end = start + count * BLOCK
    return (
        report[:start],
        [report[at : at + BLOCK] for at in range(start, end, BLOCK)],
        report[end:],
    )


def joined(head: bytes, blocks: list[bytes], tail: bytes, *, numbered: bool) -> bytes:
    """With the counts in the header right; ``numbered`` also gives the blocks their places."""
    count, size = len(blocks), len(blocks) * BLOCK
    head = head[: REQUEST_SIZE + 4] + bytes([count]) + size.to_bytes(3, "little")
    if numbered:
        blocks = [bytes([i + 1]) + block[1:] for i, block in enumerate(blocks)]
    return head + b"".join(blocks) + tail


@pytest.mark.parametrize("numbered", [True, False])
def test_dropping_doubling_and_moving_blocks(
    device_testbed: NvidiaTestbed, *, numbered: bool
) -> None:
    evidence = device_testbed.evidence()
    head, blocks, tail = blocks_of(evidence.report)
    assert joined(head, blocks, tail, numbered=numbered) == evidence.report
    count = len(blocks)
    variants = [blocks[:i] + blocks[i + 1 :] for i in range(count)]
    variants += [blocks[: i + 1] + blocks[i:] for i in range(count)]
    variants += [
        [*blocks[:i], blocks[i + 1], blocks[i], *blocks[i + 2 :]]
        for i in range(count - 1)
        if blocks[i][1:] != blocks[i + 1][1:]
    ]
    variants += [blocks[:0], blocks[::-1]]
    for variant in variants:
        report = joined(head, variant, tail, numbered=numbered)
        with pytest.raises((ParseError, AttestationError)):
            device_testbed.verify(replace(evidence, report=report))


def test_dropping_doubling_and_moving_opaque_fields(device_testbed: NvidiaTestbed) -> None:
    evidence = device_testbed.evidence()
    report = parse_report(evidence.report)
    fields = report.opaque
    variants = [fields[:i] + fields[i + 1 :] for i in range(len(fields))]
    variants += [fields[: i + 1] + fields[i:] for i in range(len(fields))]
    variants += [fields[::-1], ()]
    for variant in variants:
        altered = replace(report, opaque=variant).encode()
        with pytest.raises((ParseError, AttestationError)):
            device_testbed.verify(replace(evidence, report=altered))


def test_cutting_the_report_anywhere(device_testbed: NvidiaTestbed) -> None:
    evidence = device_testbed.evidence()
    for size in range(0, len(evidence.report), 7):
        with pytest.raises(ParseError):
            device_testbed.verify(replace(evidence, report=evidence.report[:size]))


def test_another_devices_answer_to_the_same_question(device_testbed: NvidiaTestbed) -> None:
    one, other = (device_testbed.evidence(gpu) for gpu in device_testbed.machine.gpus)
    with pytest.raises(AttestationError, match="SIGNATURE_INVALID"):
        device_testbed.verify(replace(one, report=other.report))
