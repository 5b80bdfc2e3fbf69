"""Simulated NVIDIA GPUs and NVSwitches that issue format-true SPDM reports (DESIGN D12).

A machine's devices are a directory that holds their own throw-away NVIDIA: whoever can read it
forges evidence at will, so evidence from it **protects nothing**.

    devices.json    what there is, and all keys; mode 600
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
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from regalia.appraisal.claims import Hardware
from regalia.core.clock import parse_rfc3339, rfc3339
from regalia.core.codec import MIB, b64, canonical_json, exact, parse_json, unb64, unhex
from regalia.core.errors import CoreCode, LocalError, ParseError
from regalia.core.types import Digest, KeyFingerprint
from regalia.host.clock import system_clock
from regalia.host.localfs import os_errors, read_private_file, write_new
from regalia.tees.nvidia.evidence import NvidiaAnchors, NvidiaCollateral
from regalia.tees.nvidia.evidence.key_denials import KeyDenials
from regalia.tees.nvidia.evidence.models import MODELS, wanted_rims
from regalia.tees.nvidia.evidence.rims import Rim, RimSigner
from regalia.tees.nvidia.evidence.wire import decode_opaque
from regalia.wire.evidence import DEVICE_NONCE_SIZE, DeviceEvidence, DeviceKind
from regalia_testing.anchors import simulated_pin
from regalia_testing.tees.nvidia.authority import DeviceAuthority, DeviceKeys, spki
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

    from regalia_testing.tees.nvidia.defects import DeviceDefects

FORMAT = "regalia/simulated-devices/v1"
MARKER = "SIMULATED-PROTECTS-NOTHING.txt"
MARKER_TEXT = """This directory holds simulated GPUs and switches, made for tests and the demo.

