"""From a pinned AMD root to the key that must have signed the report."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.pki import (
    Scheme,
    chain_invalid,
    require_authority,
    require_known_critical,
    require_valid_at,
    require_version_3,
    tail,
)
from regalia.appraisal.pki.crl import lists_of, revocation_status
from regalia.core.errors import AttestationError, CoreCode, ParseError, RegaliaError
from regalia.tees.snp.evidence import checks
from regalia.tees.snp.evidence.leaf import read_leaf
from regalia.tees.snp.evidence.products import (
    intermediate_name,
    leaf_name,
    product_of_name,
    root_name,
)
from regalia.tees.snp.evidence.wire import EndorsementKeyKind, Product

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Hardware, Revocation
    from regalia.appraisal.pki import Cache, Certificate
    from regalia.tees.snp.evidence.anchors import SnpAnchors, SnpCollateral
    from regalia.tees.snp.evidence.leaf import LeafFacts
    from regalia.tees.snp.evidence.wire import SnpReport
    from regalia.wire.evidence import Evidence

CERTIFICATES_MAX = 256  # different ones, in evidence and collateral together
RSA_BITS = 4096  # of the ARK, ASK and ASVK
SCHEMES = frozenset({Scheme.RSA_PSS_SHA384})

_ISSUERS = MappingProxyType(
    {
        (key, intermediate_name(product, key)): product
        for key in (EndorsementKeyKind.VCEK, EndorsementKeyKind.VLEK)
        for product in Product
    }
)


class TrustedLeaf(NamedTuple):
    """A VCEK or VLEK that a pinned root vouches for at one moment. Made by ``verify_chain``."""

    key: ec.EllipticCurvePublicKey  # P-384
    signing_key: EndorsementKeyKind
    product: Product
    hardware: Hardware
    revocation: Revocation
    facts: LeafFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """Certificates that lead from a pinned root to a leaf, dates and revocation aside."""

    root: Certificate
    intermediate: Certificate
    leaf: Certificate
    key: ec.EllipticCurvePublicKey  # of the leaf, P-384
    signing_key: EndorsementKeyKind
    product: Product
    not_before: datetime  # the latest of all
    not_after: datetime  # the earliest of all


@dataclass(frozen=True, slots=True)
class _Pool:
    """All certificates at hand, the operator's first. Untrusted."""

    certificates: tuple[Certificate, ...]

    def named(self, common_name: str) -> list[Certificate]:
        return [c for c in self.certificates if c.common_name == common_name]


def verify_chain(
    evidence: Evidence,
    report: SnpReport,
    *,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    at: AppraisalContext,
) -> TrustedLeaf:
    """Checks 2 to 4: pinned ARK -> ASK or ASVK -> VCEK or VLEK, valid and not revoked.

    The report names the kind of leaf, and helps to choose among several; whether it belongs to
    the leaf is check 5.

    Args:
        evidence: raw, untrusted.
        report: parsed from it, untrusted.
        anchors: the vendor's pinned roots.
        collateral: what the verifier's operator provides.
        at: the context of the appraisal.

    Raises:
        ParseError: a certificate or CRL is malformed.
        AttestationError: COLLATERAL_MISSING, ROOT_UNTRUSTED, CHAIN_INVALID, CERT_EXPIRED,
            CERT_NOT_YET_VALID, CERT_REVOKED, CRL_MISSING, CRL_STALE or CRL_SIG_INVALID.
    """
    now, check_log = at.now, at.check_log
    path = _known_path(evidence, report, anchors, collateral, at)
    check_log.begin(checks.VALIDITY, now)
    if not path.not_before <= now <= path.not_after:
        for certificate in (path.root, path.intermediate, path.leaf):
            require_valid_at(certificate, now)
    check_log.begin(checks.REVOCATION, "", at.rule.revocation.value)
    revocation = check_revocation(collateral, path.root, path.intermediate, at)
    check_log.note(revocation.value, at.rule.revocation.value)
    check_log.begin(checks.LEAF)
    proof = (path.signing_key.to_bytes(), path.product.encode(), path.leaf.der)
    facts = at.cache.derived("snp leaf", path.leaf.der, proof, lambda: _facts(path, check_log))
    check_log.note(facts.product_name, path.product)
    return TrustedLeaf(
        path.key, path.signing_key, path.product, anchors.hardware, revocation, facts
    )


