"""A throw-away AMD: root, intermediates, leaves and revocation lists of one product line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from regalia.tees.snp.evidence.leaf import (
    OID_CSP_ID,
    OID_HWID,
    OID_PRODUCT_NAME,
    OID_SPL,
    OID_SPL_SPARE,
    OID_STRUCT_VERSION,
)
from regalia.tees.snp.evidence.products import intermediate_name, leaf_name, root_name
from regalia.tees.snp.evidence.wire import EndorsementKeyKind, Product, tcb_layout
from regalia_testing.der import IA5_STRING, CertificateSpec, CrlSpec, integer, tlv

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from regalia.tees.snp.claims import Tcb
    from regalia_testing.der import Extension

ORGANIZATION = "Regalia simulation - protects nothing"
RSA_BITS = 4096
ROOT_YEARS = timedelta(days=25 * 365)
VCEK_YEARS = timedelta(days=7 * 365)
VLEK_YEAR = timedelta(days=365)
CRL_YEAR = timedelta(days=365)
BACKDATED = timedelta(hours=1)  # so that a verifier whose clock is a little behind accepts

_PRODUCT_NAMES = {Product.MILAN: "Milan-B0", Product.GENOA: "Genoa", Product.TURIN: "Turin"}
_SERIALS = {Product.MILAN: 0x10000, Product.GENOA: 0x20000, Product.TURIN: 0x30000}
_SPARES_ON_TURIN = OID_SPL_SPARE[1:]


@dataclass(frozen=True, slots=True, repr=False)
class SnpKeys:
    """Private keys of a simulated ARK, ASK and ASVK."""

    ark: rsa.RSAPrivateKey
    ask: rsa.RSAPrivateKey
    asvk: rsa.RSAPrivateKey

    @classmethod
    def generate(cls) -> SnpKeys:
        """Fresh RSA-4096 keys; takes a second or a few."""
        return cls(*(rsa.generate_private_key(65537, RSA_BITS) for _ in range(3)))


@dataclass(frozen=True, slots=True)
class LeafFor:
    """The platform that a leaf is issued for."""

    key: ec.EllipticCurvePublicKey
    signing_key: EndorsementKeyKind
    tcb: Tcb
    hwid: bytes  # 64 bytes, 8 on Turin; unused for a VLEK
    csp_id: str  # unused for a VCEK


@dataclass(frozen=True, slots=True)
class SnpAuthority:
    """One product line's simulated certificate authority."""

    keys: SnpKeys
    product: Product
    since: datetime

    def ark(self) -> CertificateSpec:
        """The self-signed root; sign it with ``keys.ark``."""
        name = _name(root_name(self.product))
        return self._authority(name, name, self.keys.ark, serial=0, path_length=None)

    def ask(self) -> CertificateSpec:
        """The intermediate for VCEKs; sign it with ``keys.ark``."""
        return self._intermediate(EndorsementKeyKind.VCEK, self.keys.ask, serial=1)

    def asvk(self) -> CertificateSpec:
        """The intermediate for VLEKs; sign it with ``keys.ark``."""
        return self._intermediate(EndorsementKeyKind.VLEK, self.keys.asvk, serial=0x101)

    def issuer_key(self, signing_key: EndorsementKeyKind) -> rsa.RSAPrivateKey:
        """What a leaf of that kind is signed with."""
        return self.keys.asvk if signing_key is EndorsementKeyKind.VLEK else self.keys.ask

    def leaf(self, platform: LeafFor) -> CertificateSpec:
        """A VCEK or VLEK; sign it with ``issuer_key``. Serial number 0, as AMD's."""
        vlek = platform.signing_key is EndorsementKeyKind.VLEK
        return CertificateSpec(
            subject=_name(leaf_name(platform.signing_key)),
            issuer=_name(intermediate_name(self.product, platform.signing_key)),
            serial=0,
            not_before=self.since - BACKDATED,
            not_after=self.since + (VLEK_YEAR if vlek else VCEK_YEARS),
            key=platform.key,
            extensions=self._leaf_extensions(platform),
        )

    def crl(self) -> CrlSpec:
        """An empty revocation list; sign it with ``keys.ark``."""
        return CrlSpec(
            issuer=_name(root_name(self.product)),
            this_update=self.since - BACKDATED,
            next_update=self.since + CRL_YEAR,
        )

    def _intermediate(
        self, signing_key: EndorsementKeyKind, key: rsa.RSAPrivateKey, *, serial: int
    ) -> CertificateSpec:
        subject = _name(intermediate_name(self.product, signing_key))
        issuer = _name(root_name(self.product))
        return self._authority(subject, issuer, key, serial=serial, path_length=0)

    def _authority(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: rsa.RSAPrivateKey,
        *,
        serial: int,
        path_length: int | None,
    ) -> CertificateSpec:
        return CertificateSpec(
            subject=subject,
            issuer=issuer,
            serial=_SERIALS[self.product] + serial,
            not_before=self.since - BACKDATED,
            not_after=self.since + ROOT_YEARS,
            key=key.public_key(),
            extensions=(
                basic_constraints(ca=True, path_length=path_length),
                key_usage(key_cert_sign=True, crl_sign=path_length is None),
            ),
        )

    def _leaf_extensions(self, platform: LeafFor) -> tuple[Extension, ...]:
        turin = self.product is Product.TURIN
        components = platform.tcb.components()
        spares = _SPARES_ON_TURIN if turin else OID_SPL_SPARE
        own = (
            (OID_CSP_ID, False, ia5_string(platform.csp_id))
            if platform.signing_key is EndorsementKeyKind.VLEK
            else (OID_HWID, False, platform.hwid)
        )
        return (
            (OID_STRUCT_VERSION, False, integer(1 if turin else 0)),
            (OID_PRODUCT_NAME, False, ia5_string(_PRODUCT_NAMES[self.product])),
            *(
                (OID_SPL[name], False, integer(components[name]))
                for name in tcb_layout(self.product)
                if name
            ),
            *((spare, False, integer(0)) for spare in spares),
            own,
        )


def basic_constraints(*, ca: bool, path_length: int | None) -> Extension:
    """BasicConstraints, critical."""
    value = x509.BasicConstraints(ca=ca, path_length=path_length)
    return value.oid.dotted_string, True, value.public_bytes()


def key_usage(*, key_cert_sign: bool, crl_sign: bool) -> Extension:
    """KeyUsage, critical."""
    value = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
    return value.oid.dotted_string, True, value.public_bytes()


def ia5_string(text: str) -> bytes:
    """DER IA5String."""
    return tlv(IA5_STRING, text.encode("ascii"))


def _name(common_name: str) -> x509.Name:
    """Ordered like AMD's names, and saying in the organization that this is none of AMD's."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Simulation"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "XX"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "Nowhere"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
