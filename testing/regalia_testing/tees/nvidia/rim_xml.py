"""Reference values in XML, signed by a throw-away root. Needs the extra ``ingest``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree
from signxml.algorithms import (
    CanonicalizationMethod,
    DigestAlgorithm,
    SignatureConstructionMethod,
    SignatureMethod,
)
from signxml.signer import XMLSigner

from regalia.tees.nvidia.evidence.anchors import RIM_ROOT_NAME, RimAnchors
from regalia_testing.anchors import simulated_pin
from regalia_testing.certificates import CertificatePlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
SIGNER_NAME, CA_NAME = "Simulated RIM signer", "Simulated RIM CA"
TWO_YEARS = timedelta(days=730)


@dataclass(frozen=True, slots=True, repr=False)
class RimAuthority:
    """Root, one authority and a signer; ``dataclasses.replace`` makes defective ones."""

    now: datetime
    root: CertificatePlan
    ca: CertificatePlan
    signer: CertificatePlan
    keys: tuple[ec.EllipticCurvePrivateKey, ...] = field(repr=False)  # root, CA, signer

    @classmethod
    def make(cls, now: datetime) -> RimAuthority:
        """Fresh keys; certificates that are valid at ``now``."""
        keys = tuple(ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
        names = (RIM_ROOT_NAME, CA_NAME, SIGNER_NAME)
        root, ca, signer = (
            CertificatePlan(
                subject=name,
                issuer=names[max(level - 1, 0)],
                serial=0x3000 + level,
                key=key.public_key(),
                not_before=now - timedelta(hours=1),
                not_after=now + TWO_YEARS,
            )
            for level, (name, key) in enumerate(zip(names, keys, strict=True))
        )
        return cls(now, root, ca, replace(signer, ca=False, usage=("digital_signature",)), keys)

    def anchors(self) -> RimAnchors:
        """This root as the only anchor."""
        return simulated_pin(RimAnchors, self.root.sign(self.keys[0]))

    def sign(
        self,
        document: etree._Element,
        key: ec.EllipticCurvePrivateKey | None = None,
        digest: DigestAlgorithm = DigestAlgorithm.SHA384,
    ) -> bytes:
        """The document with its enveloped signature, as NVIDIA signs."""
        root_key, ca_key, signer_key = self.keys
        ders = (self.signer.sign(ca_key), self.ca.sign(root_key), self.root.sign(root_key))
        signer = XMLSigner(
            method=SignatureConstructionMethod.enveloped,
            signature_algorithm=SignatureMethod.ECDSA_SHA384,
            digest_algorithm=digest,
            c14n_algorithm=CanonicalizationMethod.CANONICAL_XML_1_1,
        )
        signed = signer.sign(
            document,
            key=key or signer_key,
            cert=[x509.load_der_x509_certificate(der) for der in ders],
        )
        return bytes(etree.tostring(signed))


def swid(
    values: Mapping[int, Sequence[str]],
    *,
    product: str = "GH100",
    version: str = "590.12",
    inactive: Sequence[int] = (),
) -> etree._Element:
    """A SWID tag with these alternatives (hex) by index; all active but ``inactive``."""
    root = etree.Element(f"{{{SWID}}}SoftwareIdentity", nsmap={None: SWID, "ns2": SHA384})
    root.set("name", product)
    etree.SubElement(root, f"{{{SWID}}}Entity", name="Nobody", role="tagCreator")
    etree.SubElement(root, f"{{{SWID}}}Meta", colloquialVersion=version, product=product)
    payload = etree.SubElement(root, f"{{{SWID}}}Payload")
    for index, alternatives in values.items():
        resource = etree.SubElement(
            payload,
            f"{{{SWID}}}Resource",
            type="Measurement",
            index=str(index),
            active="False" if index in inactive else "True",
            alternatives=str(len(alternatives)),
            name=f"Measurement_{index}",
            size="48",
        )
        for number, value in enumerate(alternatives):
            resource.set(f"{{{SHA384}}}Hash{number}", value)
    return root
