"""NVIDIA's signed XML: the part of it that a pinned root vouches for, and nothing else.

XML-DSig (W3C, XML Signature Syntax and Processing 1.1) is checked by `signxml`; what may be
signed, how, and by whom is decided here. Callers get the bytes that were digested, parsed anew,
so that nothing beside them can be read by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidDigest, InvalidSignature, SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import (
    Scheme,
    chain_invalid,
    parse_certificate,
    require_issued_by,
    require_known_critical,
    require_valid_at,
)
from regalia.appraisal.pki.certificates import require_ca
from regalia.core.codec import unb64
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.crypto.sign import SignCode
from regalia.tees.nvidia.evidence.codes import NvidiaCode

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.pki import Certificate
    from regalia.tees.nvidia.evidence.anchors import RimAnchors

DOCUMENT_MAX = 512 * 1024  # bytes; NVIDIA's are below 25 KiB
CERTIFICATES_MIN, CERTIFICATES_MAX = 2, 8
SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
DSIG = "{http://www.w3.org/2000/09/xmldsig#}"
ROOT_TAG = f"{SWID}SoftwareIdentity"
_SIGNATURE_TAG = f"{DSIG}Signature"
_CERTIFICATE_TAG = f"{DSIG}X509Certificate"
_SCHEMES = frozenset({Scheme.ECDSA_SHA384})
_CRITICAL_IN_SIGNER = (x509.BasicConstraints.oid, x509.KeyUsage.oid)


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """The root element as signed, without the signature, and who signed it."""

    root: etree._Element
    signer: Certificate
    anchor: Certificate


def verify_document(data: bytes, *, anchors: RimAnchors, now: datetime) -> SignedDocument:
    """Verify one document.

    Args:
        data: raw, untrusted.
        anchors: the pinned root of reference values.
        now: when its certificates must be valid, aware.

    Raises:
        ParseError: TOO_LARGE or RIM_MALFORMED.
        AttestationError: ROOT_UNTRUSTED, CHAIN_INVALID, CERT_EXPIRED, CERT_NOT_YET_VALID or
            SIGNATURE_INVALID.
        ValueError: ``now`` has no time zone (the caller's bug).
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    root = parse_xml(data)
    signature = _only_signature(root)
    certificates = _certificates(signature)
    _require_chain(certificates, anchors, now)
    config = SignatureConfiguration(
        require_x509=True,
        location="./",
        expect_references=1,
        signature_methods=frozenset({SignatureMethod.ECDSA_SHA384}),
        digest_algorithms=frozenset({DigestAlgorithm.SHA384}),
        verification_time=now,
    )
    signer = certificates[0]
    try:
        result = XMLVerifier().verify(
            root, x509_cert=x509.load_der_x509_certificate(signer.der), expect_config=config
        )
    except (InvalidSignature, InvalidDigest) as exc:
        raise AttestationError(
            SignCode.SIGNATURE_INVALID, f"{signer} did not sign this RIM: {exc}"
        ) from exc
    except (SignXMLException, etree.LxmlError, ValueError, TypeError, KeyError) as exc:
        raise malformed(f"its signature is not in the one form that is accepted: {exc}") from exc
    if isinstance(result, list) or result.signed_data is None:
        raise malformed("the signature covers something else than the document")
    signed = parse_xml(result.signed_data)
    if next(signed.iter(_SIGNATURE_TAG), None) is not None:
        raise malformed("the signature covers something else than the document")
    return SignedDocument(signed, signer, certificates[-1])


def parse_xml(data: bytes) -> etree._Element:
    """The root element of XML in UTF-8 without a document type.

    Document types bring entities, which can expand without end or name files.

    Raises:
        ParseError: TOO_LARGE or RIM_MALFORMED.
    """
    if len(data) > DOCUMENT_MAX:
        raise ParseError(CoreCode.TOO_LARGE, f"RIM: {len(data)} bytes, at most {DOCUMENT_MAX}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise malformed("it is not UTF-8") from exc
    if "<!DOCTYPE" in text or "<!ENTITY" in text or "\x00" in text:
        raise malformed("it has a document type")
    declaration = text.partition("?>")[0].lower() if text.startswith("<?xml") else ""
    if "encoding" in declaration and "utf-8" not in declaration:
        raise malformed("it declares another encoding than UTF-8")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, encoding="utf-8"
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise malformed(f"it is not XML: {exc}") from exc
    if root.getroottree().docinfo.internalDTD is not None or root.tag != ROOT_TAG:
        raise malformed("it is no SWID tag")
    return root


def _only_signature(root: etree._Element) -> etree._Element:
    """One signature, the root's last child: no second one, and none around or inside others."""
    signatures = list(root.iter(_SIGNATURE_TAG))
    if len(signatures) != 1 or len(root) == 0 or root[-1] is not signatures[0]:
        raise malformed("want one signature, as the last child of the root")
    return signatures[0]


def _certificates(signature: etree._Element) -> tuple[Certificate, ...]:
    """Signer first, as NVIDIA writes them."""
    found = list(signature.iter(_CERTIFICATE_TAG))
    if not CERTIFICATES_MIN <= len(found) <= CERTIFICATES_MAX:
        raise malformed(f"{len(found)} certificates")
    return tuple(
        parse_certificate(
            unb64("".join((each.text or "").split()), what=f"RIM certificate {i}"),
            what=f"RIM certificate {i}",
        )
        for i, each in enumerate(found)
    )


def _require_chain(
    certificates: tuple[Certificate, ...], anchors: RimAnchors, now: datetime
) -> None:
    """Signer -> authorities -> pinned root, in this order, all valid at ``now``."""
    root = certificates[-1]
    if not anchors.pins(root):
        raise AttestationError(
            AttestCode.ROOT_UNTRUSTED, f"{root} has a key that is not the pinned root's"
        )
    for child, issuer in zip(certificates, (*certificates[1:], root), strict=True):
        require_issued_by(child, issuer, _SCHEMES)
    for below, authority in enumerate(certificates[1:]):
        length = require_ca(authority).path_length
        if length is not None and length < below:
            raise chain_invalid(f"{authority}: {below} authorities below it, at most {length}")
    signer = certificates[0]
    require_known_critical(signer, _CRITICAL_IN_SIGNER)
    constraints, usage = signer.basic_constraints, signer.key_usage
    if (constraints is not None and constraints.ca) or usage is None or not usage.digital_signature:
        raise chain_invalid(f"{signer} is not for signing documents")
    for certificate in certificates:
        require_valid_at(certificate, now)


def malformed(what: str) -> ParseError:
    """A RIM_MALFORMED refusal."""
    return ParseError(NvidiaCode.RIM_MALFORMED, f"RIM: {what}")
