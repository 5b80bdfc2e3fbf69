"""From NVIDIA's pinned root to the key that must have signed the report."""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import (
    Scheme,
    chain_invalid,
    require_known_critical,
    require_valid_at,
    require_version_3,
    tail,
)
from regalia.appraisal.pki.certificates import require_ca
from regalia.core.errors import AttestationError
from regalia.tees.nvidia.evidence.codes import NvidiaCode
from regalia.tees.nvidia.evidence.models import MODELS

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.claims import Hardware
    from regalia.appraisal.pki import Cache, Certificate
    from regalia.tees.nvidia.evidence.anchors import NvidiaAnchors
    from regalia.tees.nvidia.evidence.models import Model
    from regalia.wire.evidence import DeviceEvidence, DeviceKind

SCHEMES = frozenset({Scheme.ECDSA_SHA384})
CERTIFICATES_MIN = 4  # leaf, device, the authority that provisioned it, root; today one more
_CRITICAL_IN_LEAF = (x509.BasicConstraints.oid, x509.KeyUsage.oid)

# Keeps chains from being declared trusted by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates whose signatures and constraints lead from the pinned root to a leaf.

    That depends on their bytes and the pin alone: dates and revocation are checked apart.
    """

    ders: tuple[bytes, ...]  # leaf, device, ..., root
    certificates: tuple[Certificate, ...]  # the same
    key: ec.EllipticCurvePublicKey  # of the leaf, P-384
    identity: bytes  # the device certificate's serial number, big endian, no leading zeros
    fingerprints: tuple[bytes, ...]  # SHA-256 of each SubjectPublicKeyInfo, in the same order
    not_before: datetime  # the latest of all
    not_after: datetime  # the earliest of all

    @property
    def leaf(self) -> Certificate:
        """Of the firmware that signs reports: another firmware has another key."""
        return self.certificates[0]

    @property
    def device(self) -> Certificate:
        """Of the chip itself: the same as long as it lives."""
        return self.certificates[1]


@dataclass(frozen=True, slots=True)
class TrustedChain:
    """A path from a pinned root, valid at one moment. Made by ``verify_chain``."""

    path: Path
    hardware: Hardware
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a trusted chain comes from verify_chain")


def verify_chain(
    evidence: DeviceEvidence, *, anchors: NvidiaAnchors, at: AppraisalContext
) -> TrustedChain:
    """Leaf -> device -> provisioning authority -> ... -> pinned root, exactly as they came.

    Args:
        evidence: raw, untrusted.
        anchors: the vendor's pinned roots.
        at: the context of the appraisal.

    Raises:
        ParseError: a certificate is malformed.
        AttestationError: COLLATERAL_MISSING, ROOT_UNTRUSTED, CHAIN_INVALID, CERT_EXPIRED or
            CERT_NOT_YET_VALID.
    """
    ders = evidence.endorsements
    if len(ders) < CERTIFICATES_MIN:
        raise AttestationError(
            AttestCode.COLLATERAL_MISSING,
            f"{f'{len(ders)} certificates' if ders else 'no certificate chain'} came with the"
            " device's report: give its whole chain, leaf first, beside it with --endorsement",
        )
    cache, now = at.cache, at.now
    path = cache.derived(
        "nvidia path",
        tail(ders[0]),
        ders,
        lambda: _path(ders, anchors, cache),
        held=(anchors.pin,),
    )
    if not path.not_before <= now <= path.not_after:
        for certificate in path.certificates:
            require_valid_at(certificate, now)
    return TrustedChain(path, anchors.hardware, _MINT)


def require_kind(model: Model, kind: DeviceKind) -> None:
    """The evidence says what it is. Raises AttestationError CHAIN_INVALID.

    Args:
        model: that the verified certificates name.
        kind: of device, as the evidence claims.
    """
    if model.kind is not kind:
        raise chain_invalid(f"a {model.name} is no {kind}")


def read_model(path: Path) -> Model:
    """The model that leaf, device and provisioning authority name.

    Raises:
        AttestationError: DEVICE_MODEL_UNKNOWN or CHAIN_INVALID.
    """
    leaf, device, provisioner = path.certificates[:3]
    name = device.common_name.partition(" ")[0]
    model = MODELS.get(name)
    if model is None:
        raise AttestationError(
            NvidiaCode.DEVICE_MODEL_UNKNOWN,
            f"{device} is of model {name[:32]!r}, known are {', '.join(MODELS)}",
        )
    if leaf.common_name.partition(" ")[0] != name:
        raise chain_invalid(f"{leaf} is not of the model of {device}")
    if name not in provisioner.common_name.split():
        raise chain_invalid(f"{provisioner} does not provision devices of model {name}")
    return model


def _path(ders: tuple[bytes, ...], anchors: NvidiaAnchors, cache: Cache) -> Path:
    root = cache.certificate_of_evidence(ders[-1], what=f"device certificate {len(ders) - 1}")
    if not anchors.pins(root):
        raise AttestationError(
            AttestCode.ROOT_UNTRUSTED, f"{root} has a key that is not the pinned root's"
        )
    certificates = tuple(
        cache.certificate_of_evidence(der, what=f"device certificate {i}")
        for i, der in enumerate(ders)
    )
    issuers = (*certificates[1:], certificates[-1])
    # From the root down, so that the cache remembers nothing that leads nowhere.
    for child, issuer in zip(reversed(certificates), reversed(issuers), strict=True):
        _p384(issuer)
        cache.require_issued_by(child, issuer, SCHEMES)
    for below, authority in enumerate(certificates[1:]):
        length = require_ca(authority).path_length
        if length is not None and length < below:
            raise chain_invalid(f"{authority}: {below} authorities below it, at most {length}")
    serial = certificates[1].serial
    return Path(
        ders=ders,
        certificates=certificates,
        key=_leaf_key(certificates[0]),
        identity=serial.to_bytes((serial.bit_length() + 7) // 8, "big"),
        fingerprints=tuple(hashlib.sha256(each.spki).digest() for each in certificates),
        not_before=max(each.not_before for each in certificates),
        not_after=min(each.not_after for each in certificates),
    )


def _leaf_key(leaf: Certificate) -> ec.EllipticCurvePublicKey:
    """The leaf signs reports and no certificates."""
    require_version_3(leaf)
    require_known_critical(leaf, _CRITICAL_IN_LEAF)
    constraints, usage = leaf.basic_constraints, leaf.key_usage
    if constraints is not None and constraints.ca:
        raise chain_invalid(f"{leaf} is a CA, and a leaf must not be")
    if usage is None or not usage.digital_signature or usage.key_cert_sign:
        raise chain_invalid(f"{leaf}: keyUsage is not that of a key that signs reports")
    return _p384(leaf)


def _p384(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.key
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise chain_invalid(f"{certificate} has no P-384 key")
    return key
