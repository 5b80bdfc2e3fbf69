"""A throw-away Intel: root, PCK CAs, TCB signing, PCK certificates and revocation lists."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from regalia.tees.intel.evidence.anchors import ROOT_NAME
from regalia.tees.intel.evidence.chain import PCK_CA_NAMES, PCK_NAME, TCB_SIGNING_NAME
from regalia.tees.intel.evidence.pck import OID_SGX
from regalia_testing.tees.snp.x509 import BOOLEAN, OCTET_STRING, SEQUENCE, integer, oid, tlv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from regalia.tees.intel.evidence.pck import PckFacts

ORGANIZATION = "Regalia simulation - protects nothing"
BACKDATED = timedelta(hours=1)  # so that a verifier whose clock is a little behind accepts
ROOT_YEARS = timedelta(days=25 * 365)
LEAF_YEARS = timedelta(days=7 * 365)
CRL_YEAR = timedelta(days=365)
_ENUMERATED = 0x0A
_SERIALS = {"root": 1, "platform_ca": 2, "processor_ca": 3, "tcb_signing": 4, "pck": 0x100}


@dataclass(frozen=True, slots=True, repr=False)
class IntelKeys:
    """Private keys of a simulated Intel and of one platform; all P-256."""

    root: ec.EllipticCurvePrivateKey
    platform_ca: ec.EllipticCurvePrivateKey
    processor_ca: ec.EllipticCurvePrivateKey
    tcb_signing: ec.EllipticCurvePrivateKey
    pck: ec.EllipticCurvePrivateKey
    attestation: ec.EllipticCurvePrivateKey  # the quoting enclave's

    @classmethod
    def generate(cls) -> IntelKeys:
        """Fresh keys."""
        return cls(*(ec.generate_private_key(ec.SECP256R1()) for _ in fields(cls)))


@dataclass(frozen=True, slots=True)
class IntelAuthority:
    """What the simulated Intel issues. All DER."""

    keys: IntelKeys
    since: datetime

    def root(self) -> bytes:
        """The self-signed root."""
        return self._issue(self._authority(ROOT_NAME, "root", 1), self.keys.root, "root")

    def pck_ca(self, *, processor: bool = False) -> bytes:
        """The PCK Platform or Processor CA."""
        name = "processor_ca" if processor else "platform_ca"
        return self._issue(
            self._authority(PCK_CA_NAMES[processor], name, 0), self._key(name), "root"
        )

    def tcb_signing(self) -> bytes:
        """What TCB infos and identities are signed with."""
        builder = self._builder(TCB_SIGNING_NAME, ROOT_NAME, _SERIALS["tcb_signing"], LEAF_YEARS)
        return self._issue(_signing(builder), self.keys.tcb_signing, "root")

    def pck(self, facts: PckFacts, *, processor: bool = False, expired: bool = False) -> bytes:
        """The platform's certificate."""
        years = timedelta(seconds=1) if expired else LEAF_YEARS
        builder = self._builder(PCK_NAME, PCK_CA_NAMES[processor], _SERIALS["pck"], years)
        value = x509.UnrecognizedExtension(x509.ObjectIdentifier(OID_SGX), sgx_extension(facts))
        builder = _signing(builder).add_extension(value, critical=False)
        return self._issue(builder, self.keys.pck, "processor_ca" if processor else "platform_ca")

    def root_crl(self, revoked: Sequence[str] = (), **dates: datetime) -> bytes:
        """The root's list; ``revoked`` names certificates as this class's methods do."""
        return self._crl(ROOT_NAME, self.keys.root, revoked, **dates)

    def pck_crl(
        self, revoked: Sequence[str] = (), *, processor: bool = False, **dates: datetime
    ) -> bytes:
        """A PCK CA's list."""
        key = self._key("processor_ca" if processor else "platform_ca")
        return self._crl(PCK_CA_NAMES[processor], key, revoked, **dates)

    def _key(self, name: str) -> ec.EllipticCurvePrivateKey:
        key: ec.EllipticCurvePrivateKey = getattr(self.keys, name)
        return key

    def _builder(
        self, subject: str, issuer: str, serial: int, years: timedelta
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(issuer))
            .serial_number(serial)
            .not_valid_before(self.since - BACKDATED)
            .not_valid_after(self.since - BACKDATED + years)
        )

    def _authority(self, subject: str, name: str, path_length: int) -> x509.CertificateBuilder:
        return (
            self._builder(subject, ROOT_NAME, _SERIALS[name], ROOT_YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(_usage(authority=True), critical=True)
        )

    def _issue(
        self, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer: str
    ) -> bytes:
        signer = self._key(issuer)
        certificate = (
            builder.public_key(key.public_key())
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
            .sign(signer, hashes.SHA256(), ecdsa_deterministic=True)
        )
        return certificate.public_bytes(Encoding.DER)

    def _crl(
        self,
        issuer: str,
        key: ec.EllipticCurvePrivateKey,
        revoked: Sequence[str],
        *,
        this_update: datetime | None = None,
        next_update: datetime | None = None,
    ) -> bytes:
        since = this_update or self.since - BACKDATED
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(issuer))
            .last_update(since)
            .next_update(next_update or self.since + CRL_YEAR)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
                critical=False,
            )
        )
        for name in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(_SERIALS[name])
            builder = builder.add_revoked_certificate(entry.revocation_date(since).build())
        signed = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)


def sgx_extension(facts: PckFacts) -> bytes:
    """The octets of Intel's extension, inverse of ``regalia.tees.intel.evidence.pck.read_pck``."""
    tcb = [_pair(f"2.{n}", integer(svn)) for n, svn in enumerate(facts.svns, start=1)]
    tcb += [_pair("2.17", integer(facts.pce_svn)), _pair("2.18", tlv(OCTET_STRING, facts.cpu_svn))]
    parts = [
        _pair("1", tlv(OCTET_STRING, facts.ppid)),
        _pair("2", tlv(SEQUENCE, *tcb)),
        _pair("3", tlv(OCTET_STRING, facts.pce_id)),
        _pair("4", tlv(OCTET_STRING, facts.fmspc)),
        _pair("5", tlv(_ENUMERATED, bytes((facts.sgx_type,)))),
    ]
    if facts.platform_instance_id is not None:
        parts.append(_pair("6", tlv(OCTET_STRING, facts.platform_instance_id)))
    flags = (facts.dynamic_platform, facts.cached_keys, facts.smt)
    configuration = [
        _pair(f"7.{n}", tlv(BOOLEAN, b"\xff" if flag else b"\x00"))
        for n, flag in enumerate(flags, start=1)
        if flag is not None
    ]
    if configuration:
        parts.append(_pair("7", tlv(SEQUENCE, *configuration)))
    return tlv(SEQUENCE, *parts)


def _pair(arc: str, value: bytes) -> bytes:
    return tlv(SEQUENCE, oid(f"{OID_SGX}.{arc}"), value)


def _signing(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    return builder.add_extension(constraints, critical=True).add_extension(
        _usage(authority=False), critical=True
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    """Intel's common names, and an organization that says that this is none of Intel's."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),
        ]
    )
