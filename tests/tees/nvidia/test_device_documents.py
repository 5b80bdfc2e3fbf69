"""Reference values, denied keys, and NVIDIA's own lists of evidence."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.appraisal.claims import Hardware
from regalia.core.codec import canonical_json
from regalia.core.errors import ParseError
from regalia.core.types import Digest, KeyFingerprint
from regalia.inspect.recognize import recognize
from regalia.tees.nvidia.evidence.key_denials import KeyDenials, parse_key_denials
from regalia.tees.nvidia.evidence.nvtrust import LIMIT, parse_nvidia_evidence, parse_pem_chain
from regalia.tees.nvidia.evidence.rims import (
    ALTERNATIVES_MAX,
    INDEX_MAX,
    Rim,
    RimKind,
    RimSigner,
    parse_rim,
)
from regalia.verifier.collateral import parse_collateral
from regalia.wire.collateral import CollateralKind
from regalia.wire.evidence import DEVICES_MAX, DeviceKind
from regalia_testing.tees.snp.testbed import refused

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = KeyFingerprint(bytes(32))
SIGNER = RimSigner("HCC RIM L4 Signer", KEY, KEY, NOW, NOW + timedelta(days=730))
RIM = Rim(
    id="NV_GPU_DRIVER_GH100_590.12",
    kind=RimKind.GPU_DRIVER,
    hardware=Hardware.GENUINE,
    product="GH100",
    version="590.12",
    measurements=((0, (bytes(48),)), (7, (b"\x01" * 48, b"\x02" * 48))),
    source=Digest(bytes(32)),
    signer=SIGNER,
    ingested_at=NOW,
)

values = st.binary(min_size=48, max_size=48)
measurement_sets = st.dictionaries(
    st.integers(0, INDEX_MAX),
    st.lists(values, min_size=1, max_size=3, unique=True).map(tuple),
    min_size=1,
    max_size=8,
).map(lambda found: tuple(sorted(found.items())))


@given(measurement_sets, st.sampled_from(RimKind), st.sampled_from(Hardware))
def test_a_rim_survives_its_encoding(
    measurements: tuple[tuple[int, tuple[bytes, ...]], ...], kind: RimKind, hardware: Hardware
) -> None:
    rim = replace(RIM, measurements=measurements, kind=kind, hardware=hardware)
    assert parse_rim(rim.encode()) == rim
    assert parse_rim(rim.encode()).encode() == rim.encode()


def wire(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(data)
    change(document)
    return canonical_json(document)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda w: w.update(format="regalia/rim/v2"), "MALFORMED"),
        (lambda w: w.update(kind="driver"), "MALFORMED"),
        (lambda w: w.update(hardware="any"), "MALFORMED"),
        (lambda w: w.update(measurements=[]), "MALFORMED"),
        (lambda w: w["measurements"].reverse(), "MALFORMED"),
        (lambda w: w["measurements"].append(w["measurements"][-1]), "MALFORMED"),
        (lambda w: w["measurements"][0].update(index=-1), "MALFORMED"),
        (lambda w: w["measurements"][1].update(index=INDEX_MAX + 1), "MALFORMED"),
        (lambda w: w["measurements"][0].update(values=[]), "MALFORMED"),
        (lambda w: w["measurements"][0].update(values=["00" * 47]), "MALFORMED"),
        (lambda w: w["measurements"][0].update(values=["AA" * 48]), "MALFORMED"),
        (lambda w: w["measurements"][0].update(values=["00" * 48] * 2), "MALFORMED"),
        (
            lambda w: w["measurements"][0].update(
                values=[f"{n:096x}" for n in range(ALTERNATIVES_MAX + 1)]
            ),
            "TOO_LARGE",
        ),
        (lambda w: w.update(id=""), "MALFORMED"),
        (lambda w: w.update(id="a/b"), "MALFORMED"),
        (lambda w: w.update(version="1 2"), "MALFORMED"),
        (lambda w: w.update(product="x" * 129), "MALFORMED"),
        (lambda w: w.update(source="sha256:00"), "MALFORMED"),
        (lambda w: w["signer"].update(subject="\x1b"), "MALFORMED"),
        (lambda w: w["signer"].update(not_after="2026"), "MALFORMED"),
        (lambda w: w.update(ingested_at=""), "MALFORMED"),
        (lambda w: w.update(more=1), "MALFORMED"),
        (lambda w: w.pop("hardware"), "MALFORMED"),
    ],
)
def test_an_ill_formed_rim(change: Callable[[dict[str, Any]], object], code: str) -> None:
    refused(code, parse_rim, data=wire(RIM.encode(), change))


@given(st.sets(values.map(KeyFingerprint.of), max_size=5))
def test_denials_survive_their_encoding(keys: set[KeyFingerprint]) -> None:
    denials = KeyDenials(NOW, NOW + timedelta(days=1), tuple(sorted(keys, key=str)))
    assert parse_key_denials(denials.encode()) == denials
    assert denials.is_current(NOW)
    assert not denials.is_current(NOW - timedelta(seconds=1))
    assert not denials.is_current(NOW + timedelta(days=1, seconds=1))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.update(format="regalia/key-denials/v2"),
        lambda w: w.update(keys=["key:00"]),
        lambda w: w.update(keys=[str(KEY)] * 2),
        lambda w: w.update(next_update=w["this_update"]),
        lambda w: w.update(next_update="tomorrow"),
        lambda w: w.update(this_update="2030-01-01T00:00:00Z"),
        lambda w: w.pop("keys"),
    ],
)
def test_ill_formed_denials(change: Callable[[dict[str, Any]], object]) -> None:
    denials = KeyDenials(NOW, NOW + timedelta(days=1), (KEY,))
    refused("MALFORMED", parse_key_denials, data=wire(denials.encode(), change))


def test_collateral_folders_hold_both() -> None:
    denials = KeyDenials(NOW, NOW + timedelta(days=1), ()).encode()
    found = parse_collateral({"a.json": RIM.encode(), "b.json": denials})
    assert found.of(CollateralKind.RIM) == (RIM.encode(),)
    assert found.of(CollateralKind.KEY_DENIALS) == (denials,)
    assert found.certificates == found.crls == ()
    for bad in (b"{}", b"{", RIM.encode() + b"{"):
        refused("MALFORMED", parse_collateral, files={"c.json": bad})


PEM = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n"


def item(**changes: object) -> dict[str, object]:
    return {
        "arch": "HOPPER",
        "evidence": "AQID",
        "certificate": base64.b64encode((PEM * 5).encode()).decode(),
        "nonce": "not read",
        **changes,
    }


def test_lists_of_nvidias_tools() -> None:
    data = json.dumps([item(), item(arch="LS10"), item(arch="BLACKWELL")], indent=1).encode()
    found = parse_nvidia_evidence(data)
    assert [device.kind for device in found] == [
        DeviceKind.NVIDIA_GPU,
        DeviceKind.NVIDIA_SWITCH,
        DeviceKind.NVIDIA_GPU,
    ]
    assert found[0].report == b"\x01\x02\x03"
    assert found[0].endorsements == (base64.b64decode("AAAABBBB"),) * 5
    assert recognize(b"\n" + data).devices == found


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[]", "MALFORMED"),
        (b"[", "MALFORMED"),
        (b"[1]", "MALFORMED"),
        (b"[" * 100_000, "MALFORMED"),
        (b"[" + b" " * LIMIT, "TOO_LARGE"),
        (json.dumps([item()] * (DEVICES_MAX + 1)).encode(), "MALFORMED"),
        (json.dumps([item(arch="AMPERE")]).encode(), "MALFORMED"),
        (json.dumps([item(evidence="A?")]).encode(), "MALFORMED"),
        (json.dumps([item(certificate="")]).encode(), "MALFORMED"),
        (json.dumps([item(certificate="QUJD")]).encode(), "MALFORMED"),
        (json.dumps([{"arch": "HOPPER"}]).encode(), "MALFORMED"),
    ],
)
def test_lists_that_are_none(data: bytes, code: str) -> None:
    refused(code, parse_nvidia_evidence, data=data)


@pytest.mark.parametrize("text", ["", "x" + PEM, PEM + "x", PEM[:-20], PEM * 9])
def test_chains_in_pem_hold_nothing_else(text: str) -> None:
    with pytest.raises(ParseError):
        parse_pem_chain(text, what="chain")
