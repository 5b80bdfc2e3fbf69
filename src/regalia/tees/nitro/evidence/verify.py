"""AWS Nitro appraisal, *is it genuine?* Spec: docs/spec/nitro-appraisal.md.

Sections are those of AWS's "Nitro Enclaves Attestation Process".

 (1) The message is COSE_Sign1 in strict CBOR, and its payload an attestation document
     with all fields in their types and limits [3.1, 3.2.2]. Nothing comes beside it.
 (2) The algorithm is ES384, and nothing else [3.1].
 (3) cabundle leads from the pinned root to the signer: order, signatures, CA flags, path
     lengths, key usage, and validity at ``now``, not at the document's time [3.2.3].
 (4) Revocation lists at hand name none of them; the relying party may demand lists [3.2.4 uses
     none].
 (5) The signer's key signed the document [3.2.1].
 (6) The document is not from the future, nor older than its signer's certificate.
 (7) The nonce is what the caller expects, all 64 bytes: ``Unbound.fresh``.

Left to ``regalia.policy``, which gets the claims: debug mode (PCR0 to PCR2 of zeros), PCR values,
the runtime configuration in PCR16, the instance, and the document's age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT, NonceField, Unbound
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.evidence_plugin import Parsed
from regalia.core.clock import rfc3339
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.crypto.sign import SignCode
from regalia.tees.nitro.claims import NitroClaims
from regalia.tees.nitro.evidence import checks
from regalia.tees.nitro.evidence.chain import verify_chain
from regalia.tees.nitro.evidence.codes import NitroCode
from regalia.tees.nitro.evidence.revocation import check_revocation
from regalia.tees.nitro.evidence.wire import NONCE_MAX, SIGNATURE_SIZE, parse_nitro
from regalia.wire.cose import ES384
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from datetime import datetime

    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.tees.nitro.evidence.anchors import NitroAnchors, NitroCollateral
    from regalia.tees.nitro.evidence.chain import TrustedSigner
    from regalia.tees.nitro.evidence.wire import NitroDocument, NitroEvidence
    from regalia.wire.cose import Sign1
    from regalia.wire.evidence import Evidence

_SCALAR_SIZE = SIGNATURE_SIZE // 2
_ECDSA_SHA384 = ec.ECDSA(hashes.SHA384())

# A document may also have no nonce at all, and is then fresh for nobody.
NONCE = NonceField(checks.NONCE, range(NONCE_MAX + 1))


def parse(evidence: Evidence, check_log: CheckLog = NO_LOG) -> Parsed[Evidence, NitroEvidence]:
    """Check 1. Raises ParseError, also for certificates or a log beside the document.

    Args:
        evidence: raw, untrusted.
        check_log: records the checks.
    """
    check_log.begin(checks.PARSE, f"{len(evidence.report)} bytes")
    if evidence.tee is not Tee.NITRO:
        raise ParseError(CoreCode.MALFORMED, f"evidence of {evidence.tee}, want {Tee.NITRO}")
    if evidence.endorsements or evidence.event_log:
        raise ParseError(CoreCode.MALFORMED, "endorsements or an event log beside a Nitro document")
    return Parsed(evidence, parse_nitro(evidence.report))


def verify_genuine(
    parsed: Parsed[Evidence, NitroEvidence],
    *,
    anchors: NitroAnchors,
    collateral: NitroCollateral,
    at: AppraisalContext,
) -> Unbound[NitroClaims]:
    """Checks 2 to 6: claims of unknown age.

    Args:
        parsed: untrusted.
        anchors: the pinned root.
        collateral: revocation lists of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        ParseError: a certificate or list is malformed.
        AttestationError: the evidence is not genuine.
    """
    rule, check_log = at.rule, at.check_log
    message, document = parsed.report.message, parsed.report.document
    check_log.begin(checks.ALGORITHM, str(message.algorithm), str(ES384))
    if message.algorithm != ES384:  # (2)
        raise AttestationError(
            SignCode.SIGNATURE_INVALID, f"algorithm {message.algorithm}, want ES384 ({ES384})"
        )
    check_log.begin(checks.CHAIN, f"{len(document.cabundle)} authorities")
    signer = verify_chain(document, anchors=anchors, at=at)  # (3)
    check_log.begin(checks.REVOCATION, f"{len(collateral.crls)} lists", rule.revocation.value)
    revocation = check_revocation(signer, collateral=collateral, at=at)  # (4)
    check_log.note(revocation.value, rule.revocation.value)
    check_log.begin(checks.SIGNATURE, str(signer.certificate))
    _require_signature(message, signer)  # (5)
    check_log.begin(checks.TIMESTAMP, f"{document.timestamp} ms")
    age_ms = _require_past(document, signer, at.now)  # (6)
    claims = NitroClaims(
        hardware=signer.hardware,
        revocation=revocation,
        evidence_digest=parsed.raw.digest(),
        module_id=document.module_id,
        timestamp=document.timestamp,
        age_ms=age_ms,
        pcrs=document.pcrs,
        public_key=document.public_key,
        user_data=document.user_data,
        report_data=document.nonce or b"",
        mint=MINT,
    )
    return Unbound(claims, claims.report_data, NONCE, MINT)


def _require_signature(message: Sign1, signer: TrustedSigner) -> None:
    """(5) ECDSA P-384 with SHA-384 over the Sig_structure of the bytes as received."""
    r, s = message.signature[:_SCALAR_SIZE], message.signature[_SCALAR_SIZE:]
    signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        signer.key.verify(signature, message.signed_bytes(), _ECDSA_SHA384)
    except InvalidSignature as exc:
        raise AttestationError(
            SignCode.SIGNATURE_INVALID, f"the key of {signer.certificate} did not sign the document"
        ) from exc


def _require_past(document: NitroDocument, signer: TrustedSigner, now: datetime) -> int:
    """(6) In whole seconds, as validity is: a clock that gives seconds is not behind."""
    made, moment = document.timestamp // 1000, int(now.timestamp())
    if made > moment:
        raise AttestationError(
            NitroCode.DOCUMENT_FROM_FUTURE,
            f"the document is dated {document.timestamp} ms, and now is {rfc3339(now)}",
        )
    if made < int(signer.certificate.not_before.timestamp()):
        raise AttestationError(
            AttestCode.CERT_NOT_YET_VALID,
            f"{signer.certificate} is valid from {rfc3339(signer.certificate.not_before)}, and the "
            f"document is dated {document.timestamp} ms",
        )
    return max(0, int(now.timestamp() * 1000) - document.timestamp)