Its keys forge evidence for anybody who reads them. A verifier that trusts device-root.der is
protected from nobody. Never use it for a model or a prompt that matters.
"""
GPU_MODEL, SWITCH_MODEL = "GH100", "LS_10"
YEAR = timedelta(days=365)
_SERIAL_PREFIX = {DeviceKind.NVIDIA_GPU: b"\x41", DeviceKind.NVIDIA_SWITCH: b"\x50"}
_FOREIGN = hashlib.sha256(b"a switch of another machine").digest()[:8]
_LIMIT = MIB


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
class SimulatedDevices:
    """All devices of one simulated machine, GPUs first."""

    authority: DeviceAuthority
    devices: tuple[SimulatedDevice, ...]

    @classmethod
    def make(
        cls,
        gpus: int = 1,
        switches: int = 0,
        *,
        now: datetime,
        keys: DeviceKeys | None = None,
        gpu_model: str = GPU_MODEL,
    ) -> SimulatedDevices:
        """Devices in memory, linked with one another if there are switches."""
        authority = DeviceAuthority(keys or DeviceKeys.generate(), now)
        models = (gpu_model,) * gpus + (SWITCH_MODEL,) * switches
        return cls(authority, tuple(_device(authority, model) for model in models))

    @classmethod
    def create(
        cls, directory: Path, gpus: int = 1, switches: int = 0, *, now: datetime | None = None
    ) -> SimulatedDevices:
        """Make devices in a directory that is absent or empty.

        Raises:
            LocalError: the directory is not empty, or cannot be written.
        """
        with os_errors(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise LocalError(CoreCode.FILE_EXISTS, f"{directory} is not empty")
            (directory / "collateral").mkdir()
        made = cls.make(gpus, switches, now=(now or system_clock()).replace(microsecond=0))
        write_new(directory / MARKER, MARKER_TEXT.encode())
        write_new(directory / "devices.json", _encode(made), mode=0o600)
        collateral = made.collateral()
        write_new(directory / "collateral" / "device-root.der", made.root)
        for index, rim in enumerate(collateral.rims):
            write_new(directory / "collateral" / f"rim-{index}.json", rim)
        (denials,) = collateral.denials
        write_new(directory / "collateral" / "key-denials.json", denials)
        return made

    @classmethod
    def open(cls, directory: Path) -> SimulatedDevices:
        """Read devices that ``create`` made.

        Raises:
            LocalError: a file is missing or unreadable.
            ParseError: a file is not what ``create`` wrote.
        """
        data = read_private_file(directory / "devices.json", limit=_LIMIT)
        state = parse_json(data, _State, limit=_LIMIT, what="simulated devices")
        if state.format != FORMAT or len(state.authority) != len(DeviceKeys.__slots__):
            raise ParseError(CoreCode.MALFORMED, f"{directory} holds no simulated devices")
        try:
            since = parse_rfc3339(state.since)
        except ValueError as exc:
            raise ParseError(CoreCode.MALFORMED, "simulated devices: bad date") from exc
        authority = DeviceAuthority(DeviceKeys(*map(_load, state.authority)), since)
        devices = tuple(
            SimulatedDevice(
                each.model,
                unhex(each.pdi, what="pdi", size=8),
                _load(each.key),
                _load(each.leaf_key),
                tuple(unb64(der, what="certificate") for der in each.upper),
            )
            for each in state.devices
        )
        return cls(authority, devices)

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

    def collateral(self, defects: DeviceDefects = HEALTHY_DEVICE) -> NvidiaCollateral:
        """Reference values of healthy firmware, and a list of denied keys that is empty."""
        since = self.authority.since
        denials = KeyDenials(since, since + YEAR, ())
        rims = {rim.id: rim.encode() for d in self.devices for rim in self._rims(d, defects)}
        return NvidiaCollateral(rims=tuple(rims.values()), denials=(denials.encode(),))

    def evidence(
        self, nonce: bytes, defects: DeviceDefects = HEALTHY_DEVICE
    ) -> tuple[DeviceEvidence, ...]:
        """Of every device, over ``nonce`` (32 bytes)."""
        return tuple(self.evidence_of(device, nonce, defects) for device in self.devices)

    def evidence_of(
        self, device: SimulatedDevice, nonce: bytes, defects: DeviceDefects = HEALTHY_DEVICE
    ) -> DeviceEvidence:
        """Of one of them."""
        exact(nonce, DEVICE_NONCE_SIZE, what="device nonce")
        opaque = self._opaque(device, defects)
        report = build_report(device.model, device.kind, nonce, opaque, defects)
        raw = sign_report(report, device.leaf_key, defects)
        return DeviceEvidence(device.kind, raw, (self.leaf(device, defects), *device.upper))

    def leaf(self, device: SimulatedDevice, defects: DeviceDefects = HEALTHY_DEVICE) -> bytes:
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
        self, device: SimulatedDevice, defects: DeviceDefects
    ) -> tuple[tuple[int, bytes], ...]:
        others = self.switches if device.kind is DeviceKind.NVIDIA_GPU else self.gpus
        links = tuple(other.pdi for other in others)
        if defects.foreign_links and links:
            links = (_FOREIGN, *links[1:])
        if device.kind is DeviceKind.NVIDIA_SWITCH:
            return switch_opaque(_FOREIGN if defects.pdi_mismatch else device.pdi, links, defects)
        fwid = hashlib.sha384(b"another FMC").digest() if defects.fwid_mismatch else device.fwid
        return gpu_opaque(fwid, links, defects)

    def _rims(self, device: SimulatedDevice, defects: DeviceDefects) -> list[Rim]:
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
    key: str
    leaf_key: str
    upper: list[str]


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    since: str
    authority: list[str]
    devices: list[_WireDevice]


def _encode(machine: SimulatedDevices) -> bytes:
    keys = machine.authority.keys
    return canonical_json(
        _State(
            format=FORMAT,
            since=rfc3339(machine.authority.since),
            authority=[_save(key) for key in (keys.root, keys.identity, keys.provisioner)],
            devices=[
                _WireDevice(
                    model=device.model,
                    pdi=device.pdi.hex(),
                    key=_save(device.key),
                    leaf_key=_save(device.leaf_key),
                    upper=[b64(der) for der in device.upper],
                )
                for device in machine.devices
            ],
        )
    )


def _device(authority: DeviceAuthority, model: str) -> SimulatedDevice:
    keys = authority.keys
    key, leaf_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    pdi = secrets.token_bytes(8)
    serial = _SERIAL_PREFIX[MODELS[model].kind] + pdi
    upper = (
        authority.device(model, serial, key.public_key()).sign(keys.provisioner),
        authority.provisioner(model).sign(keys.identity),
        authority.identity().sign(keys.root),
        authority.root().sign(keys.root),
    )
    return SimulatedDevice(model, pdi, key, leaf_key, upper)


def _save(key: ec.EllipticCurvePrivateKey) -> str:
    return b64(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def _load(text: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_der_private_key(unb64(text, what="key"), None)
    except (ValueError, TypeError) as exc:
        raise ParseError(CoreCode.MALFORMED, "simulated devices: not a private key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ParseError(CoreCode.MALFORMED, "simulated devices: not an EC key")
    return key
