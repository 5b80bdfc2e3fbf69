"""Appraisal of the example accelerator, *is it genuine?* Spec: docs/spec/accelerator-appraisal.md.

 (1) The message is untagged COSE_Sign1 in strict CBOR, and its payload a document with exactly
     its fields in their types and sizes. Nothing comes beside it.
 (2) The algorithm is ES384, and nothing else.
 (3) The chain leads from the pinned root to the chip's certificate.
 (4) Revocation lists name none of them; the relying party may demand lists.
 (5) The chip's certificate is for the chip that the document names.
 (6) The chip's key signed the document.
 (7) The nonce is what the caller expects: ``Unbound.fresh``.

Left to ``regalia.policy``, which gets the claims: debug mode, firmware, program, configuration and
the chip itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from regalia.appraisal.check_log import NO_LOG
from regalia.appraisal.claims import MINT
from regalia.appraisal.codes import AttestCode
from regalia.appraisal.evidence_plugin import Parsed
from regalia.core.errors import AttestationError, CoreCode, ParseError
from regalia.crypto.sign import SignCode
from regalia.tees.accelerator.claims import AcceleratorClaims
from regalia.tees.accelerator.evidence import checks
from regalia.tees.accelerator.evidence.chain import check_revocation, chip_key, verify_chain
from regalia.tees.accelerator.evidence.wire import SIGNATURE_SIZE, parse_accelerator
from regalia.wire.cose import ES384
from regalia.wire.evidence import Tee

if TYPE_CHECKING:
    from regalia.appraisal.appraisal_context import AppraisalContext
    from regalia.appraisal.check_log import CheckLog
    from regalia.appraisal.pki import Certificate
    from regalia.tees.accelerator.evidence.anchors import AcceleratorAnchors, AcceleratorCollateral
    from regalia.tees.accelerator.evidence.wire import AcceleratorEvidence
    from regalia.wire.cose import Sign1
    from regalia.wire.evidence import Evidence

_SCALAR_SIZE = SIGNATURE_SIZE // 2


def parse(
    evidence: Evidence, check_log: CheckLog = NO_LOG
) -> Parsed[Evidence, AcceleratorEvidence]:
    """Check 1.

    Args:
        evidence: raw, untrusted.
        check_log: records the check.

    Raises:
        ParseError: the document is malformed, or something comes beside it.
    """
    check_log.begin(checks.PARSE, f"{len(evidence.report)} bytes")
    if evidence.tee is not Tee.EXAMPLE_ACCELERATOR:
        raise ParseError(CoreCode.MALFORMED, f"evidence of {evidence.tee}, want an accelerator's")
    if evidence.endorsements or evidence.event_log:
        raise ParseError(CoreCode.MALFORMED, "endorsements or an event log beside a document")
    return Parsed(evidence, parse_accelerator(evidence.report))


def verify_genuine(
    parsed: Parsed[Evidence, AcceleratorEvidence],
    *,
    anchors: AcceleratorAnchors,
    collateral: AcceleratorCollateral,
    at: AppraisalContext,
) -> AcceleratorClaims:
    """Checks 2 to 6. The claims are bound to nothing yet: a replay passes.

    Args:
        parsed: untrusted.
        anchors: the pinned root.
        collateral: revocation lists of the verifier's operator.
        at: the context of the appraisal.

    Raises:
        ParseError: a certificate or list is malformed.
        AttestationError: the evidence is not genuine.
    """
    message, document = parsed.report.message, parsed.report.document
    at.check_log.begin(checks.ALGORITHM, str(message.algorithm), str(ES384))
    if message.algorithm != ES384:  # (2)
        raise AttestationError(
            SignCode.SIGNATURE_INVALID, f"algorithm {message.algorithm}, want ES384 ({ES384})"
        )
    at.check_log.begin(checks.CHAIN, f"{len(document.chain)} certificates")
    chain = verify_chain(document.chain, anchors=anchors, at=at)  # (3)
    wanted = at.rule.revocation.value
    at.check_log.begin(checks.REVOCATION, f"{len(collateral.crls)} lists", wanted)
    revocation = check_revocation(chain, collateral=collateral, at=at)  # (4)
    at.check_log.note(revocation.value, wanted)
    chip = chain[-1]
    at.check_log.begin(checks.CHIP, document.chip_id.hex(), chip.common_name)
    if chip.common_name != document.chip_id.hex():  # (5)
        raise AttestationError(
            AttestCode.LEAF_BINDING_MISMATCH,
            f"{chip} is not for chip {document.chip_id.hex()}",
        )
    at.check_log.begin(checks.SIGNATURE, str(chip))
    _require_signature(message, chip)  # (6)
    return AcceleratorClaims(
        hardware=anchors.hardware,
        revocation=revocation,
        evidence_digest=parsed.raw.digest(),
        chip_id=document.chip_id,
        firmware=document.firmware,
        debug=document.debug,
        measurement=document.measurement,
        config=document.config,
        report_data=document.nonce,
        mint=MINT,
    )


def _require_signature(message: Sign1, chip: Certificate) -> None:
    """(6) ECDSA P-384 with SHA-384 over the Sig_structure of the bytes as received."""
    r, s = message.signature[:_SCALAR_SIZE], message.signature[_SCALAR_SIZE:]
    signature = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        chip_key(chip).verify(signature, message.signed_bytes(), ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as exc:
        raise AttestationError(
            SignCode.SIGNATURE_INVALID, f"the key of {chip} did not sign the document"
        ) from exc
