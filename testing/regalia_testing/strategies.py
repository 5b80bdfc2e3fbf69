"""Hypothesis strategies for evidence. Needs ``hypothesis``, which only tests install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from regalia.core.types import Digest, ModelId, PolicyId
from regalia.tees.snp.evidence.wire import (
    CPUID_SINCE_VERSION,
    FIELDS,
    MIT_VECTOR_SINCE_VERSION,
    SIGNATURE_ALGO_ECDSA_P384_SHA384,
    VERSIONS,
    SnpReport,
    key_info,
)
from regalia.tees.snp.names import GUEST_POLICY_DEFINED, GuestPolicyBit
from regalia.wire.evidence import Binding, DeviceEvidence, DeviceKind, Evidence, Role, Tee

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_INTEGER_BITS = {"B": 8, "I": 32, "Q": 64}
_SCALAR = st.binary(min_size=48, max_size=48).map(lambda low: low + bytes(24))


def _field(code: str) -> SearchStrategy[int] | SearchStrategy[bytes]:
    if code in _INTEGER_BITS:
        return st.integers(0, 2 ** _INTEGER_BITS[code] - 1)
    size = int(code.removesuffix("s"))
    return st.binary(min_size=size, max_size=size)


@st.composite
def snp_reports(draw: DrawFn) -> SnpReport:
    """Any report that parses: all fields arbitrary within what the ABI defines."""
    values: dict[str, Any] = {name: draw(_field(code)) for _, code, name in FIELDS if name}
    version = draw(st.sampled_from(VERSIONS))
    values |= {
        "version": version,
        "signature_algo": SIGNATURE_ALGO_ECDSA_P384_SHA384,
        "policy": values["policy"] & GUEST_POLICY_DEFINED | 1 << GuestPolicyBit.RESERVED_ONE,
        "key_info": key_info(
            signing_key=draw(st.integers(0, 7)),
            mask_chip_key=draw(st.booleans()),
            author_key_en=draw(st.booleans()),
        ),
        "signature_r": draw(_SCALAR),
        "signature_s": draw(_SCALAR),
    }
    if version < CPUID_SINCE_VERSION:
        values |= {"cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0}
    if version < MIT_VECTOR_SINCE_VERSION:
        values |= {"launch_mit_vector": 0, "current_mit_vector": 0}
    return SnpReport(**values)


def devices() -> SearchStrategy[DeviceEvidence]:
    """Any device's evidence; its contents are noise."""
    return st.builds(
        DeviceEvidence,
        kind=st.sampled_from(DeviceKind),
        report=st.binary(max_size=32),
        endorsements=st.lists(st.binary(max_size=16), max_size=8).map(tuple),
    )


def evidence() -> SearchStrategy[Evidence]:
    """Any evidence envelope; its contents are noise."""
    return st.builds(
        Evidence,
        tee=st.sampled_from(Tee),
        report=st.binary(max_size=64),
        endorsements=st.lists(st.binary(max_size=32), max_size=8).map(tuple),
        runtime_config=st.binary(max_size=64),
        event_log=st.binary(max_size=32),
        devices=st.lists(devices(), max_size=3).map(tuple),
    )


def bindings() -> SearchStrategy[Binding]:
    """Any binding."""
    digest = st.binary(min_size=32, max_size=32)
    return st.builds(
        Binding,
        role=st.sampled_from(Role),
        audience=st.text(max_size=16),
        challenge=digest,
        hpke_public_key=st.binary(max_size=16),
        wrap_public_key=st.binary(max_size=16),
        model_id=digest.map(ModelId),
        policy_id=digest.map(PolicyId),
        device_evidence=digest.map(Digest),
    )
