"""A throw-away NVIDIA: root, authorities, device and leaf certificates, and their defects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from regalia.tees.nvidia.evidence.anchors import DEVICE_ROOT_NAME
from regalia.tees.nvidia.evidence.dice import OID_COMPOSITE_DEVICE_ID, OID_TCB_INFO
from regalia_testing.tees.snp.x509 import OCTET_STRING, SEQUENCE, integer, oid, tlv

if TYPE_CHECKING:
    from cryptography.x509.extensions import ExtensionType

ORGANIZATION = "Regalia simulation - protects nothing"
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
BACKDATED = timedelta(hours=1)
_SHA384 = "2.16.840.1.101.3.4.2.2"
_BLACKWELL = "GB100"


@dataclass(frozen=True, slots=True, repr=False)
class DeviceKeys:
    """Private keys of the simulated root and of the authorities below it, P-384."""

    root: ec.EllipticCurvePrivateKey
    identity: ec.EllipticCurvePrivateKey
    provisioner: ec.EllipticCurvePrivateKey  # of every model; each has its own certificate

    @classmethod
    def generate(cls) -> DeviceKeys:
        """Fresh keys."""
        return cls(*(ec.generate_private_key(ec.SECP384R1()) for _ in range(3)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCertificate:
    """One certificate to be signed. ``dataclasses.replace`` makes a defective variant."""

    subject: str
    issuer: str
    serial: int
    key: ec.EllipticCurvePublicKey
    not_before: datetime
    not_after: datetime = FOREVER
    ca: bool = True
    path_length: int | None = None
    constraints: bool = True  # whether there are basicConstraints at all
    digital_signature: bool = False
    extensions: tuple[tuple[ExtensionType, bool], ...] = ()  # (extension, critical)
    sha256: bool = False  # signed with SHA-256

    def sign(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """The certificate in DER."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(simulated_name(self.subject))
            .issuer_name(simulated_name(self.issuer))
            .serial_number(self.serial)
            .public_key(self.key)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
        )
        if self.constraints:
            length = self.path_length if self.ca else None
            builder = builder.add_extension(
                x509.BasicConstraints(ca=self.ca, path_length=length), critical=True
            )
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=self.digital_signature,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=self.ca,
                crl_sign=self.ca,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        for extension, critical in self.extensions:
            builder = builder.add_extension(extension, critical=critical)
        digest = hashes.SHA256() if self.sha256 else hashes.SHA384()
        return builder.sign(key, digest, ecdsa_deterministic=True).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class DeviceAuthority:
    """Issues the chains of simulated devices, shaped like NVIDIA's."""

    keys: DeviceKeys
    since: datetime

    def root(self) -> DeviceCertificate:
        """Self-signed; sign it with ``keys.root``."""
        return self._authority(DEVICE_ROOT_NAME, DEVICE_ROOT_NAME, self.keys.root, serial=0x1001)

    def identity(self) -> DeviceCertificate:
        """Sign it with ``keys.root``. Switches of Hopper machines share that of the GPUs."""
        name = "NVIDIA GH100 Identity"
        return self._authority(name, DEVICE_ROOT_NAME, self.keys.identity, serial=0x1002)

    def provisioner(self, model: str) -> DeviceCertificate:
        """What provisions devices of one model; sign it with ``keys.identity``."""
        issuer = "NVIDIA GH100 Identity"
        name = f"NVIDIA {model} Provisioner ICA 1"
        return self._authority(name, issuer, self.keys.provisioner, serial=0x2000 + len(model))

    def device(
        self, model: str, serial: bytes, key: ec.EllipticCurvePublicKey
    ) -> DeviceCertificate:
        """The chip's own; sign it with ``keys.provisioner``."""
        return DeviceCertificate(
            subject=f"{model} A01 GSP BROM",
            issuer=f"NVIDIA {model} Provisioner ICA 1",
            serial=int.from_bytes(serial, "big"),
            key=key,
            not_before=self.since - BACKDATED,
        )

    def leaf(
        self,
        model: str,
        key: ec.EllipticCurvePublicKey,
        device_key: ec.EllipticCurvePublicKey,
        fwid: bytes,
        *,
        debug: bool,
    ) -> DeviceCertificate:
        """Of the firmware ``fwid`` on a device; sign it with the device's key."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(spki(key))
        value = tcb_info(model, fwid, debug=debug)
        dotted = OID_TCB_INFO
        if model != _BLACKWELL:
            value, dotted = composite_device_id(device_key, fwid), OID_COMPOSITE_DEVICE_ID
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value)
        return DeviceCertificate(
            subject=f"{model} A01 GSP FMC LF",
            issuer=f"{model} A01 GSP BROM",
            serial=int.from_bytes(digest.finalize()[:20], "big") >> 1 | 1,
            key=key,
            not_before=self.since - BACKDATED,
            ca=False,
            constraints=False,
            digital_signature=True,
            extensions=((extension, False),),
        )

    def _authority(
        self, name: str, issuer: str, key: ec.EllipticCurvePrivateKey, *, serial: int
    ) -> DeviceCertificate:
        return DeviceCertificate(
            subject=name,
            issuer=issuer,
            serial=serial,
            key=key.public_key(),
            not_before=self.since - BACKDATED,
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


def simulated_name(common_name: str) -> x509.Name:
    """A name that says in the organization that this is none of NVIDIA's."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
