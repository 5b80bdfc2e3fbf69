"""Devices for the policy scenario: eight GPUs and a policy that accepts exactly them."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from regalia.appraisal.claims import MINT, Hardware, Revocation
from regalia.core.types import Digest
from regalia.tees.nvidia.claims import NvidiaClaims, RimFact
from regalia.tees.nvidia.names import Feature, Status
from regalia.tees.nvidia.policy.section import Device
from regalia.wire.evidence import DeviceKind
from regalia_testing.policy_scenario import attest, demand

if TYPE_CHECKING:
    from regalia_testing.policy_scenario import Break, Breaks, PolicyScenario

GPUS = 8


def gpu_claims(number: int, **fields: Any) -> NvidiaClaims:  # noqa: ANN401 - any claim
    """A GPU's claims as a verifier makes them; ``fields`` are what is different."""
    claims = NvidiaClaims(
        kind=DeviceKind.NVIDIA_GPU,
        hardware=Hardware.GENUINE,
        revocation=Revocation.CHECKED,
        evidence_digest=Digest.of(b"gpu %d" % number),
        identity=b"\x41" + number.to_bytes(8, "big"),
        nonce=b"\x66" * 32,
        model="GH100",
        hwmodel="GH100 A01 GSP BROM",
        ueid=str(1000 + number),
        driver_version="590.12",
        vbios_version="96.00.A5.00.01",
        feature=Feature.SPT,
        protected_pcie=Status.DISABLED,
        nvdec0=Status.DISABLED,
        fwid=b"\x77" * 48,
        fwid_reported=True,
        debug=False,
        rims=(RimFact("NV_GPU_DRIVER_GH100_590.12", "590.12", Digest.of(b"rim")),),
        rims_missing=(),
        pdi=b"",
        switch_pdis=(),
        gpu_pdis=(),
        opaque_addition=(),
        mint=MINT,
    )
    return replace(claims, mint=MINT, **fields)


def gpu_entry(**fields: Any) -> Device:  # noqa: ANN401 - any field
    """The entry that those GPUs meet."""
    entry = Device(
        kind="nvidia-gpu",
        count=GPUS,
        models=["GH100"],
        features=["SPT"],
        driver_versions=["590.12", "595.1"],
        driver_minimum="570.86.10",
        vbios_versions=["96.00.A5.00.01"],
        identities=[gpu_claims(number).identity.hex() for number in range(GPUS)],
        rim="required",
        revocation="required",
    )
    return msgspec.structs.replace(entry, **fields)


def with_gpus(scenario: PolicyScenario) -> PolicyScenario:
    """The scenario with eight GPUs, accepted."""
    devices = tuple(gpu_claims(number) for number in range(GPUS))
    return scenario.attest(devices=devices).demand("platform.devices", [gpu_entry()])


def _one(**fields: Any) -> Break:  # noqa: ANN401 - any claim
    """One of the eight is different."""

    def change(scenario: PolicyScenario) -> PolicyScenario:
        devices = scenario.claims.devices
        return scenario.attest(devices=(*devices[:-1], gpu_claims(GPUS - 1, **fields)))

    return change


def _entry(**fields: Any) -> Break:  # noqa: ANN401 - any field
    """The entry demands something else."""
    return lambda scenario: scenario.demand("platform.devices", [gpu_entry(**fields)])


# Each starts from ``with_gpus``.
DEVICE_DEFECTS: Breaks = MappingProxyType(
    {
        "none_wanted": ("DEVICE_SET_MISMATCH", demand("platform.devices", [])),
        "none_there": ("DEVICE_SET_MISMATCH", attest(devices=())),
        "one_less": ("DEVICE_SET_MISMATCH", lambda s: s.attest(devices=s.claims.devices[:-1])),
        "one_more": ("DEVICE_SET_MISMATCH", _entry(count=GPUS - 1)),
        "other_model": ("DEVICE_SET_MISMATCH", _entry(models=["GB100"], count=GPUS)),
        "other_kind": ("DEVICE_SET_MISMATCH", _entry(kind="nvidia-switch")),
        "debug": ("DEBUG_ENABLED", _one(debug=True)),
        "identity": ("INSTANCE_NOT_ALLOWED", _one(identity=b"\x41" + bytes(7) + b"\x99")),
        "feature": ("DEVICE_FEATURE_DENIED", _one(feature=Feature.MPT)),
        "feature_unstated": ("DEVICE_FEATURE_DENIED", _one(feature=Feature.UNSTATED)),
        "driver": ("DEVICE_FIRMWARE_DENIED", _one(driver_version="590.13")),
        "driver_old": (
            "DEVICE_FIRMWARE_DENIED",
            _entry(driver_versions="any", driver_minimum="590.12.1"),
        ),
        "driver_no_number": (
            "DEVICE_FIRMWARE_DENIED",
            lambda s: _one(driver_version="beta")(_entry(driver_versions="any")(s)),
        ),
        "vbios": ("DEVICE_FIRMWARE_DENIED", _one(vbios_version="96.00.A5.00.02")),
        "rim_missing": ("RIM_MISSING", _one(rims_missing=("NV_GPU_VBIOS_X",))),
        "rim_none": ("RIM_MISSING", _one(rims=())),
        "revocation": ("REVOCATION_UNKNOWN", _one(revocation=Revocation.UNKNOWN)),
        "late": ("COLLATERAL_LATE", _one(revocation=Revocation.GRACE)),
        "empty_models": ("EMPTY_RULE", lambda s: _entry(models=[])(s).attest(devices=())),
        "empty_features": ("EMPTY_RULE", _entry(features=[])),
        "empty_drivers": ("EMPTY_RULE", _entry(driver_versions=[])),
        "empty_vbios": ("EMPTY_RULE", _entry(vbios_versions=[])),
        "empty_identities": ("EMPTY_RULE", _entry(identities=[])),
    }
)
