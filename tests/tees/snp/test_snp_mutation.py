"""Flipping bits in the signed part of a report never yields acceptance."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from regalia.appraisal.appraisal_context import AppraisalContext
from regalia.appraisal.collateral_rule import NO_GRACE, CollateralRule, RevocationRule
from regalia.appraisal.pki import Cache
from regalia.core.errors import AttestationError, ParseError
from regalia.tees.snp.evidence import SnpAnchors, SnpCollateral
from regalia.tees.snp.evidence.plugin import SNP
from regalia.tees.snp.evidence.wire import REPORT_SIZE, SIGNED_SIZE
from regalia.wire.evidence import Evidence, Tee
from regalia_testing.verify import verify_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from regalia_testing.tees.snp.testbed import SnpTestbed

REPORT_DATA_AT = slice(0x50, 0x90)
SIGNATURE_END = 0x330


def flipped(report: bytes, position: int, bit: int) -> bytes:
    altered = bytearray(report)
    altered[position] ^= 1 << bit
    return bytes(altered)


def codes_of_flips(evidence: Evidence, verify: Callable[[Evidence], object]) -> set[str]:
    """Flip one bit of every byte of the signed part and of the signature."""
    verify(evidence)  # unaltered, it is accepted
    seed = random.randrange(2**32)  # noqa: S311 - likewise
    chosen = random.Random(seed)  # noqa: S311 - which bit to flip is no secret
    codes: set[str] = set()
    for position in range(SIGNATURE_END):
        altered = flipped(evidence.report, position, chosen.randrange(8))
        try:
            verify(replace(evidence, report=altered))
        except (ParseError, AttestationError) as refusal:
            codes.add(refusal.code.name)
        else:
            pytest.fail(f"accepted with byte {position:#05x} altered (seed {seed})")
    return codes


@pytest.mark.parametrize("product", ["Genoa", "Turin"])
def test_every_byte_of_a_simulated_report(
    testbed_of: Callable[[str], SnpTestbed], product: str
) -> None:
    testbed = testbed_of(product)
    codes = codes_of_flips(testbed.evidence(), testbed.verify)
    assert {"SIGNATURE_INVALID", "RESERVED_BIT_SET", "LEAF_BINDING_MISMATCH"} <= codes


@pytest.mark.parametrize(
    ("report", "leaf", "chain", "now"),
    [
        ("coco-report.bin", "coco-vcek.der", "ask_ark.pem", datetime(2023, 2, 1, tzinfo=UTC)),
        ("coco-vlek-report.bin", "coco-vlek.der", "asvk_ark.pem", datetime(2025, 6, 1, tzinfo=UTC)),
    ],
)
def test_every_byte_of_a_real_report(  # noqa: PLR0917 - one vector is four names
    vectors: Path,
    certificates: Callable[[Path], tuple[bytes, ...]],
    report: str,
    leaf: str,
    chain: str,
    now: datetime,
) -> None:
    """With the report data that it has: what is refused is the altered report, not its nonce."""
    folder = vectors / "snp/milan"
    raw = (folder / report).read_bytes()
    collateral = SnpCollateral(certificates(folder / chain), ())
    rule = CollateralRule(RevocationRule.ANY, NO_GRACE)

    def verify(evidence: Evidence) -> object:
        return verify_fresh(
            SNP,
            evidence,
            anchors=SnpAnchors.production(),
            collateral=collateral,
            report_data=evidence.report[REPORT_DATA_AT],
            at=AppraisalContext(now=now, rule=rule, cache=Cache()),
        )

    codes = codes_of_flips(Evidence(Tee.SEV_SNP, raw, certificates(folder / leaf), b""), verify)
    assert "SIGNATURE_INVALID" in codes
    assert "NONCE_MISMATCH" not in codes


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_number_of_altered_bytes(testbed: SnpTestbed, data: st.DataObject) -> None:
    evidence = testbed.evidence()
    report = bytearray(evidence.report)
    positions = st.lists(st.integers(0, SIGNED_SIZE - 1), min_size=1, max_size=8, unique=True)
    for position in data.draw(positions):
        report[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((ParseError, AttestationError)):
        testbed.verify(replace(evidence, report=bytes(report)))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64) | st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE))
def test_noise_in_place_of_a_report(testbed: SnpTestbed, noise: bytes) -> None:
    with pytest.raises(ParseError):
        testbed.verify(replace(testbed.evidence(), report=noise))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=64), max_size=4))
def test_noise_in_place_of_certificates(testbed: SnpTestbed, noise: list[bytes]) -> None:
    with pytest.raises((ParseError, AttestationError)):
        testbed.verify(replace(testbed.evidence(), endorsements=tuple(noise)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2), st.data())
def test_spliced_certificates(testbed: SnpTestbed, which: int, data: st.DataObject) -> None:
    """Arbitrary edits of certificates end in our errors only."""
    evidence = testbed.evidence()
    chain = list(evidence.endorsements)
    der = chain[which]
    start = data.draw(st.integers(0, len(der)))
    end = data.draw(st.integers(start, len(der)))
    chain[which] = der[:start] + data.draw(st.binary(max_size=16)) + der[end:]
    alone = SnpCollateral((), (testbed.platform.crl,))
    altered = replace(evidence, endorsements=tuple(chain))
    assume(chain[which] != der)
    with pytest.raises((ParseError, AttestationError)):
        testbed.verify(altered, collateral=alone)