def _known_path(
    evidence: Evidence,
    report: SnpReport,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    at: AppraisalContext,
) -> _Path:
    """``_path``, once for a machine and its certificates: neither time nor revocation is in it."""

    def find() -> _Path:
        return _path(evidence, report, anchors, collateral, at)

    if at.check_log is not NO_LOG:  # every step is to be recorded
        return find()
    # The first three choose among several leaves.
    proof = (bytes((report.signing_key,)), report.chip_id, report.reported_tcb)
    held = (anchors.identity, *collateral.intermediates)
    key = (report.chip_id, *map(tail, evidence.endorsements[:1]))
    return at.cache.derived("snp path", key, proof + evidence.endorsements, find, held=held)


def _path(
    evidence: Evidence,
    report: SnpReport,
    anchors: SnpAnchors,
    collateral: SnpCollateral,
    at: AppraisalContext,
) -> _Path:
    """Checks 2 to 4 without dates."""
    cache, check_log = at.cache, at.check_log
    check_log.begin(checks.SIGNING_KEY, str(report.signing_key), "0 (VCEK) or 1 (VLEK)")
    signing_key = _signing_key(report)
    pool = _collect(evidence, collateral, cache)
    leaf = _choose_leaf(pool, report, signing_key)
    check_log.begin(checks.ROOT, leaf.issuer_common_name)
    product = _product_of_issuer(leaf, signing_key)
    root = _pinned_root(pool, product, anchors, cache)
    check_log.note(root.common_name, f"the {anchors.hardware} root of {product}")
    check_log.begin(checks.CHAIN, leaf.common_name)
    intermediate = _intermediate(pool, root, product, signing_key, cache)
    key = _leaf_key(leaf, intermediate, cache)
    check_log.note(f"{root.common_name} > {intermediate.common_name} > {leaf.common_name}")
    chain = (root, intermediate, leaf)
    return _Path(
        root=root,
        intermediate=intermediate,
        leaf=leaf,
        key=key,
        signing_key=signing_key,
        product=product,
        not_before=max(each.not_before for each in chain),
        not_after=min(each.not_after for each in chain),
    )


def _facts(path: _Path, check_log: CheckLog) -> LeafFacts:
    """What the leaf says, which is for the product of its issuer."""
    facts = read_leaf(path.leaf, path.product, path.signing_key)
    check_log.note(facts.product_name, path.product)
    if product_of_name(facts.product_name) is not path.product:
        raise chain_invalid(
            f"{path.leaf} is for {facts.product_name}, its issuer is for {path.product}"
        )
    return facts


def _signing_key(report: SnpReport) -> EndorsementKeyKind:
    """VCEK or VLEK. NONE and the reserved values name no key that a root vouches for."""
    if report.signing_key == EndorsementKeyKind.VCEK:
        return EndorsementKeyKind.VCEK
    if report.signing_key == EndorsementKeyKind.VLEK:
        return EndorsementKeyKind.VLEK
    raise AttestationError(
        AttestCode.ROOT_UNTRUSTED,
        f"SIGNING_KEY is {report.signing_key}: want 0 (VCEK) or 1 (VLEK)",
    )


def _collect(evidence: Evidence, collateral: SnpCollateral, cache: Cache) -> _Pool:
    sent = dict.fromkeys(evidence.endorsements)
    held = dict.fromkeys(collateral.intermediates)
    if len(sent | held) > CERTIFICATES_MAX:
        raise ParseError(
            CoreCode.TOO_LARGE, f"{len(sent | held)} certificates, at most {CERTIFICATES_MAX}"
        )
    return _Pool(
        (
            *(cache.certificate(der, what=f"collateral {i}") for i, der in enumerate(held)),
            *(
                cache.certificate_of_evidence(der, what=f"endorsement {i}")
                for i, der in enumerate(sent)
                if der not in held
            ),
        )
    )


def _choose_leaf(pool: _Pool, report: SnpReport, signing_key: EndorsementKeyKind) -> Certificate:
    """The leaf of the kind that SIGNING_KEY names; of several, the one for this chip and TCB."""
    wanted = leaf_name(signing_key)
    leaves = pool.named(wanted)
    other = (
        EndorsementKeyKind.VCEK
        if signing_key is EndorsementKeyKind.VLEK
        else EndorsementKeyKind.VLEK
    )
    if not leaves and pool.named(leaf_name(other)):
        raise chain_invalid(f"the report names a {wanted}, the chain is that of a {other.name}")
    if not leaves:
        raise AttestationError(
            AttestCode.COLLATERAL_MISSING, f"the report was signed by a {wanted}; none was given"
        )
    if len(leaves) == 1:
        return leaves[0]
    fitting = [leaf for leaf in leaves if _fits(leaf, report, signing_key)]
    return (fitting or leaves)[0]


def _fits(leaf: Certificate, report: SnpReport, signing_key: EndorsementKeyKind) -> bool:
    """A hint for choosing, never a check: nothing is trusted yet."""
    try:
        facts = read_leaf(leaf, _product_of_issuer(leaf, signing_key), signing_key)
    except RegaliaError:
        return False
    return facts.tcb == report.reported_tcb and report.chip_id.startswith(facts.hwid or b"")


