"""The evidence envelope and the binding: one encoding, and no two bindings with one digest."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regalia.core.codec import canonical_json
from regalia.core.errors import ParseError
from regalia.core.types import Digest
from regalia.wire.evidence import (
    CHALLENGE_SIZE,
    DEVICES_MAX,
    ENDORSEMENTS_MAX,
    ENVELOPE_LIMIT,
    NO_DEVICES,
    REPORT_DATA_SIZE,
    Binding,
    Evidence,
    Tee,
    devices_digest,
    parse_evidence,
)
from regalia_testing.strategies import bindings, devices, evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from regalia.wire.evidence import DeviceEvidence

SMALL = Evidence(Tee.SEV_SNP, b"report", (b"leaf", b"issuer"), b"configuration")


@given(evidence())
def test_parse_inverts_encode(value: Evidence) -> None:
    data = value.encode()
    assert parse_evidence(data) == value
    assert parse_evidence(data).encode() == data


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_evidence(data)


@given(st.integers(0, len(SMALL.encode()) - 1), st.integers(1, 255))
def test_an_altered_envelope_is_another_or_none(position: int, change: int) -> None:
    data = bytearray(SMALL.encode())
    data[position] ^= change
    try:
        parsed = parse_evidence(bytes(data))
    except ParseError:
        return
    assert parsed != SMALL
    assert parsed.encode() == bytes(data)


WIRE = {
    "format": "regalia/evidence/v2",
    "tee": "sev-snp",
    "report": "",
    "endorsements": [],
    "event_log": "",
    "runtime_config": "",
    "devices": [],
}
DEVICE = {"kind": "nvidia-gpu", "report": "", "endorsements": []}


def test_the_wire_form_is_what_the_defects_below_start_from() -> None:
    assert parse_evidence(canonical_json(WIRE)) == Evidence(Tee.SEV_SNP, b"", (), b"")


@pytest.mark.parametrize(
    ("defect", "code"),
    [
        (lambda w: canonical_json({**w, "format": "regalia/evidence/v1"}), "MALFORMED"),
        (lambda w: canonical_json({**w, "tee": "sev-es"}), "MALFORMED"),
        (lambda w: canonical_json({**w, "extra": 1}), "MALFORMED"),
        (lambda w: canonical_json({k: v for k, v in w.items() if k != "report"}), "MALFORMED"),
        (lambda w: canonical_json({**w, "report": "AB=="}), "MALFORMED"),  # not canonical
        (lambda w: canonical_json({**w, "report": None}), "MALFORMED"),
        (lambda w: canonical_json(w) + b"\n", "MALFORMED"),
        (lambda w: canonical_json(w).replace(b'"tee"', b' "tee"'), "MALFORMED"),
        (
            lambda w: canonical_json({**w, "endorsements": [""] * (ENDORSEMENTS_MAX + 1)}),
            "TOO_LARGE",
        ),
        (lambda w: canonical_json({**w, "devices": [DEVICE] * (DEVICES_MAX + 1)}), "TOO_LARGE"),
        (lambda w: canonical_json({**w, "devices": [{**DEVICE, "kind": "gpu"}]}), "MALFORMED"),
        (lambda _: b" " * (ENVELOPE_LIMIT + 1), "TOO_LARGE"),
    ],
)
def test_envelope_defects(defect: Callable[[dict[str, object]], bytes], code: str) -> None:
    with pytest.raises(ParseError) as refusal:
        parse_evidence(defect(dict(WIRE)))
    assert refusal.value.code.name == code


@given(evidence())
def test_the_digest_is_that_of_the_one_encoding(value: Evidence) -> None:
    """Parsed, made by hand or copied: remembering it changes nothing."""
    encoded = value.encode()
    parsed = parse_evidence(encoded)
    assert parsed.digest() == Digest.of(encoded) == value.digest() == value.digest()
    assert parsed == value
    assert replace(parsed).digest() == parsed.digest()
    other = replace(parsed, report=parsed.report + b"x")
    assert other.digest() == Digest.of(other.encode()) != parsed.digest()


@given(devices())
def test_a_devices_digest_follows_its_bytes(value: DeviceEvidence) -> None:
    before = value.digest()
    assert replace(value).digest() == value.digest() == before
    assert replace(value, report=value.report + b"x").digest() != before
    kept = replace(value, endorsements=(*value.endorsements, b""))
    assert kept.digest() != before


@given(st.lists(devices(), max_size=4), st.lists(devices(), max_size=4))
def test_the_devices_digest_binds_every_device_and_their_order(
    one: list[DeviceEvidence], other: list[DeviceEvidence]
) -> None:
    assert (devices_digest(one) == devices_digest(other)) == (one == other)


def test_no_devices_have_the_digest_that_bindings_use() -> None:
    assert devices_digest(()).raw == NO_DEVICES


@given(bindings(), bindings())
def test_different_bindings_differ_in_report_data(one: Binding, other: Binding) -> None:
    assert len(one.report_data()) == REPORT_DATA_SIZE
    assert (one.report_data() == other.report_data()) == (one == other)


@given(bindings(), bindings(), st.sampled_from(fields(Binding)))
def test_every_field_of_the_binding_counts(one: Binding, other: Binding, field: object) -> None:
    name = field.name  # type: ignore[attr-defined]
    changed = replace(one, **{name: getattr(other, name)})
    assert (changed.report_data() == one.report_data()) == (changed == one)


@given(bindings(), st.binary(min_size=1, max_size=8))
def test_bytes_do_not_move_between_neighbors(one: Binding, moved: bytes) -> None:
    """What ends one field is not what begins the next: lengths are part of the hash."""
    left = replace(one, hpke_public_key=one.hpke_public_key + moved)
    right = replace(one, wrap_public_key=moved + one.wrap_public_key)
    assert left.report_data() != right.report_data()


@given(bindings(), st.integers(0, 64).filter(lambda size: size != CHALLENGE_SIZE))
def test_a_challenge_is_never_padded_or_cut(one: Binding, size: int) -> None:
    with pytest.raises(ParseError):
        replace(one, challenge=b"x" * size).report_data()
