"""Simulated NVIDIA GPUs and NVSwitches that issue format-true SPDM reports (DESIGN D12).

A machine's devices are a directory that holds their own throw-away NVIDIA: whoever can read it
forges evidence at will, so evidence from it **protects nothing**.

    platform.json   what there is
    *.key           of the authorities, and two of each device; P-384, PKCS #8 in DER, mode 600
    collateral/     device-root.der, rim-*.json, key-denials.json: what a verifier is given
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.claims import Hardware
from regalia.core.clock import rfc3339
from regalia.core.codec import exact, unhex
from regalia.core.types import Digest, KeyFingerprint
from regalia.host.clock import system_clock
from regalia.tees.nvidia.evidence import NvidiaAnchors, NvidiaCollateral
from regalia.tees.nvidia.evidence.key_denials import KeyDenials
from regalia.tees.nvidia.evidence.models import MODELS, wanted_rims
from regalia.tees.nvidia.evidence.rims import Rim, RimSigner
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.wire.evidence import DEVICE_NONCE_SIZE, DeviceEvidence, DeviceKind
from regalia_testing.anchors import simulated_pin
from regalia_testing.folder import (
    State,
    make_folder,
    named_keys,
    read_ec_key,
    read_keys,
    read_state,
    write_folder,
)
from regalia_testing.tees.nvidia.authority import NvidiaAuthority, NvidiaKeys, spki
from regalia_testing.tees.nvidia.defects import HEALTHY_DEVICE
from regalia_testing.tees.nvidia.reports import (
    INDICES,
    build_report,
    gpu_opaque,
    measurement,
    sign_report,
    switch_opaque,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from regalia_testing.folder import PrivateKey
    from regalia_testing.tees.nvidia.defects import NvidiaDefects

FORMAT = "regalia/simulated-devices/v1"
GPU_MODEL, SWITCH_MODEL = "GH100", "LS_10"
YEAR = timedelta(days=365)
_SERIAL_PREFIX = {DeviceKind.NVIDIA_GPU: b"\x41", DeviceKind.NVIDIA_SWITCH: b"\x50"}
_FOREIGN = hashlib.sha256(b"a switch of another machine").digest()[:8]


@dataclass(frozen=True, slots=True, repr=False)
class SimulatedDevice:
    """One chip: its key, its certificates, and its firmware."""

    model: str
    pdi: bytes  # 8
    key: ec.EllipticCurvePrivateKey  # of the device
    leaf_key: ec.EllipticCurvePrivateKey
    upper: tuple[bytes, ...]  # device certificate ... root, DER

    @property
    def kind(self) -> DeviceKind:
        """GPU or switch."""
        return MODELS[self.model].kind

    @property
    def identity(self) -> bytes:
        """The serial number of its certificate."""
        return _SERIAL_PREFIX[self.kind] + self.pdi

    @property
    def fwid(self) -> bytes:
        """Of its boot firmware, 48 bytes."""
        return hashlib.sha384(f"regalia simulated FMC of {self.model}".encode()).digest()


@dataclass(frozen=True, slots=True, repr=False)
class NvidiaSimulator:
    """All devices of one simulated machine, GPUs first."""

    authority: NvidiaAuthority
    devices: tuple[SimulatedDevice, ...]

    @classmethod
    def make(
        cls,
        gpus: int = 1,
        switches: int = 0,
        *,
        now: datetime,
        keys: NvidiaKeys | None = None,
        gpu_model: str = GPU_MODEL,
    ) -> NvidiaSimulator:
        """Devices in memory, linked with one another if there are switches."""
        authority = NvidiaAuthority(keys or NvidiaKeys.generate(), now)
        models = (gpu_model,) * gpus + (SWITCH_MODEL,) * switches
        return cls(authority, tuple(_new_device(authority, model) for model in models))

    @classmethod
    def create(
        cls, directory: Path, gpus: int = 1, switches: int = 0, *, now: datetime | None = None
    ) -> NvidiaSimulator:
        """Make devices in a directory that is absent or empty.

        Raises:
            LocalError: the directory is not empty, or cannot be written.
        """
        make_folder(directory, what="simulated GPUs and switches")
        made = cls.make(gpus, switches, now=(now or system_clock()).replace(microsecond=0))
        state = _State(
            format=FORMAT,
            since=rfc3339(made.authority.since),
            devices=[_WireDevice(model=each.model, pdi=each.pdi.hex()) for each in made.devices],
        )
        write_folder(directory, state, made.keys(), made.files())
        return made

    @classmethod
    def open(cls, directory: Path) -> NvidiaSimulator:
        """Read devices that ``create`` made.

        Raises:
            LocalError: a file is missing or unreadable.
            ParseError: a file is not what ``create`` wrote.
        """
        state = read_state(directory, _State, expected=FORMAT)
        authority = NvidiaAuthority(read_keys(directory, NvidiaKeys), state.date())
        devices = tuple(
            _device(
                authority,
                each.model,
                unhex(each.pdi, what="pdi", size=8),
                read_ec_key(directory, f"device-{index}"),
                read_ec_key(directory, f"leaf-{index}"),
            )
            for index, each in enumerate(state.devices)
        )
        return cls(authority, devices)

    def keys(self) -> dict[str, PrivateKey]:
        """All private keys by the name of their files."""
        keys = named_keys(self.authority.keys)
        for index, device in enumerate(self.devices):
            keys |= {f"device-{index}": device.key, f"leaf-{index}": device.leaf_key}
        return keys

    def files(self) -> dict[str, bytes]:
        """Collateral as files by name."""
        collateral = self.collateral()
        rims = {f"rim-{index}.json": rim for index, rim in enumerate(collateral.rims)}
        (denials,) = collateral.denials
        return {"device-root.der": self.root, **rims, "key-denials.json": denials}

    @property
    def root(self) -> bytes:
        """The throw-away root, DER."""
        return self.devices[0].upper[-1]

    @property
    def gpus(self) -> tuple[SimulatedDevice, ...]:
        """The GPUs."""
        return tuple(d for d in self.devices if d.kind is DeviceKind.NVIDIA_GPU)

    @property
    def switches(self) -> tuple[SimulatedDevice, ...]:
        """The switches."""
        return tuple(d for d in self.devices if d.kind is DeviceKind.NVIDIA_SWITCH)

    def anchors(self) -> NvidiaAnchors:
        """This machine's root as the only anchor."""
        return simulated_pin(NvidiaAnchors, self.root)

    def collateral(self, defects: NvidiaDefects = HEALTHY_DEVICE) -> NvidiaCollateral:
        """Reference values of healthy firmware, and a list of denied keys that is empty."""
        since = self.authority.since
        denials = KeyDenials(since, since + YEAR, ())
        rims = {rim.id: rim.encode() for d in self.devices for rim in self._rims(d, defects)}
        return NvidiaCollateral(rims=tuple(rims.values()), denials=(denials.encode(),))

    def evidence(
        self, nonce: bytes, defects: NvidiaDefects = HEALTHY_DEVICE
    ) -> tuple[DeviceEvidence, ...]:
        """Of every device, over ``nonce`` (32 bytes)."""
        return tuple(self.evidence_of(device, nonce, defects) for device in self.devices)

    def evidence_of(
        self, device: SimulatedDevice, nonce: bytes, defects: NvidiaDefects = HEALTHY_DEVICE
    ) -> DeviceEvidence:
        """Of one of them."""
        exact(nonce, DEVICE_NONCE_SIZE, what="device nonce")
        opaque = self._opaque(device, defects)
        report = build_report(device.model, device.kind, nonce, opaque, defects)
        raw = sign_report(report, device.leaf_key, defects)
        return DeviceEvidence(device.kind, raw, (self.leaf(device, defects), *device.upper))

    def leaf(self, device: SimulatedDevice, defects: NvidiaDefects = HEALTHY_DEVICE) -> bytes:
        """The leaf that comes along, DER."""
        named = device.leaf_key if defects.device_key_mismatch else device.key
        spec = self.authority.leaf(
            device.model,
            device.leaf_key.public_key(),
            named.public_key(),
            device.fwid,
            debug=defects.debug,
        )
        if defects.leaf_expired:
            spec = replace(spec, not_after=spec.not_before + timedelta(seconds=1))
        return spec.sign(device.key)

    def _opaque(
        self, device: SimulatedDevice, defects: NvidiaDefects
    ) -> tuple[tuple[int, bytes], ...]:
        others = self.switches if device.kind is DeviceKind.NVIDIA_GPU else self.gpus
        links = tuple(other.pdi for other in others)
        if defects.foreign_links and links:
            links = (_FOREIGN, *links[1:])
        if device.kind is DeviceKind.NVIDIA_SWITCH:
            return switch_opaque(_FOREIGN if defects.pdi_mismatch else device.pdi, links, defects)
        fwid = hashlib.sha384(b"another FMC").digest() if defects.fwid_mismatch else device.fwid
        return gpu_opaque(fwid, links, defects)

    def _rims(self, device: SimulatedDevice, defects: NvidiaDefects) -> list[Rim]:
        since = self.authority.since
        opaque = self._opaque(device, defects)
        report = build_report(device.model, device.kind, bytes(32), opaque, defects)
        decoded = decode_opaque(report, switch=device.kind is DeviceKind.NVIDIA_SWITCH)
        key = KeyFingerprint.of(spki(self.authority.keys.root.public_key()))
        return [
            Rim(
                id=identifier,
                kind=kind,
                hardware=Hardware.SIMULATED,
                product=device.model.replace("_", ""),
                version=version,
                measurements=tuple(
                    (index, (measurement(device.model, index),)) for index in INDICES[kind]
                ),
                source=Digest.of(identifier.encode()),
                signer=RimSigner("Simulated RIM signer", key, key, since, since + YEAR),
                ingested_at=since,
            )
            for kind, identifier, version in wanted_rims(MODELS[device.model], decoded)
        ]


class _WireDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    model: str
    pdi: str


class _State(State, frozen=True, kw_only=True):
    devices: list[_WireDevice]


def _new_device(authority: NvidiaAuthority, model: str) -> SimulatedDevice:
    key, leaf_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    return _device(authority, model, secrets.token_bytes(8), key, leaf_key)


def _device(
    authority: NvidiaAuthority,
    model: str,
    pdi: bytes,
    key: ec.EllipticCurvePrivateKey,
    leaf_key: ec.EllipticCurvePrivateKey,
) -> SimulatedDevice:
    """Signatures are deterministic, so a device that was written has the same chain again."""
    keys = authority.keys
    serial = _SERIAL_PREFIX[MODELS[model].kind] + pdi
    upper = (
        authority.device(model, serial, key.public_key()).sign(keys.provisioner),
        authority.provisioner(model).sign(keys.identity),
        authority.identity().sign(keys.root),
        authority.root().sign(keys.root),
    )
    return SimulatedDevice(model, pdi, key, leaf_key, upper)
