"""Who says that an AK lives in a TPM.

Nobody's word but these counts:

 (a) An enrolment in the verifier's own collateral: credential activation showed once that the
     AK and a certified EK are in one TPM. The EK certificate is checked again at ``now``.
 (b) An AK certificate that leads to one of the operator's AK roots.
 (c) A TEE's report that names the AK. That is the business of the TEE's verifier (Azure).

Otherwise the AK is self-asserted: AK_UNBOUND.
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from regalia.core.errors import AttestationError
from regalia.tees.tpm.claims import AkBinding
from regalia.tees.tpm.evidence import checks
from regalia.tees.tpm.evidence.anchors import KnownChain
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.ek import (
    AK_USAGE,
    EK_USAGE,
    extended_usages,
    hardware_of,
    read_enrolled_ek,
    require_leaf,
    trust_ek,
)
from regalia.tees.tpm.evidence.keys import spki
from regalia.tees.tpm.evidence.path import check_revocation, find_path, require_current
from regalia.tees.tpm.model import UNNAMED, read_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.claims import Hardware, Revocation
    from regalia.appraisal.pki import Certificate
    from regalia.tees.tpm.evidence.anchors import PreparedCollateral
    from regalia.tees.tpm.evidence.enrolment import Enrolment
    from regalia.tees.tpm.evidence.keys import PublicKey
    from regalia.tees.tpm.evidence.path import Authorities
    from regalia.tees.tpm.model import TpmModel

# Keeps keys from being declared bound by hand; no wall against code in the same process.
_MINT = object()


@dataclass(frozen=True, slots=True)
class Ak:
    """An attestation key as the evidence names it, untrusted."""

    name: bytes
    key: PublicKey


@dataclass(frozen=True, slots=True)
class BoundAk:
    """An AK that somebody trusted vouches for. Made by ``bind_ak``.

    Attributes:
        binding: who vouches.
        identity: SHA-256 of the SubjectPublicKeyInfo of the EK, or of the AK where only it is
            certified: what tells this TPM from all others.
        model: from the certificate; empty strings where it does not say.
        enrolled_reset_count: None without an enrolment.
    """

    binding: AkBinding
    identity: bytes
    model: TpmModel
    hardware: Hardware
    revocation: Revocation
    enrolled_reset_count: int | None
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        if mint is not _MINT:
            raise TypeError("a bound AK comes from bind_ak")


def bind_ak(
    ak: Ak,
    endorsements: Sequence[bytes],
    *,
    collateral: PreparedCollateral,
    authorities_for: Callable[[AkBinding], Authorities],
    check_log: CheckLog,
) -> BoundAk:
    """Find who vouches for an AK, and check them.

    Args:
        ak: the key that the quote's signature was checked with, untrusted.
        endorsements: certificates that came along, leaf first, untrusted.
        collateral: with the enrolments.
        authorities_for: roots and collateral for each kind of binding.
        check_log: told of each check.

    Raises:
        ParseError: a certificate is malformed.
        AttestationError: AK_UNBOUND, ENROLMENT_MISMATCH, EK_UNSUITABLE, LEAF_BINDING_MISMATCH,
            ROOT_UNTRUSTED, CHAIN_INVALID, CERT_* or CRL_*.
    """
    check_log.begin(checks.AK_BOUND, ak.name, "enrolled, or certified by an AK root")
    enrolment = collateral.enrolments.get(ak.name)
    if enrolment is not None:
        check_log.begin(checks.EK_CHAIN)
        authorities = authorities_for(AkBinding.ENROLMENT)
        return _by_enrolment(enrolment, endorsements, collateral, authorities)
    authorities = authorities_for(AkBinding.AK_CERTIFICATE)
    if endorsements and authorities.roots:
        cache = authorities.at.cache
        leaf, *came = (cache.certificate_of_evidence(der, what="AK chain") for der in endorsements)
        if leaf.spki == spki(ak.key):
            check_log.begin(checks.AK_CERTIFICATE, str(leaf))
            return _by_certificate(leaf, came, authorities)
    raise AttestationError(
        TpmCode.AK_UNBOUND,
        f"nothing but the evidence itself says that AK {ak.name.hex()} lives in a TPM",
    )


def _by_enrolment(
    enrolment: Enrolment,
    endorsements: Sequence[bytes],
    collateral: PreparedCollateral,
    authorities: Authorities,
) -> BoundAk:
    """(a) The collateral's signer vouches for the document; its EK chain must still hold."""
    if endorsements and tuple(endorsements) != enrolment.ek_certificates:
        raise _mismatch("the EK certificates that came along are not those enrolled")
    memory = collateral.memory
    known = memory.chains.get(enrolment.ak_name)
    if known is None or known.roots != authorities.roots:
        chain = collateral.eks.get(enrolment.ak_name) or read_enrolled_ek(enrolment)
        path = find_path(chain.leaf, chain.came, authorities)
        known = KnownChain(chain, path, authorities.roots)
        memory.keep(memory.chains, enrolment.ak_name, known)
    ek = trust_ek(known.chain, known.path, authorities)
    return BoundAk(
        binding=AkBinding.ENROLMENT,
        identity=hashlib.sha256(ek.certificate.spki).digest(),
        model=ek.model,
        hardware=ek.hardware,
        revocation=ek.revocation,
        enrolled_reset_count=enrolment.reset_count,
        mint=_MINT,
    )


def _by_certificate(
    leaf: Certificate, came: Sequence[Certificate], authorities: Authorities
) -> BoundAk:
    """(b) TCG Credential Profiles section 3.4; clouds put the EK's usage on it, or none."""
    require_leaf(leaf, key_usage="digital_signature")
    usages = extended_usages(leaf)
    if usages and not {AK_USAGE, EK_USAGE} & set(usages):
        raise AttestationError(TpmCode.EK_UNSUITABLE, f"{leaf}: extended key usage {list(usages)}")
    path = find_path(leaf, came, authorities)
    require_current(leaf, path, authorities.at.now)
    model = read_model(leaf.extensions) or UNNAMED
    return BoundAk(
        binding=AkBinding.AK_CERTIFICATE,
        identity=hashlib.sha256(leaf.spki).digest(),
        model=model,
        hardware=hardware_of(model),
        revocation=check_revocation(leaf, path, authorities),
        enrolled_reset_count=None,
        mint=_MINT,
    )


def _mismatch(what: str) -> AttestationError:
    return AttestationError(TpmCode.ENROLMENT_MISMATCH, what)
