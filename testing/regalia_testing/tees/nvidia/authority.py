"""A throw-away NVIDIA: root, authorities, device and leaf certificates, and their defects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regalia.tees.nvidia.evidence.anchors import DEVICE_ROOT_NAME
from regalia.tees.nvidia.evidence.dice import OID_COMPOSITE_DEVICE_ID, OID_TCB_INFO
from regalia_testing.certificates import BACKDATED, CertificatePlan
from regalia_testing.der import OCTET_STRING, SEQUENCE, integer, oid, tlv
from regalia_testing.folder import new_ec_keys

FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_SHA384 = "2.16.840.1.101.3.4.2.2"
_BLACKWELL = "GB100"


@dataclass(frozen=True, slots=True, repr=False)
class NvidiaKeys:
    """Private keys of the simulated root and of the authorities below it, P-384."""

    root: ec.EllipticCurvePrivateKey
    identity: ec.EllipticCurvePrivateKey
    provisioner: ec.EllipticCurvePrivateKey  # of every model; each has its own certificate

    @classmethod
    def generate(cls) -> NvidiaKeys:
        """Fresh keys."""
        return new_ec_keys(cls, ec.SECP384R1())


@dataclass(frozen=True, slots=True)
class NvidiaAuthority:
    """Issues the chains of simulated devices, shaped like NVIDIA's."""

    keys: NvidiaKeys
    since: datetime

    def root(self) -> CertificatePlan:
        """Self-signed; sign it with ``keys.root``."""
        return self._authority(DEVICE_ROOT_NAME, DEVICE_ROOT_NAME, self.keys.root, serial=0x1001)

    def identity(self) -> CertificatePlan:
        """Sign it with ``keys.root``. Switches of Hopper machines share that of the GPUs."""
        name = "NVIDIA GH100 Identity"
        return self._authority(name, DEVICE_ROOT_NAME, self.keys.identity, serial=0x1002)

    def provisioner(self, model: str) -> CertificatePlan:
        """What provisions devices of one model; sign it with ``keys.identity``."""
        issuer = "NVIDIA GH100 Identity"
        name = f"NVIDIA {model} Provisioner ICA 1"
        return self._authority(name, issuer, self.keys.provisioner, serial=0x2000 + len(model))

    def device(self, model: str, serial: bytes, key: ec.EllipticCurvePublicKey) -> CertificatePlan:
        """The chip's own; sign it with ``keys.provisioner``."""
        return CertificatePlan(
            subject=f"{model} A01 GSP BROM",
            issuer=f"NVIDIA {model} Provisioner ICA 1",
            serial=int.from_bytes(serial, "big"),
            key=key,
            not_before=self.since - BACKDATED,
            not_after=FOREVER,
        )

    def leaf(
        self,
        model: str,
        key: ec.EllipticCurvePublicKey,
        device_key: ec.EllipticCurvePublicKey,
        fwid: bytes,
        *,
        debug: bool,
    ) -> CertificatePlan:
        """Of the firmware ``fwid`` on a device; sign it with the device's key."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(spki(key))
        value = tcb_info(model, fwid, debug=debug)
        dotted = OID_TCB_INFO
        if model != _BLACKWELL:
            value, dotted = composite_device_id(device_key, fwid), OID_COMPOSITE_DEVICE_ID
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value)
        return CertificatePlan(
            subject=f"{model} A01 GSP FMC LF",
            issuer=f"{model} A01 GSP BROM",
            serial=int.from_bytes(digest.finalize()[:20], "big") >> 1 | 1,
            key=key,
            not_before=self.since - BACKDATED,
            not_after=FOREVER,
            ca=False,
            constraints=False,
            usage=("digital_signature",),
            extensions=((extension, False),),
        )

    def _authority(
        self, name: str, issuer: str, key: ec.EllipticCurvePrivateKey, *, serial: int
    ) -> CertificatePlan:
        return CertificatePlan(
            subject=name,
            issuer=issuer,
            serial=serial,
            key=key.public_key(),
            not_before=self.since - BACKDATED,
            not_after=FOREVER,
        )


def composite_device_id(device_key: ec.EllipticCurvePublicKey, fwid: bytes) -> bytes:
    """As Hopper's leaves carry it."""
    return tlv(SEQUENCE, integer(1), spki(device_key), _fwid(fwid))


def tcb_info(model: str, fwid: bytes, *, debug: bool) -> bytes:
    """As Blackwell's leaves carry it."""
    return tlv(
        SEQUENCE,
        tlv(0x80, b"NVIDIA"),
        tlv(0x81, f"{model} A01 GSP".encode()),
        tlv(0x82, b"01"),
        tlv(0x83, b"\x01"),
        tlv(0x84, b"\x00"),
        tlv(0x85, b"\x00"),
        tlv(0xA6, _fwid(fwid), _fwid(bytes(48))),
        tlv(0x87, b"\x00\x90\x00\x00\x01" if debug else b"\x00\x80\x00\x00\x01"),
        tlv(0x88, b"\xc0"),
        tlv(0x89, b"\x00"),
    )


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _fwid(digest: bytes) -> bytes:
    return tlv(SEQUENCE, oid(_SHA384), tlv(OCTET_STRING, digest))
