"""EK certificates: what a TPM's maker says about it. TCG EK Credential Profile, version 2.x.

An EK certificate says: the private half of this key is inside a TPM of this make. It says
nothing about who has that TPM, nor what it has measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from regalia.appraisal.claims import Hardware
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import parse_certificate, require_known_critical, require_version_3
from regalia.core.errors import AttestationError
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.keys import spki_of
from regalia.tees.tpm.evidence.path import check_revocation, find_path, require_current
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.model import read_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regalia.appraisal.claims import Revocation
    from regalia.appraisal.pki import Certificate
    from regalia.tees.tpm.evidence.enrolment import Enrolment
    from regalia.tees.tpm.evidence.path import Authorities
    from regalia.tees.tpm.evidence.public import PublicArea
    from regalia.tees.tpm.model import TpmModel

EK_USAGE = "2.23.133.8.1"  # tcg-kp-EKCertificate
AK_USAGE = "2.23.133.8.3"  # tcg-kp-AIKCertificate
KNOWN_CRITICAL = (
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
)


@dataclass(frozen=True, slots=True)
class TrustedEk:
    """An EK certificate that leads to a trusted root at the moment of the check."""

    certificate: Certificate
    model: TpmModel
    hardware: Hardware
    revocation: Revocation


@dataclass(frozen=True, slots=True)
class EkChain:
    """An EK certificate that is one, with issuers that came along: nothing vouches yet."""

    leaf: Certificate
    came: tuple[Certificate, ...]
    model: TpmModel
    hardware: Hardware  # by its model: a program is simulated, whatever root vouches for it


def verify_ek(certificates: Sequence[bytes], authorities: Authorities) -> TrustedEk:
    """Check an EK certificate and everything that vouches for it.

    Args:
        certificates: the EK certificate, then its issuers as far as they came along; DER.
        authorities: with the operator's roots for EKs.

    Raises:
        ParseError: MALFORMED or TOO_LARGE.
        AttestationError: EK_UNSUITABLE, ROOT_UNTRUSTED, CHAIN_INVALID, CERT_*, CRL_*.
    """
    chain = read_ek(certificates)
    return trust_ek(chain, find_path(chain.leaf, chain.came, authorities), authorities)


def read_enrolled_ek(enrolment: Enrolment) -> EkChain:
    """``read_ek``, and what the enrolment says, its certificate says too.

    Raises:
        ParseError: a certificate or the public area is malformed.
        AttestationError: EK_UNSUITABLE, CHAIN_INVALID, LEAF_BINDING_MISMATCH or
            ENROLMENT_MISMATCH.
    """
    chain = read_ek(enrolment.ek_certificates)
    require_key_of(parse_public(enrolment.ek_public), chain.leaf, what="EK")
    if (chain.model, chain.hardware) != (enrolment.model, enrolment.hardware):
        raise AttestationError(
            TpmCode.ENROLMENT_MISMATCH,
            "the enrolment says another model than the EK certificate",
        )
    return chain


def read_ek(certificates: Sequence[bytes]) -> EkChain:
    """The part of ``verify_ek`` that neither the time nor the operator's roots can change.

    Raises:
        ParseError: a certificate is malformed.
        AttestationError: COLLATERAL_MISSING, EK_UNSUITABLE or CHAIN_INVALID.
    """
    if not certificates:
        raise AttestationError(AttestCode.COLLATERAL_MISSING, "there is no EK certificate")
    leaf, *came = (parse_certificate(der, what="EK chain") for der in certificates)
    model = read_model(leaf.extensions)
    if model is None:
        raise _unsuitable(f"{leaf} does not name one TPM manufacturer, model and version")
    require_leaf(leaf, key_usage=_exchange_usage(leaf))
    usages = extended_usages(leaf)
    if EK_USAGE not in usages:
        raise _unsuitable(f"{leaf}: extended key usage {list(usages)}, want {EK_USAGE}")
    return EkChain(leaf, tuple(came), model, hardware_of(model))


def trust_ek(chain: EkChain, path: Sequence[Certificate], authorities: Authorities) -> TrustedEk:
    """The rest of ``verify_ek``: its path to a trusted root holds at the moment of the check.

    Args:
        chain: made by ``read_ek``.
        path: of its leaf, found by ``find_path``.
        authorities: with the operator's lists, and the context of the check.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CERT_EXPIRED, CERT_NOT_YET_VALID, CERT_REVOKED, CRL_MISSING, CRL_STALE or
            CRL_SIG_INVALID.
    """
    require_current(chain.leaf, path, authorities.at.now)
    revocation = check_revocation(chain.leaf, path, authorities)
    return TrustedEk(chain.leaf, chain.model, chain.hardware, revocation)


def require_key_of(public: PublicArea, certificate: Certificate, *, what: str) -> None:
    """The certificate is for this key.

    Args:
        public: public area, untrusted.
        certificate: of an EK or AK.
        what: names the value in the error.

    Raises:
        ParseError: MALFORMED, the public area is no valid key.
        AttestationError: LEAF_BINDING_MISMATCH.
    """
    if spki_of(public) != certificate.spki:
        raise AttestationError(
            AttestCode.LEAF_BINDING_MISMATCH, f"the {what} certificate is for another key"
        )


def require_leaf(certificate: Certificate, *, key_usage: str) -> None:
    """Not an authority; its key may be used so; it says nothing critical that is not known.

    Args:
        certificate: of an EK or AK.
        key_usage: that its key must be for, in ``cryptography``'s spelling: ``digital_signature``.

    Raises:
        AttestationError: EK_UNSUITABLE or CHAIN_INVALID.
    """
    require_version_3(certificate)
    require_known_critical(certificate, KNOWN_CRITICAL)
    constraints, usage = certificate.basic_constraints, certificate.key_usage
    if constraints is not None and constraints.ca:
        raise _unsuitable(f"{certificate} is an authority's")
    if usage is None or not getattr(usage, key_usage):
        raise _unsuitable(f"{certificate}: keyUsage lacks {key_usage}")
    if usage.key_cert_sign or usage.crl_sign:
        raise _unsuitable(f"{certificate} may sign certificates")


def _exchange_usage(leaf: Certificate) -> str:
    """3.5.5 of the profile: an EK decrypts, each kind of key in its own words."""
    if isinstance(leaf.key, rsa.RSAPublicKey):
        return "key_encipherment"
    if isinstance(leaf.key, ec.EllipticCurvePublicKey):
        return "key_agreement"
    raise _unsuitable(f"{leaf}: the key is neither RSA nor ECC")


def hardware_of(model: TpmModel) -> Hardware:
    """A software TPM is simulated, whatever root vouches for it."""
    return Hardware.SIMULATED if model.is_software else Hardware.GENUINE


def extended_usages(certificate: Certificate) -> tuple[str, ...]:
    """OIDs of extendedKeyUsage; empty if the extension is absent."""
    return tuple(
        usage.dotted_string
        for extension in certificate.extensions
        if isinstance(extension.value, x509.ExtendedKeyUsage)
        for usage in extension.value
    )


def _unsuitable(what: str) -> AttestationError:
    return AttestationError(TpmCode.EK_UNSUITABLE, what)
