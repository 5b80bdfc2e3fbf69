"""Collateral whose signatures were verified: once for its content, not once for each quote.

What depends on time (dates, revocation) is checked in each appraisal.
"""

from __future__ import annotations

import threading
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import Certificate, parse_crl
from regalia.appraisal.pki.crl import require_complete, require_signed_by
from regalia.core.errors import AttestationError
from regalia.tees.intel.evidence.anchors import ROOT_NAME
from regalia.tees.intel.evidence.chain import (
    PCK_CA_NAMES,
    SCHEMES,
    TCB_SIGNING_NAME,
    require_pck_ca,
    require_root,
    require_tcb_signing,
)
from regalia.tees.intel.evidence.documents import (
    EnclaveIdentity,
    TcbInfo,
    parse_identity,
    parse_tcb_info,
)
from regalia.tees.intel.evidence.signatures import require_raw_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from regalia.appraisal.pki import Cache, Crl
    from regalia.tees.intel.evidence.anchors import IntelAnchors
    from regalia.tees.intel.evidence.collateral import IntelCollateral, SignedDocument

Signer = tuple[Certificate, ec.EllipticCurvePublicKey]
T = TypeVar("T", TcbInfo, EnclaveIdentity)

# Keeps collateral from being declared verified by hand; no wall against code in this process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class Verified(Generic[T]):
    """A document that Intel signed, its exact bytes, and who signed it."""

    document: T
    body: bytes
    signer: Certificate


@dataclass(frozen=True, slots=True)
class PreparedCollateral:
    """Verified but for dates and revocation. Made by ``prepare``.

    Attributes:
        anchors: under which it was verified.
        crls: lists, with the key (SPKI) that was found to have signed them; None for lists of a
            CA whose certificate is not part of the collateral.
    """

    anchors: IntelAnchors
    tcb_infos: tuple[Verified[TcbInfo], ...]
    identities: tuple[Verified[EnclaveIdentity], ...]
    crls: tuple[tuple[Crl, bytes | None], ...]
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("prepared collateral comes from prepare")


def prepare(
    collateral: IntelCollateral, *, anchors: IntelAnchors, cache: Cache
) -> PreparedCollateral:
    """Verify chains and signatures of everything.

    Args:
        collateral: what the verifier's operator provides.
        anchors: the vendor's pinned roots.
        cache: remembers what bytes proved.

    Raises:
        ParseError: something does not parse.
        AttestationError: ROOT_UNTRUSTED, CHAIN_INVALID, COLLATERAL_MISSING,
            COLLATERAL_SIG_INVALID, CRL_SIG_INVALID or CRL_MISSING.
    """
    certificates = [cache.certificate(der, what="collateral") for der in collateral.certificates]
    root = _root(certificates, anchors, cache)
    signers, authorities = ([], []) if root is None else _issued(certificates, root, cache)
    return PreparedCollateral(
        anchors,
        tuple(
            Verified(parse_tcb_info(each.body), each.body, _signer(each, signers, "TCB info"))
            for each in collateral.tcb_infos
        ),
        tuple(
            Verified(parse_identity(each.body), each.body, _signer(each, signers, "QE identity"))
            for each in collateral.identities
        ),
        tuple(_crl(parse_crl(der), authorities) for der in collateral.crls),
        _MINT,
    )


class Preparer:
    """Prepares one operator's collateral when the first quote comes, and then no more.

    A place where collateral is of no use to most evidence need not refuse to start for it.
    """

    __slots__ = ("_lock", "_made", "_read")

    def __init__(self, read: Callable[[], IntelCollateral]) -> None:
        self._lock = threading.Lock()
        self._made: PreparedCollateral | None = None
        self._read = read

    def __call__(self, anchors: IntelAnchors, cache: Cache) -> PreparedCollateral:
        """``prepare``, again only for other anchors. Raises as ``prepare``."""
        made = self._made
        if made is None or made.anchors != anchors:
            made = prepare(self._read(), anchors=anchors, cache=cache)
            with self._lock:
                self._made = made
        return made


def _root(
    certificates: Iterable[Certificate], anchors: IntelAnchors, cache: Cache
) -> Certificate | None:
    """The pinned root; None if it was not given, and then no document can be verified."""
    roots = [each for each in certificates if each.common_name == ROOT_NAME]
    for root in roots:
        require_root(root, anchors=anchors, cache=cache)
    return roots[0] if roots else None


def _issued(
    certificates: Iterable[Certificate], root: Certificate, cache: Cache
) -> tuple[list[Signer], list[Certificate]]:
    """Signers of documents, and issuers of CRLs. Certificates with other names are others'."""
    signers: list[Signer] = []
    authorities = [root]
    for certificate in certificates:
        if certificate.common_name == TCB_SIGNING_NAME:
            signers.append((certificate, require_tcb_signing(certificate, root, cache=cache)))
        elif certificate.common_name in PCK_CA_NAMES:
            require_pck_ca(certificate, root, cache=cache)
            authorities.append(certificate)
    return signers, authorities


def _signer(
    document: SignedDocument,
    signers: list[Signer],
    what: str,
) -> Certificate:
    """The TCB signing certificate whose key signed the exact bytes."""
    refusal: AttestationError | None = None
    for certificate, key in signers:
        try:
            require_raw_signature(
                key,
                document.signature,
                document.body,
                code=AttestCode.COLLATERAL_SIG_INVALID,
                what=f"{what}, signed by {certificate}",
            )
        except AttestationError as exc:
            refusal = exc
            continue
        return certificate
    raise refusal or AttestationError(
        AttestCode.COLLATERAL_MISSING,
        f"{what}: its issuer chain ({TCB_SIGNING_NAME}, {ROOT_NAME}) was not given",
    )


def _crl(crl: Crl, authorities: list[Certificate]) -> tuple[Crl, bytes | None]:
    for authority in authorities:
        if authority.subject == crl.issuer:
            require_complete(crl)
            require_signed_by(crl, authority, SCHEMES)
            return crl, authority.spki
    return crl, None