def _product_of_issuer(leaf: Certificate, signing_key: EndorsementKeyKind) -> Product:
    """The product line whose ASK (for a VCEK) or ASVK (for a VLEK) the leaf names as issuer."""
    product = _ISSUERS.get((signing_key, leaf.issuer_common_name))
    if product is None:
        raise chain_invalid(
            f"{leaf} names {leaf.issuer_common_name[:80]!r} as its issuer, which issues no "
            f"{signing_key.name}"
        )
    return product


def _pinned_root(pool: _Pool, product: Product, anchors: SnpAnchors, cache: Cache) -> Certificate:
    """The ARK: its key is pinned for this product, and it signed itself as a CA."""
    pins = anchors.pins_for(product)
    name = root_name(product)
    if not pins:
        raise AttestationError(AttestCode.ROOT_UNTRUSTED, f"no root is pinned for {product}")
    named = pool.named(name)
    if not named:
        raise AttestationError(AttestCode.COLLATERAL_MISSING, f"the root {name} was not given")
    for root in named:
        digest = hashlib.sha256(root.spki).digest()
        if any(hmac.compare_digest(digest, pin) for pin in pins):
            _require_rsa_4096(root)
            cache.require_issued_by(root, root, SCHEMES)
            require_authority(root, path_length=None)
            return root
    raise AttestationError(
        AttestCode.ROOT_UNTRUSTED, f"{named[0]} has a key that is not the pinned root of {product}"
    )


def _intermediate(
    pool: _Pool, root: Certificate, product: Product, signing_key: EndorsementKeyKind, cache: Cache
) -> Certificate:
    """The ASK or ASVK: issued by the root, a CA for leaves only."""
    name = intermediate_name(product, signing_key)
    named = pool.named(name)
    if not named:
        raise AttestationError(
            AttestCode.COLLATERAL_MISSING, f"the intermediate {name} was not given"
        )
    refusal: AttestationError | None = None
    for candidate in named:
        try:
            cache.require_issued_by(candidate, root, SCHEMES)
            require_authority(candidate, path_length=0)
            _require_rsa_4096(candidate)
        except AttestationError as exc:
            refusal = refusal or exc
            continue
        return candidate
    raise refusal or chain_invalid(f"{name} is not issued by {root}")


def _require_rsa_4096(issuer: Certificate) -> None:
    """What AMD signs certificates with."""
    if not isinstance(issuer.key, rsa.RSAPublicKey) or issuer.key.key_size != RSA_BITS:
        raise chain_invalid(f"{issuer} has no RSA-{RSA_BITS} key")


def _leaf_key(
    leaf: Certificate, intermediate: Certificate, cache: Cache
) -> ec.EllipticCurvePublicKey:
    """The leaf is issued by the intermediate, is no CA, and holds a P-384 key."""
    cache.require_issued_by(leaf, intermediate, SCHEMES)
    require_version_3(leaf)
    require_known_critical(leaf, (x509.BasicConstraints.oid,))
    if leaf.basic_constraints is not None and leaf.basic_constraints.ca:
        raise chain_invalid(f"{leaf} is a CA, and a leaf must not be")
    if not isinstance(leaf.key, ec.EllipticCurvePublicKey) or not isinstance(
        leaf.key.curve, ec.SECP384R1
    ):
        raise chain_invalid(f"{leaf} has no P-384 key")
    return leaf.key


def check_revocation(
    collateral: SnpCollateral, root: Certificate, intermediate: Certificate, at: AppraisalContext
) -> Revocation:
    """The root's list is there, signed by it, in date, and lists neither certificate.

    A list that is late by no more than the policy's grace counts, and the claims say so.
    ``RevocationRule.ANY`` tolerates a CRL that is absent or out of date, and nothing else: a
    certificate that a list names is refused, and so is a list with a bad signature.

    Args:
        collateral: what the verifier's operator provides.
        root: a pinned ARK.
        intermediate: the ASK or ASVK that it issued, as the caller has verified.
        at: the context of the appraisal.

    Raises:
        ParseError: a CRL is not one.
        AttestationError: CRL_MISSING, CRL_STALE, CRL_SIG_INVALID or CERT_REVOKED.
    """
    crls = at.cache.derived(
        "snp lists",
        intermediate.der,
        (root.der, intermediate.der),
        lambda: lists_of(
            root, (root, intermediate), collateral.crls, schemes=SCHEMES, cache=at.cache
        ),
        held=collateral.crls,
    )
    return revocation_status(crls, root, at)
