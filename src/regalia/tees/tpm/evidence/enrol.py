"""Enrolment: show once that an AK and a certified EK live in one TPM.

TPM Library Part 1, section 24: a TPM opens a credential only if it holds the private EK and a
loaded key of exactly the name that the credential is for. A name commits to a key's attributes,
so a restricted AK is known to be one. Spec: docs/spec/tpm-appraisal.md, section "Enrolment".

 verifier: ``begin_enrolment`` (1) the EK certificate leads to a trusted root, and is for the EK;
                               (2) the AK is a restricted signing key of its TPM;
                               (3) a secret is wrapped for that EK and that AK.
 verifier: ``finish_enrolment`` (4) the AK quotes over the secret, so its TPM opened it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regalia.core.codec import exact
from regalia.core.errors import AttestationError
from regalia.tees.tpm.evidence.codes import TpmCode
from regalia.tees.tpm.evidence.credential import make_credential, require_endorsement_key
from regalia.tees.tpm.evidence.ek import require_key_of, verify_ek
from regalia.tees.tpm.evidence.enrol_steps import SECRET_SIZE, answer_data
from regalia.tees.tpm.evidence.enrolment import Enrolment
from regalia.tees.tpm.evidence.keys import require_attestation_key
from regalia.tees.tpm.evidence.public import parse_public
from regalia.tees.tpm.evidence.quote import verify_quote
from regalia.tees.tpm.evidence.wire import ALL_PCRS, parse_quote

if TYPE_CHECKING:
    from regalia.tees.tpm.evidence.document import TpmQuote
    from regalia.tees.tpm.evidence.ek import TrustedEk
    from regalia.tees.tpm.evidence.enrol_steps import Credential, EnrolmentRequest
    from regalia.tees.tpm.evidence.path import Authorities


def begin_enrolment(
    request: EnrolmentRequest, *, authorities: Authorities, secret: bytes
) -> Credential:
    """Check what an attester says of its EK, and make the challenge that shows the rest.

    Args:
        request: raw, untrusted.
        authorities: with the operator's roots for EKs.
        secret: 32 random bytes, used once; keep it until ``finish_enrolment``.

    Raises:
        ParseError: a key or certificate is malformed.
        AttestationError: whatever ``verify_ek`` refuses; LEAF_BINDING_MISMATCH, EK_UNSUITABLE,
            AK_NOT_RESTRICTED or TPM_WEAK_HASH.
    """
    exact(secret, SECRET_SIZE, what="enrolment secret")
    _check(request, authorities)
    ak = parse_public(request.ak_public)
    return make_credential(parse_public(request.ek_public), ak.name, secret)


def finish_enrolment(
    request: EnrolmentRequest, answer: TpmQuote, *, authorities: Authorities, secret: bytes
) -> Enrolment:
    """Check that the AK's TPM opened the challenge, and write that down.

    Args:
        request: the one that ``begin_enrolment`` was given.
        answer: a quote over ``answer_data(secret)``, raw, untrusted.
        authorities: as before, at the moment of the answer.
        secret: as before.

    Raises:
        ParseError, AttestationError: as ``begin_enrolment`` and ``verify_quote``;
            CREDENTIAL_REJECTED if the quote is over anything else.
    """
    ek = _check(request, authorities)
    ak = parse_public(request.ak_public)
    if answer.ak_public != request.ak_public:
        raise AttestationError(TpmCode.CREDENTIAL_REJECTED, "the answer is by another AK")
    expected = answer_data(exact(secret, SECRET_SIZE, what="enrolment secret"))
    if parse_quote(answer.quoted).extra_data != expected:
        raise AttestationError(
            TpmCode.CREDENTIAL_REJECTED, "the answer does not show that the challenge was opened"
        )
    verified = verify_quote(
        answer.quoted,
        answer.signature,
        answer.pcrs,
        key=require_attestation_key(ak),
        selection=dict.fromkeys(answer.pcrs, ALL_PCRS),
    )
    return Enrolment(
        ak_name=ak.name,
        ek_certificates=request.ek_certificates,
        ek_public=request.ek_public,
        model=ek.model,
        reset_count=verified.quote.reset_count,
        enrolled_at=authorities.at.now,
        hardware=ek.hardware,
    )


def _check(request: EnrolmentRequest, authorities: Authorities) -> TrustedEk:
    """(1) (2) Both times: the roots may have changed between challenge and answer."""
    ek = verify_ek(request.ek_certificates, authorities)
    public = parse_public(request.ek_public)
    require_endorsement_key(public)
    require_key_of(public, ek.certificate, what="EK")
    require_attestation_key(parse_public(request.ak_public))
    return ek
